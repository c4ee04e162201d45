-- What a dead process left. Level-triggered: every row whose owner is not among the living, at every pass.

-- Owned rows go back to their lane (safe: begin is fenced); those that have outlived too many owners are left for their end.
create function sluice.reap_owned_v1(p_alive bigint[], p_deaths int, p_limit int) returns int language sql volatile as $$
  with lost as (
    select j.id from sluice.jobs j
     where j.state = 2 and j.owner is not null and j.owner <> all (p_alive) and j.deaths + 1 < p_deaths
     order by j.id limit p_limit for update skip locked),
  back as (
    update sluice.jobs j set state = 1, owner = null, deaths = j.deaths + 1 from lost where j.id = lost.id returning 1)
  select count(*)::int from back
$$;

-- Rows that need a settlement in their dead owner's name: calling ones, and owned ones with no life left; not locked: settle is fenced.
create function sluice.left_calling_v1(p_alive bigint[], p_alive_owned bigint[], p_deaths int, p_limit int)
returns table (job bigint, uuid uuid, day date, lane int, run bigint, was smallint, attempt smallint, first_attempt smallint, max_attempts smallint,
               deaths smallint, execution smallint, retry_unknown boolean, streams boolean, cancel boolean,
               due_at float8, deadline float8, admitted_at float8, body bytea, facts text, requester bytea,
               owner bigint, account text, provider_model text, worst_nano bigint, started_at float8)
language sql volatile as $$
  select j.id, j.uuid, j.day, j.lane, j.run, j.state, j.attempt, j.first_attempt, j.max_attempts, j.deaths, j.execution, j.retry_unknown, j.streams, j.cancel,
         extract(epoch from j.due_at)::float8, extract(epoch from j.deadline)::float8, extract(epoch from j.admitted_at)::float8,
         q.body, q.facts, q.requester, j.owner, a.account, a.provider_model, a.worst_nano, extract(epoch from a.started_at)::float8
    from sluice.jobs j
    join sluice.requests q on q.job = j.id and q.day = j.day
    left join sluice.attempts a on a.job = j.id and a.day = j.day and a.attempt = j.attempt and j.state = 3
   where j.owner is not null
     and ((j.state = 3 and j.owner <> all (p_alive)) or (j.state = 2 and j.owner <> all (p_alive_owned) and j.deaths + 1 >= p_deaths))
   order by j.id limit p_limit
$$;

-- Attempts that a dead process was still reading for a job answered before.
create function sluice.left_reading_v1(p_alive bigint[], p_limit int)
returns table (job bigint, uuid uuid, day date, attempt smallint, worker bigint, facts text, account text, provider_model text, worst_nano bigint, started_at float8)
language sql volatile as $$
  select o.job, r.uuid, o.day, o.attempt, o.worker, q.facts, a.account, a.provider_model, a.worst_nano, extract(epoch from a.started_at)::float8
    from sluice.reading_on o
    join sluice.requests q on q.job = o.job and q.day = o.day
    join sluice.attempts a on a.job = o.job and a.day = o.day and a.attempt = o.attempt
    join sluice.responses r on r.job = o.job and r.day = o.day
   where o.worker <> all (p_alive)
   order by o.job limit p_limit
$$;
