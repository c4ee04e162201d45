-- What a dead process left. Level-triggered: every row whose owner is dead, at every pass.
-- Dead is an owner that the caller has watched being silent (p_silent), or that is not registered: a process registers before it
-- owns anything, so in one snapshot an owner without a row has left, or was buried. A row is found first and then locked under the
-- owner it was found with, so that a new owner, unknown to the snapshot, is never taken for dead.

-- Owners that are not registered, by a walk that costs one step an owner. It goes backwards: the newest of an owner's rows come first,
-- and not all those that it once had, which an old snapshot may keep in the index.
create function sluice.unheard_v1() returns bigint[] language sql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
  with recursive owners (owner) as (
    (select j.owner from sluice.jobs j where j.state in (2, 3) and j.owner is not null order by j.owner desc limit 1)
    union all
    select (select j.owner from sluice.jobs j where j.state in (2, 3) and j.owner < o.owner order by j.owner desc limit 1)
      from owners o where o.owner is not null)
  select coalesce(array_agg(o.owner), '{}') from owners o
   where o.owner is not null and not exists (select from sluice.workers w where w.incarnation = o.owner)
$$;

-- Owned rows go back to their lane (safe: begin is fenced); those that have outlived too many owners are left for their end.
create function sluice.reap_owned_v1(p_silent bigint[], p_deaths int, p_limit int) returns int language sql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
  with dead as materialized (
    select distinct o.owner from unnest(p_silent || sluice.unheard_v1()) o(owner)),
  seen as materialized (
    select j.id, j.owner from dead d cross join lateral (
      select x.id, x.owner, x.state, x.deaths from sluice.jobs x where x.owner = d.owner and x.state in (2, 3) offset 0) j
     where j.state = 2 and j.deaths + 1 < p_deaths
     order by j.id limit p_limit),
  lost as (
    select j.id from seen s join sluice.jobs j on j.id = s.id and j.owner = s.owner and j.state = 2
     order by j.id for update of j skip locked),
  back as (
    update sluice.jobs j set state = 1, owner = null, deaths = j.deaths + 1 from lost where j.id = lost.id returning 1)
  select count(*)::int from back
$$;

-- Rows that need a settlement in their dead owner's name: calling ones, and owned ones with no life left; not locked: settle is fenced.
-- p_silent: by the calling lease, p_silent_owned: by the owned one. Bodies stay behind.
create function sluice.left_calling_v1(p_silent bigint[], p_silent_owned bigint[], p_deaths int, p_limit int)
returns table (job bigint, uuid uuid, day date, lane int, run bigint, was smallint, attempt smallint, first_attempt smallint, max_attempts smallint,
               deaths smallint, execution smallint, retry_unknown boolean, streams boolean, cancel boolean,
               due_at float8, deadline float8, admitted_at float8, body bytea, facts text, requester bytea,
               owner bigint, account text, provider_model text, worst_nano bigint, input_nano bigint, started_at float8)
language sql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
  with dead as materialized (
    select o.owner, bool_or(o.calling) as calling, bool_or(o.owned) as owned from (
      select s, true, false from unnest(p_silent) s union all select s, false, true from unnest(p_silent_owned) s
      union all select u, true, true from unnest(sluice.unheard_v1()) u) o(owner, calling, owned)
     group by o.owner)
  select j.id, j.uuid, j.day, j.lane, j.run, j.state, j.attempt, j.first_attempt, j.max_attempts, j.deaths, j.execution, j.retry_unknown, j.streams, j.cancel,
         extract(epoch from j.due_at)::float8, extract(epoch from j.deadline)::float8, extract(epoch from j.admitted_at)::float8,
         ''::bytea, q.facts, q.requester, j.owner, a.account, a.provider_model, a.worst_nano, a.input_nano, extract(epoch from a.started_at)::float8
    from dead d
   cross join lateral (select * from sluice.jobs x where x.owner = d.owner and x.state in (2, 3) offset 0) j
    join sluice.requests q on q.job = j.id and q.day = j.day
    left join sluice.attempts a on a.job = j.id and a.day = j.day and a.attempt = j.attempt and j.state = 3
   where (j.state = 3 and d.calling) or (j.state = 2 and j.deaths + 1 >= p_deaths and d.owned)
   order by j.id limit p_limit
$$;

-- Attempts that a dead process was still reading for a job answered before.
create function sluice.left_reading_v1(p_silent bigint[], p_limit int)
returns table (job bigint, uuid uuid, day date, attempt smallint, worker bigint, facts text,
               account text, provider_model text, worst_nano bigint, input_nano bigint, started_at float8)
language sql volatile as $$
  select o.job, r.uuid, o.day, o.attempt, o.worker, q.facts,
         a.account, a.provider_model, a.worst_nano, a.input_nano, extract(epoch from a.started_at)::float8
    from sluice.reading_on o
    join sluice.requests q on q.job = o.job and q.day = o.day
    join sluice.attempts a on a.job = o.job and a.day = o.day and a.attempt = o.attempt
    join sluice.responses r on r.job = o.job and r.day = o.day
   where o.worker = any (p_silent) or not exists (select from sluice.workers w where w.incarnation = o.worker)
   order by o.job limit p_limit
$$;

-- Removes the silent of whom nothing is left; one that has beaten within p_lease after all stays.
create function sluice.bury_v1(p_silent bigint[], p_lease interval) returns setof bigint language sql volatile as $$
  delete from sluice.workers w
   where w.incarnation = any (p_silent) and w.beat_at < clock_timestamp() - p_lease
     and not exists (select from sluice.jobs j where j.owner = w.incarnation and j.state in (2, 3))
     and not exists (select from sluice.reading_on o where o.worker = w.incarnation)
     and not exists (select from sluice.outbox o where o.owner = w.incarnation)
  returning w.incarnation
$$;
