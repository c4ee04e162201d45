-- What a dead process was in the middle of. Plans are made once a session: over the partitions of every day that is kept, a plan takes
-- longer than all else that a pass does. And where nothing is left, which is mostly so, none is made.

-- As left_calling_v1.
create function sluice.left_calling_v2(p_silent bigint[], p_silent_owned bigint[], p_deaths int, p_limit int)
returns table (job bigint, uuid uuid, day date, lane int, run bigint, was smallint, attempt smallint, first_attempt smallint, max_attempts smallint,
               deaths smallint, execution smallint, retry_unknown boolean, streams boolean, cancel boolean,
               due_at float8, deadline float8, admitted_at float8, body bytea, facts text, requester bytea,
               owner bigint, account text, provider_model text, worst_nano bigint, input_nano bigint, started_at float8)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  v_unheard bigint[] := sluice.unheard_v1();
begin
  if cardinality(p_silent || p_silent_owned || v_unheard) = 0 then
    return;
  end if;
  return query
  with dead as materialized (
    select o.owner, bool_or(o.calling) as calling, bool_or(o.owned) as owned from (
      select s, true, false from unnest(p_silent) s union all select s, false, true from unnest(p_silent_owned) s
      union all select u, true, true from unnest(v_unheard) u) o(owner, calling, owned)
     group by o.owner)
  select j.id, j.uuid, j.day, j.lane, j.run, j.state, j.attempt, j.first_attempt, j.max_attempts, j.deaths, j.execution, j.retry_unknown, j.streams, j.cancel,
         extract(epoch from j.due_at)::float8, extract(epoch from j.deadline)::float8, extract(epoch from j.admitted_at)::float8,
         ''::bytea, q.facts, q.requester, j.owner, a.account, a.provider_model, a.worst_nano, a.input_nano, extract(epoch from a.started_at)::float8
    from dead d
   cross join lateral (select * from sluice.jobs x where x.owner = d.owner and x.state in (2, 3) offset 0) j
    join sluice.requests q on q.job = j.id and q.day = j.day
    left join sluice.attempts a on a.job = j.id and a.day = j.day and a.attempt = j.attempt and j.state = 3
   where (j.state = 3 and d.calling) or (j.state = 2 and j.deaths + 1 >= p_deaths and d.owned)
   order by j.id limit p_limit;
end
$$;

-- As left_reading_v1.
create function sluice.left_reading_v2(p_silent bigint[], p_limit int)
returns table (job bigint, uuid uuid, day date, attempt smallint, worker bigint, facts text,
               account text, provider_model text, worst_nano bigint, input_nano bigint, started_at float8)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  if not exists (select from sluice.reading_on) then
    return;
  end if;
  return query
  select o.job, r.uuid, o.day, o.attempt, o.worker, q.facts,
         a.account, a.provider_model, a.worst_nano, a.input_nano, extract(epoch from a.started_at)::float8
    from sluice.reading_on o
   cross join lateral (select x.facts from sluice.requests x where x.job = o.job and x.day = o.day offset 0) q
   cross join lateral (
     select x.account, x.provider_model, x.worst_nano, x.input_nano, x.started_at
       from sluice.attempts x where x.job = o.job and x.day = o.day and x.attempt = o.attempt offset 0) a
   cross join lateral (select x.uuid from sluice.responses x where x.job = o.job and x.day = o.day offset 0) r
   where o.worker = any (p_silent) or not exists (select from sluice.workers w where w.incarnation = o.worker)
   order by o.job limit p_limit;
end
$$;

revoke execute on function sluice.left_calling_v2, sluice.left_reading_v2 from public;
grant execute on function sluice.left_calling_v2, sluice.left_reading_v2 to sluice_service;
