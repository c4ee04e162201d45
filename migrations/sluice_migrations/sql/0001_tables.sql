-- The ledger's private tables. State numbers stand in sluice_core.jobs.model.State; a test holds both together.
--   1 parked  2 owned  3 calling  4 retry_wait | 10 succeeded 11 failed 12 rejected 13 expired 14 cancelled 15 unknown

create schema sluice;
create schema finance;

-- A running process that may own jobs. The incarnation is random and never reused: it is the fencing token.
create table sluice.workers (
  incarnation bigint primary key,
  name        text not null,
  kind        text not null,                 -- worker | keeper
  pool        text not null,
  beat        bigint not null default 0,
  started_at  timestamptz not null default clock_timestamp(),
  beat_at     timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

-- Where jobs wait: one lane for each combination that dispatch tells apart.
create table sluice.lanes (
  id      int generated always as identity primary key,
  class   smallint not null,
  pool    text not null,
  tenant  text not null,
  project text not null,
  model   text not null,
  unique (class, pool, tenant, project, model)
);

create table sluice.runs (
  id           bigint generated always as identity primary key,
  tenant       text not null,
  name         text not null,
  created_at   timestamptz not null default clock_timestamp(),
  completed_at timestamptz,
  unique (tenant, name)
);
create index runs_open on sluice.runs (id) where completed_at is null;

-- The hot table: narrow, one row per execution; finished rows leave for jobs_past.
create sequence sluice.job_ids as bigint;
create table sluice.jobs (
  id            bigint primary key,
  uuid          uuid not null,
  run           bigint,
  owner         bigint,                      -- incarnation, while owned or calling
  due_at        timestamptz not null,        -- the earlier of deadline and the end of max_wait_s
  deadline      timestamptz not null,
  run_at        timestamptz,                 -- while retry_wait
  admitted_at   timestamptz not null,
  finished_at   timestamptz,
  day           date not null,               -- the partition of its payloads and attempts
  lane          int not null,
  bytes         int not null,                -- of the stored request
  state         smallint not null,
  attempt       smallint not null default 0, -- the last attempt begun; never restarts
  first_attempt smallint not null default 0, -- attempts made by earlier executions
  max_attempts  smallint not null,
  deaths        smallint not null default 0, -- workers that died under it
  execution     smallint not null default 1,
  retry_unknown boolean not null,
  streams       boolean not null,
  cancel        boolean not null default false,
  waited        boolean not null default false -- has rows in waiters
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
create index jobs_claim  on sluice.jobs (lane, due_at, id) where state = 1;
create index jobs_retry  on sluice.jobs (run_at, id) where state = 4;
create index jobs_owner  on sluice.jobs (owner) where state in (2, 3);
create index jobs_run    on sluice.jobs (run, id) where run is not null;
create index jobs_run_live on sluice.jobs (run) where run is not null and state < 10;
create index jobs_cancel on sluice.jobs (id) where cancel and state < 10;

-- Which job an identity means now: the live part. Finishing does not remove it; the keeper moves it to jobs_past.
create table sluice.identities (
  uuid      uuid primary key,
  job       bigint not null,
  record    uuid not null,                   -- uuid5 of the record that made this execution
  body_hash bytea not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Finished executions and their identities, by week; dropped by partition.
create table sluice.jobs_past (
  like sluice.jobs,
  record    uuid not null,
  body_hash bytea not null
) partition by range (finished_at);
create index jobs_past_uuid on sluice.jobs_past (uuid);
create index jobs_past_run  on sluice.jobs_past (run) where run is not null;

-- Payloads and attempts, by day of admission; dropped by partition.
create table sluice.requests (
  job       bigint not null,
  day       date not null,
  body      bytea not null,
  facts     text not null,                   -- JSON: attribution and options
  requester bytea not null,                  -- who is answered, and how
  primary key (job, day)
) partition by range (day);
create table sluice.responses (
  job         bigint not null,
  uuid        uuid not null,
  day         date not null,
  ce_id       uuid not null,
  finished_at timestamptz not null,
  result      bytea not null,                -- the result's value as published
  reply_given_up_at timestamptz,
  primary key (job, day)
) partition by range (day);
create table sluice.attempts (
  job        bigint not null,
  day        date not null,
  attempt    smallint not null,
  outcome    smallint,                       -- null while open; numbers as in sluice_core.jobs.model.Outcome
  status     smallint,
  worker     bigint not null,
  started_at timestamptz not null,
  ended_at   timestamptz,
  worst_nano bigint not null,                -- nano-dollars: what the call may cost at most
  input_nano bigint not null,                -- the part of worst_nano that the input accounts for
  usage_id   uuid,
  account    text not null,
  provider_model text not null,
  code       text,
  provider_request_id text,
  primary key (job, day, attempt)
) partition by range (day);

-- Requesters beyond the first one, and every record that has asked for a job: unique by its record.
create table sluice.waiters (
  job       bigint not null,
  record    uuid not null,
  requester bytea,                           -- null: only remembered, nobody to answer
  at        timestamptz not null default clock_timestamp(),
  primary key (job, record)
);
create index waiters_at on sluice.waiters using brin (at);

-- Attempts whose job was answered (cancelled, expired) while the provider was still being read.
create table sluice.reading_on (
  job     bigint not null,
  attempt smallint not null,
  day     date not null,
  worker  bigint not null,
  primary key (job, attempt)
);

-- Attempts whose outcome is unknown and whose money is held until someone says what it was.
create table sluice.unresolved (
  usage_id    uuid primary key,
  recorded_at timestamptz not null,
  tenant      text not null,
  job         bigint not null,
  attempt     smallint not null,
  held_nano   bigint not null,
  input_nano  bigint not null,               -- the part of held_nano that the input accounts for
  since       timestamptz not null,
  provider_request_id text
);

-- What a fenced process reported after its job had been taken from it: evidence, never state.
create table sluice.late_outcomes (
  id          bigint generated always as identity primary key,
  at          timestamptz not null default clock_timestamp(),
  worker      bigint not null,
  job         bigint not null,
  attempt     smallint not null,
  state       smallint not null,
  cost_nano   bigint not null,
  usage       jsonb,
  settled_at  timestamptz
);

-- Cancels that came before their job, and cancels of whole runs.
create table sluice.cancels (
  id     bigint generated always as identity primary key,
  tenant text not null,
  uuid   uuid,
  run    text,
  at     timestamptz not null default clock_timestamp(),
  check ((uuid is null) <> (run is null))
);
create unique index cancels_uuid on sluice.cancels (uuid, tenant) where uuid is not null;
create unique index cancels_run on sluice.cancels (tenant, run) where run is not null;

-- Records that could not be a job; their bytes are on the dead-letter topic.
create table sluice.dead_letters (
  record    uuid primary key,
  at        timestamptz not null default clock_timestamp(),
  topic     text not null,
  partition int not null,
  "offset"  bigint not null,
  code      text not null,
  message   text not null,
  replayed_at timestamptz
);

-- Events that are due on Kafka. 1 result  2 duplicate's result  3 usage  4 any other, whole
create table sluice.outbox (
  id        bigint generated always as identity primary key,
  owner     bigint not null,
  at        timestamptz not null default clock_timestamp(),
  kind      smallint not null,
  day       date,
  job       bigint,
  record    uuid,                            -- kind 2: the waiter
  usage_id  uuid,                            -- kind 3
  usage_at  timestamptz,
  topic     text,                            -- kind 4
  key       bytea,
  headers   bytea,
  value     bytea
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

create table sluice.keys (
  id           text primary key,
  tenant       text not null,
  team         text,
  project      text,
  app          text,
  grants       text[] not null default '{}',
  reply_topics text[] not null default '{}', -- of a vouching key; empty: its tenant's list
  signing      bytea not null,               -- HMAC key, AES-256-GCM under the master key
  created_at   timestamptz not null default clock_timestamp(),
  expires_at   timestamptz,
  revoked_at   timestamptz
);

-- Bumped with every change; heartbeats carry them, so a cache is at most one beat old.
create table sluice.versions (name text primary key, version bigint not null default 1);
insert into sluice.versions (name) values ('keys'), ('config');

create table sluice.config_versions (
  version    bigint generated always as identity primary key,
  applied_at timestamptz not null default clock_timestamp(),
  actor      text not null,
  document   text not null
);

create table sluice.audit (
  id     bigint generated always as identity primary key,
  at     timestamptz not null default clock_timestamp(),
  actor  text not null,
  action text not null,
  subject text not null,
  before jsonb,
  after  jsonb
);

-- One row each for duties that a single process should do at a time.
create table sluice.leases (
  name    text primary key,
  holder  bigint not null,
  expires timestamptz not null
);

-- The per-tenant key of user pseudonyms.
create table sluice.pseudonym_keys (tenant text primary key, key bytea not null);
