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

-- Jobs of held runs stand aside: retry_wait until due_at, when they end in any case. An entry outlives a job that ended meanwhile,
-- until its run goes on.
create table sluice.shelved (
  run bigint not null,
  job bigint not null,
  primary key (run, job)
);
grant select, insert, update, delete on sluice.shelved to sluice_service;
