-- What operators hold back. `tenant` is that of a run, and empty for all else, so that it can be part of the key.
create table sluice.holds (
  kind   text not null check (kind in ('tenant', 'class', 'model', 'account', 'run')),
  name   text not null,
  tenant text not null default '' check ((tenant <> '') = (kind = 'run')),
  at     timestamptz not null default clock_timestamp(),
  actor  text not null,
  primary key (kind, name, tenant)
);
grant select, insert, update, delete on sluice.holds to sluice_service;

-- Why a lane waits (an error code), for those of its jobs that end while they wait; workers renew it while it lasts.
alter table sluice.lanes add column waits_for text, add column waits_until timestamptz;

-- A claim takes due retries lane by lane, so that those of blocked lanes are not passed at every claim.
create index jobs_retry_lane on sluice.jobs (lane, run_at, id) where state = 4;

-- Jobs of held runs stand aside: retry_wait until due_at, when they end in any case. A true retry never has this run_at:
-- its due_at is the deadline, and a wait that would reach the deadline is not begun.
create index jobs_shelved on sluice.jobs (run, id) where state = 4 and run_at = due_at;
