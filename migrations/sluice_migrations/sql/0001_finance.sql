-- What finance reads. Append-only in the database, not by convention.

create table finance.usage (
  usage_id            uuid not null,
  job_id              uuid not null,
  attempt             int not null,
  run_id              text,
  recorded_at         timestamptz not null,
  started_at          timestamptz not null,
  ended_at            timestamptz not null,
  tenant              text not null,
  team                text,
  project             text not null,
  app                 text,
  user_id             text,
  tags                jsonb not null,
  key_id              text,
  provider            text not null,
  account             text not null,
  region              text,
  model_requested     text not null,
  provider_model      text not null,
  provider_request_id text,
  operation           text not null,
  class               text not null,
  service_tier        text,
  arm                 text,
  prompt_version      text,
  input_tokens        bigint not null,
  cache_read_tokens   bigint not null,
  cache_write_tokens  bigint not null,
  output_tokens       bigint not null,
  reasoning_tokens    bigint not null,
  usage_source        text not null check (usage_source in ('reported', 'estimated')),
  meters              jsonb not null,
  cost_usd            numeric(24, 9) not null,
  list_cost_usd       numeric(24, 9) not null,
  price_version       text not null,
  outcome             text not null check (outcome in ('succeeded', 'failed', 'cancelled', 'expired', 'cached', 'unknown')),
  charge_class        text check (charge_class = 'Correction'),
  corrects_usage_id   uuid,
  correction_reason   text,
  cache               text not null default 'miss',
  provider_ms         bigint not null,
  primary key (usage_id, recorded_at),
  check ((charge_class is null) = (corrects_usage_id is null))
) partition by range (recorded_at);
create index usage_recorded on finance.usage using brin (recorded_at) with (pages_per_range = 32);
create index usage_started on finance.usage using brin (started_at) with (pages_per_range = 32);
create index usage_run on finance.usage (tenant, run_id) where run_id is not null;

create function finance.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'finance.% is append-only: % is refused; a correction is a new row that names the row it corrects',
    tg_table_name, tg_op using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete on finance.usage for each row execute function finance.refuse_change();
create trigger append_only_truncate before truncate on finance.usage for each statement execute function finance.refuse_change();
create trigger append_only before update or delete or truncate on sluice.audit for each statement execute function finance.refuse_change();

create table finance.users (
  tenant     text not null,
  user_id    text not null,
  "user"     text not null,
  first_seen timestamptz not null default clock_timestamp(),
  primary key (tenant, user_id)
);

create view finance.usage_meters as
  select u.usage_id, u.job_id, u.attempt, u.run_id, u.recorded_at, u.started_at, u.tenant, u.team, u.project, u.app, u.user_id, u.tags,
         u.provider, u.account, u.region, u.model_requested, u.provider_model, u.operation, u.class, u.service_tier, u.outcome,
         u.price_version, u.charge_class, u.corrects_usage_id,
         m.meter, m.quantity, m.unit, m.unit_price_usd, m.cost_usd
    from finance.usage u
   cross join lateral jsonb_to_recordset(u.meters)
     as m(meter text, quantity numeric, unit text, unit_price_usd numeric, cost_usd numeric(24, 9));

create view finance.usage_daily as
  select (u.started_at at time zone 'UTC')::date as day, u.tenant, u.team, u.project, u.app, u.user_id, u.run_id, u.class, u.tags,
         u.provider, u.account, u.model_requested, u.provider_model, u.outcome,
         count(*) filter (where u.charge_class is null) as calls,
         sum(u.input_tokens) as input_tokens, sum(u.cache_read_tokens) as cache_read_tokens,
         sum(u.cache_write_tokens) as cache_write_tokens, sum(u.output_tokens) as output_tokens,
         sum(u.reasoning_tokens) as reasoning_tokens, sum(u.cost_usd) as cost_usd, sum(u.list_cost_usd) as list_cost_usd
    from finance.usage u
   group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14;

create view finance.unresolved as
  select u.usage_id, (u.held_nano * 0.000000001)::numeric(24, 9) as held_usd, u.since, u.provider_request_id, u.tenant,
         f.job_id, f.attempt, f.account, f.provider_model
    from sluice.unresolved u join finance.usage f on f.usage_id = u.usage_id and f.recorded_at = u.recorded_at;

create view finance.runs as
  select r.tenant, r.name as run_id, r.created_at, r.completed_at, c.jobs, c.waiting, c.running,
         c.succeeded, c.failed, c.rejected, c.expired, c.cancelled, c.unknown,
         coalesce(m.cost_usd, 0)::numeric(24, 9) as cost_usd
    from sluice.runs r
   cross join lateral (
     select count(*) as jobs,
            count(*) filter (where s.state in (1, 4)) as waiting, count(*) filter (where s.state in (2, 3)) as running,
            count(*) filter (where s.state = 10) as succeeded, count(*) filter (where s.state = 11) as failed,
            count(*) filter (where s.state = 12) as rejected, count(*) filter (where s.state = 13) as expired,
            count(*) filter (where s.state = 14) as cancelled, count(*) filter (where s.state = 15) as unknown
       from (
         select distinct on (e.uuid) e.state
           from (select j.uuid, j.state, j.execution from sluice.jobs j where j.run = r.id
                 union all
                 select p.uuid, p.state, p.execution from sluice.jobs_past p where p.run = r.id) e
          order by e.uuid, e.execution desc) s) c
   cross join lateral (
     select sum(u.cost_usd) as cost_usd from finance.usage u where u.tenant = r.tenant and u.run_id = r.name) m;

-- Every row with recorded_at below the result is visible to the caller's snapshot. recorded_at is read from the clock inside the
-- writing transaction, after its start is public in pg_stat_activity; so a row that this snapshot cannot see comes from a transaction
-- that (a) still runs: its start bounds it, (b) began after the snapshot: now() bounds it, or (c) committed between the snapshot
-- and this reading: looked up below. The caller's snapshot comes in as the default argument, which is evaluated in the caller's query.
create function finance.watermark(seen pg_snapshot default pg_current_snapshot()) returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, finance as $$
declare
  bound timestamptz := now();
  oldest timestamptz;
  missed timestamptz;
  longest constant interval := '2 minutes';
  newest bigint := pg_snapshot_xmax(seen)::text::bigint;  -- 64 bits; a row's xmin has 32 and lies within 2^31 of it
begin
  if not pg_has_role('pg_read_all_stats', 'usage') then
    raise exception 'finance.watermark() cannot see other sessions: grant pg_read_all_stats to its owner %', current_user;
  end if;
  select min(a.xact_start) into oldest from pg_stat_activity a
   where a.datname = current_database() and a.pid <> pg_backend_pid() and a.xact_start is not null and a.backend_type = 'client backend';
  if current_setting('transaction_isolation') <> 'read committed' then
    return least(bound - longest, oldest);
  end if;
  select min(u.recorded_at) into missed from finance.usage u
   where u.recorded_at >= bound - longest and u.recorded_at < bound
     and not pg_visible_in_snapshot(
           (newest + (u.xmin::text::bigint - newest % 4294967296 + 6442450944) % 4294967296 - 2147483648)::text::xid8, seen);
  return least(bound, oldest, missed);
end $$;
