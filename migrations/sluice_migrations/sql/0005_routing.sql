-- Targets that are left alone, as all workers see it; a row lives while it is open.
create table sluice.breakers (
  account     text not null,
  model       text not null,
  level       int not null,                  -- the openings in a row
  reason      text not null,
  fault       boolean not null,              -- the account's own: no funds, a refused key
  opened_at   timestamptz not null default clock_timestamp(),
  open_until  timestamptz not null,
  prober      bigint,                        -- the worker that finds out whether it works again
  probe_until timestamptz,                   -- and how long nobody else does
  primary key (account, model)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
grant select, insert, update, delete on sluice.breakers to sluice_service;

create type sluice.opening_v1 as (account text, model text, level int, open_s float8, reason text, fault boolean);
create type sluice.target_v1 as (account text, model text);

-- One worker's news and everybody's, in one statement: what it opened, what its probes closed, what it gives up probing, and
-- what it would send a call to if it may. Returns all that is open: `left_s` seconds, and whether this worker is to probe now.
-- Locks the rows in the order of their keys. Of a fault somebody is told, once an account; and of a model whose calls are booked
-- at 0 because no price is known, once.
create function sluice.share_breakers_v1(
  p_worker bigint, p_opened sluice.opening_v1[], p_closed sluice.target_v1[], p_given_up sluice.target_v1[],
  p_wanted sluice.target_v1[], p_unpriced sluice.target_v1[], p_probe_s float8)
returns table (account text, model text, level int, reason text, left_s float8, mine boolean) language plpgsql volatile as $$
#variable_conflict use_column
declare v_now timestamptz := clock_timestamp();
begin
  if cardinality(p_opened) + cardinality(p_closed) + cardinality(p_given_up) + cardinality(p_wanted) > 0 then
    perform from sluice.breakers b where (b.account, b.model) in (
        select o.account, o.model from unnest(p_opened) o union select c.account, c.model from unnest(p_closed) c
        union select g.account, g.model from unnest(p_given_up) g union select w.account, w.model from unnest(p_wanted) w)
      order by b.account, b.model for update;
    insert into sluice.breakers as b (account, model, level, reason, fault, open_until)
    select o.account, o.model, o.level, o.reason, o.fault, v_now + o.open_s * interval '1 second' from unnest(p_opened) o order by o.account, o.model
    on conflict (account, model) do update
      -- Two that find out at the same time are one opening.
      set level = case when b.open_until > v_now and b.prober is null then b.level else excluded.level end,
          open_until = greatest(b.open_until, excluded.open_until), reason = excluded.reason, fault = excluded.fault, prober = null, probe_until = null;
    insert into sluice.alerts (kind, subject, detail)
    select distinct on (o.account) 'account_refused', 'account:' || o.account, jsonb_build_object('reason', o.reason, 'model', o.model)
      from unnest(p_opened) o
     where o.fault and not exists (select from sluice.alerts a where a.kind = 'account_refused' and a.subject = 'account:' || o.account and a.resolved_at is null);
    delete from sluice.breakers b using unnest(p_closed) c
     where b.account = c.account and b.model = c.model and b.prober = p_worker;
    update sluice.alerts a set resolved_at = v_now from unnest(p_closed) c
     where a.kind = 'account_refused' and a.subject = 'account:' || c.account and a.resolved_at is null
       and not exists (select from sluice.breakers b where b.account = c.account and b.fault);
    update sluice.breakers b set prober = null, probe_until = null from unnest(p_given_up) g
     where b.account = g.account and b.model = g.model and b.prober = p_worker;
    update sluice.breakers b set prober = p_worker, probe_until = v_now + p_probe_s * interval '1 second' from unnest(p_wanted) w
     where b.account = w.account and b.model = w.model and b.open_until <= v_now
       and (b.prober is null or b.prober = p_worker or b.probe_until <= v_now);
  end if;
  insert into sluice.alerts (kind, subject, detail)
  select 'unpriced_model', 'target:' || u.account || '/' || u.model, jsonb_build_object('account', u.account, 'model', u.model)
    from unnest(p_unpriced) u
   where not exists (select from sluice.alerts a where a.kind = 'unpriced_model' and a.subject = 'target:' || u.account || '/' || u.model and a.resolved_at is null);
  return query select b.account, b.model, b.level, b.reason, extract(epoch from b.open_until - clock_timestamp())::float8,
                      b.prober is not null and b.prober = p_worker and b.probe_until > clock_timestamp()
                 from sluice.breakers b;
end $$;

-- Keys of provider accounts that are kept here rather than in the workers' environment, encrypted under the master key.
create table sluice.provider_keys (
  account     text not null,
  name        text not null,
  sealed      bytea not null,
  fingerprint text not null,                 -- of the key, for people who look which one it is
  created_at  timestamptz not null default clock_timestamp(),
  primary key (account, name)
);
grant select, insert, update, delete on sluice.provider_keys to sluice_service;
