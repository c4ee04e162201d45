-- Who may spend what, and how fast: one row a scope, one a budget, one a budget's period.
--
-- What changes with each call (where rates stand, calls in flight, money) is kept apart, in scope_state and period_state, one live row
-- each. Each change is the row's next `version`, and sixteen versions are an `era`, which is part of the key: so the newest one has the
-- highest key, and who reads backwards along it (`order by era desc limit 1`) passes sixteen dead versions at most, however many an old
-- snapshot keeps alive. An id alone would lead to all of them, one after another. Within an era no index is written (HOT).
-- The functions forbid bitmap scans: to the planner, who counts a few live rows, collecting all eras costs the same.
-- For the sake of those who read by the views, these tables are not analysed: without statistics it keeps to the backward scan.
-- The rows of scopes and budget_periods are what is locked: a lock makes no new version of them.
-- To change a state: lock its row, then read it in a later statement (at READ COMMITTED its snapshot is younger than the commit of
-- whoever held the lock; the locking statement's own would show what was there before), then write the version after that.

-- Kinds: 1 tenant  2 team  3 project  4 app  5 user  6 key  7 model  8 account  9 target (account/model)  10 run.
-- Up to 7 they are the callers' and the model's, where a retry is the same request; from 7 on each attempt is one.
-- The rates stand side by side in arrays, one place each. A sliding rate is a GCRA (a virtual clock that each unit moves on by
-- `steps` microseconds), kept three times: as all classes draw on it, and as standard and bulk see it, who may use less of it.
-- A calendar rate is a counter that begins anew at `ends`.
create table sluice.scopes (
  id            bigint generated always as identity primary key,
  kind          smallint not null,
  name          text not null,
  weight        float8 not null default 1,
  meters        smallint[] not null default '{}',  -- 1 requests  2 tokens, as expected  3 tokens, as bounded
  units         text[] not null default '{}',      -- of a calendar rate: day, week, month; null: it slides
  zones         text[] not null default '{}',
  limits        float8[] not null default '{}',    -- units a period
  steps         float8[] not null default '{}',    -- microseconds a unit; 0 of a calendar rate
  bursts        float8[] not null default '{}',    -- units that may come at once
  max_in_flight int,
  unique (kind, name)
);
create table sluice.scope_state (
  scope         bigint not null,
  version       bigint not null default 0,
  era           bigint generated always as (version >> 4) stored,
  levels        float8[] not null default '{}',    -- three a rate, by class: clocks in microseconds of the epoch, or the count
  ends          float8[] not null default '{}',    -- one a rate: end of the calendar period, microseconds of the epoch
  in_flight     int not null default 0,
  allowed       float8,                            -- what an account has been found to bear at once; null: not known to be less
  cut_at        timestamptz,
  blocked_until timestamptz,                       -- the provider said when to come again
  virtual       float8[] not null default '{0,0,0}', -- served tokens by weight, by class: whose turn it is
  primary key (scope, era)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_threshold = 2000000000);
create function sluice.scope_made_v1() returns trigger language plpgsql as $$
begin
  insert into sluice.scope_state (scope, levels, ends)
  values (new.id, array_fill(0::float8, array[cardinality(new.meters) * 3]), array_fill(0::float8, array[cardinality(new.meters)]));
  return null;
end $$;
create trigger scope_made after insert on sluice.scopes for each row execute function sluice.scope_made_v1();

-- Scopes as they stand, for readers.
create view sluice.scopes_now as
  select s.*, t.era, t.version, t.levels, t.ends, t.in_flight, t.allowed, t.cut_at, t.blocked_until, t.virtual
    from sluice.scopes s cross join lateral (select * from sluice.scope_state x where x.scope = s.id order by x.era desc limit 1) t;

create table sluice.budgets (
  id         bigint generated always as identity primary key,
  scope      bigint not null references sluice.scopes,
  per        text not null check (per in ('day', 'week', 'month', 'quarter', 'total')),
  zone       text not null,
  hard       boolean not null,
  -- A cap and what is topped up stay below four billion dollars each, so that nothing computed from both leaves 64 bits.
  cap_nano   bigint not null check (cap_nano between 0 and 4000000000000000000),
  own_cap_nano bigint check (own_cap_nano between 0 and 4000000000000000000), -- what an operator has set instead of the configured cap
  thresholds smallint[] not null,                  -- percent, ascending
  configured boolean not null default true,        -- by the configuration, which may take it away again
  active     boolean not null default true,
  created_at timestamptz not null default clock_timestamp(),
  unique (scope, per)
);
create table sluice.budget_periods (
  id            bigint generated always as identity primary key,
  budget        bigint not null references sluice.budgets,
  starts_at     timestamptz not null,
  ends_at       timestamptz not null,
  topup_nano    bigint not null default 0 check (topup_nano between -4000000000000000000 and 4000000000000000000),
  told          smallint not null default 0,       -- the highest threshold that has alerted
  closed        boolean not null default false,    -- it has ended and nothing of it is open: no alert can come any more
  unique (budget, starts_at)
);
create index budget_periods_open on sluice.budget_periods (id) where not closed;
create table sluice.period_state (
  period        bigint not null,
  version       bigint not null default 0,
  era           bigint generated always as (version >> 4) stored,
  spent_nano    bigint not null default 0,
  held_nano     bigint not null default 0,         -- of attempts whose outcome is unknown
  reserved_nano bigint not null default 0,         -- of attempts in flight
  check (reserved_nano >= 0 and held_nano >= 0),
  primary key (period, era)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_threshold = 2000000000);
create function sluice.period_made_v1() returns trigger language plpgsql as $$
begin
  insert into sluice.period_state (period) values (new.id);
  return null;
end $$;
create trigger period_made after insert on sluice.budget_periods for each row execute function sluice.period_made_v1();

-- Budgets' periods as they stand, for readers.
create view sluice.budget_periods_now as
  select p.*, t.era, t.version, t.spent_nano, t.held_nano, t.reserved_nano
    from sluice.budget_periods p cross join lateral (select * from sluice.period_state x where x.period = p.id order by x.era desc limit 1) t;

-- Exactly what an attempt has reserved: its end gives that back, whatever the configuration says by then.
alter table sluice.attempts
  add column route   text,                            -- why its target was chosen
  add column class   smallint,
  add column tokens  bigint not null default 0,
  add column bound   bigint not null default 0,
  add column scopes  bigint[] not null default '{}',  -- the tenant's and the project's first
  add column periods bigint[] not null default '{}';
alter table sluice.unresolved add column periods bigint[] not null default '{}';

create table sluice.alerts (
  id          bigint generated always as identity primary key,
  kind        text not null,
  subject     text not null,
  period      bigint,                              -- of a budget, which the alert ends with
  detail      jsonb not null,
  raised_at   timestamptz not null default clock_timestamp(),
  resolved_at timestamptz,
  told        boolean not null default false,      -- its raising is on its way to Kafka
  told_resolved boolean not null default false
);
create index alerts_untold on sluice.alerts (id) where not told or (resolved_at is not null and not told_resolved);
create index alerts_open on sluice.alerts (kind, subject) where resolved_at is null;
create index alerts_of_period on sluice.alerts (period) where resolved_at is null;

-- When the period that an instant lies in begins and ends. A total never ends.
create function sluice.period_start_v1(p_per text, p_zone text, p_at timestamptz) returns timestamptz language sql stable as $$
  select case when p_per = 'total' then timestamptz 'epoch' else date_trunc(p_per, p_at at time zone p_zone) at time zone p_zone end
$$;
create function sluice.period_end_v1(p_per text, p_zone text, p_at timestamptz) returns timestamptz language sql stable as $$
  select case when p_per = 'total' then timestamptz 'infinity'
              else (date_trunc(p_per, p_at at time zone p_zone)
                    + case when p_per = 'quarter' then interval '3 months' else ('1 ' || p_per)::interval end) at time zone p_zone end
$$;

-- The current period of each budget, made where it is missing; in the order of p_budgets, which ascend. Locks the rows, in the order of
-- their ids; `versions` are those of the states that were read under the lock.
create function sluice.lock_periods_v1(p_budgets bigint[], p_now timestamptz,
  out periods bigint[], out hard boolean[], out caps bigint[], out used bigint[], out reserved bigint[], out ends float8[], out versions bigint[])
language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  for attempt in 1..2 loop
    select array_agg(l.id order by l.budget) into periods from (
      select p.id, p.budget from sluice.budgets b
        join sluice.budget_periods p on p.budget = b.id and p.starts_at = sluice.period_start_v1(b.per, b.zone, p_now)
       where b.id = any (p_budgets) order by p.id for no key update of p) l;
    exit when cardinality(periods) = cardinality(p_budgets);
    insert into sluice.budget_periods (budget, starts_at, ends_at)
    select b.id, sluice.period_start_v1(b.per, b.zone, p_now), sluice.period_end_v1(b.per, b.zone, p_now)
      from sluice.budgets b where b.id = any (p_budgets) order by b.id
    on conflict do nothing;
  end loop;
  if cardinality(periods) is distinct from cardinality(p_budgets) then
    raise exception 'a budget of % is missing', p_budgets using errcode = 'undefined_object';
  end if;
  select array_agg(b.hard and b.active order by b.id), array_agg(coalesce(b.own_cap_nano, b.cap_nano) + p.topup_nano order by b.id),
         array_agg(t.used order by b.id), array_agg(t.reserved_nano order by b.id),
         array_agg(case when isfinite(p.ends_at) then extract(epoch from p.ends_at) else 'infinity' end order by b.id), array_agg(t.version order by b.id)
    into hard, caps, used, reserved, ends, versions
    from sluice.budget_periods p join sluice.budgets b on b.id = p.budget
   cross join lateral (
     select x.version, x.spent_nano + x.held_nano as used, x.reserved_nano from sluice.period_state x where x.period = p.id order by x.era desc limit 1) t
   where p.id = any (periods);
end $$;

-- Jobs that wait for a budget's next period, or for more money: waiting in retry_wait, so that nothing looks at them till then.
create table sluice.deferred (job bigint primary key, budget bigint not null, need_nano bigint not null);
create index deferred_budget on sluice.deferred (budget);

create function sluice.defer_v1(p_owner bigint, p_jobs bigint[], p_wake float8[], p_budgets bigint[], p_needs bigint[]) returns int language sql volatile as $$
  with held as materialized (
    select j.id from sluice.jobs j where j.id = any (p_jobs) and j.owner = p_owner and j.state = 2 order by j.id for update),
  waits as (
    update sluice.jobs j set state = 4, owner = null, run_at = least(to_timestamp(w.wake), j.due_at, j.deadline)
      from held join unnest(p_jobs, p_wake, p_budgets, p_needs) w(job, wake, budget, need) on w.job = held.id
     where j.id = held.id returning j.id, w.budget, w.need),
  noted as (
    insert into sluice.deferred (job, budget, need_nano) select w.id, w.budget, w.need from waits w order by w.id
    on conflict (job) do update set budget = excluded.budget, need_nano = excluded.need_nano returning 1)
  select count(*)::int from noted
$$;

-- There is money again: what waits for this budget asks again now. Those that went on without it are forgotten.
create function sluice.wake_deferred_v1(p_budget bigint, p_limit int) returns int language sql volatile as $$
  with due as materialized (
    select d.job from sluice.deferred d where d.budget = p_budget order by d.job limit p_limit),
  waits as materialized (
    select j.id from sluice.jobs j join due on due.job = j.id where j.state = 4 order by j.id for update of j),
  woken as (
    update sluice.jobs j set run_at = clock_timestamp() from waits w where j.id = w.id returning 1),
  forgotten as (
    delete from sluice.deferred d using due where d.job = due.job returning 1)
  select count(*)::int from forgotten
$$;

-- What was decided about money and why, in the order of the locks; written only while the database's setting sluice.decision_log is on
-- (`alter database … set sluice.decision_log = on`). Replaying it shows every admission and refusal to be right, or not.
create table sluice.decision_log (
  seq           bigint generated always as identity primary key,
  at            timestamptz not null default clock_timestamp(),
  batch         xid8 not null default pg_current_xact_id(),
  period        bigint not null,
  job           bigint,                      -- of a decision; null: attempts that ended
  cap_nano      bigint,
  used_nano     bigint,                      -- spent and held, as the decision saw it
  reserved_nano bigint,                      -- by others, and by this batch before
  need_nano     bigint,
  hard          boolean,
  verdict       smallint,                    -- of begin
  freed_nano    bigint,                      -- of an end: no longer reserved
  booked_nano   bigint                       -- of an end: spent or held from now on
);

-- The same at every pass, for whatever made room: held money that was not billed, a raise while a job was being put aside. Jobs that went
-- on or ended meanwhile are forgotten. Returns how many were woken.
create function sluice.wake_affordable_v1(p_limit int) returns int language plpgsql volatile as $$
declare v_woken int;
begin
  delete from sluice.deferred d using (
    select x.job from sluice.deferred x where not exists (select from sluice.jobs j where j.id = x.job and j.state = 4) limit p_limit) gone
   where d.job = gone.job;
  with room as materialized (
    select b.id, coalesce(b.own_cap_nano, b.cap_nano) + coalesce(p.topup_nano, 0) - coalesce(p.spent_nano + p.held_nano, 0) as nano, b.active and b.hard as counts
      from sluice.budgets b
      left join sluice.budget_periods_now p on p.budget = b.id and p.starts_at = sluice.period_start_v1(b.per, b.zone, clock_timestamp())
     where b.id in (select d.budget from sluice.deferred d)),
  due as materialized (
    select d.job from sluice.deferred d join room r on r.id = d.budget where d.need_nano <= r.nano or not r.counts order by d.job limit p_limit),
  waits as materialized (
    select j.id from sluice.jobs j join due on due.job = j.id where j.state = 4 order by j.id for update of j),
  woken as (
    update sluice.jobs j set run_at = clock_timestamp() from waits w where j.id = w.id returning 1),
  forgotten as (
    delete from sluice.deferred d using due where d.job = due.job)
  select count(*)::int into v_woken from woken;
  return v_woken;
end $$;
