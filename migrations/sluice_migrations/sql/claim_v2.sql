-- Claiming with a bound for each lane. The cursors come in the order of fairness; lanes that are blocked or held do not come at all.

create type sluice.cursor_v2 as (lane int, due_at float8, job bigint, most int);

-- Takes up to `most` parked rows after each cursor and up to `most` due retries of its lane, both the earliest first and in turns,
-- lane by lane in turns as well: up to p_limit rows and p_bytes of requests, and always one where there is one.
create function sluice.claim_v2(p_owner bigint, p_cursors sluice.cursor_v2[], p_limit int, p_bytes bigint)
returns table (job bigint, uuid uuid, day date, lane int, run bigint, was smallint, attempt smallint, first_attempt smallint, max_attempts smallint,
               deaths smallint, execution smallint, retry_unknown boolean, streams boolean, cancel boolean,
               due_at float8, deadline float8, admitted_at float8, body bytea, facts text, requester bytea)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_ids bigint[]; v_retries bigint[];
  v_now timestamptz := clock_timestamp();    -- a variable bounds an index scan, the volatile function would not
begin
  select array_agg(t.id), array_agg(t.id) filter (where t.state = 4) into v_ids, v_retries from (
    select p.id, p.state, sum(p.bytes) over (order by p.nth, p.ord, p.state, p.id) - p.bytes as before from (
      select c.id, c.state, c.bytes, c.nth, l.ord from unnest(p_cursors) with ordinality l(lane, due_at, job, most, ord)
       cross join lateral (
         select f.id, f.bytes, 1::smallint as state, row_number() over () as nth from (
           select q.id, q.bytes from sluice.jobs q
            where q.state = 1 and q.lane = l.lane and (q.due_at, q.id) > (to_timestamp(l.due_at), l.job)
            order by q.due_at, q.id limit l.most for update skip locked) f
         union all
         select r.id, r.bytes, 4::smallint, row_number() over () from (
           select q.id, q.bytes from sluice.jobs q
            where q.state = 4 and q.lane = l.lane and q.run_at <= v_now
            order by q.run_at, q.id limit l.most for update skip locked) r) c
       order by c.nth, l.ord, c.state limit p_limit) p) t
   where t.before < p_bytes;
  return query
    with mine as (
      update sluice.jobs j set state = 2, owner = p_owner, run_at = null
        from unnest(v_ids) v(id) where j.id = v.id and j.state in (1, 4)
      returning j.*)
    select m.id, m.uuid, m.day, m.lane, m.run, case when m.id = any (v_retries) then 4 else 1 end::smallint, m.attempt, m.first_attempt,
           m.max_attempts, m.deaths, m.execution, m.retry_unknown, m.streams,
           m.cancel, extract(epoch from m.due_at)::float8, extract(epoch from m.deadline)::float8, extract(epoch from m.admitted_at)::float8,
           q.body, q.facts, q.requester
      from mine m join sluice.requests q on q.job = m.id and q.day = m.day;
end $$;

-- Takes rows whose next step is their end, whoever serves their lane: cancelled, past due, or of a held run and past due.
create function sluice.claim_ending_v2(p_owner bigint, p_limit int)
returns table (job bigint, uuid uuid, day date, lane int, run bigint, was smallint, attempt smallint, first_attempt smallint, max_attempts smallint,
               deaths smallint, execution smallint, retry_unknown boolean, streams boolean, cancel boolean,
               due_at float8, deadline float8, admitted_at float8, body bytea, facts text, requester bytea, waits_for text)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
#variable_conflict use_column
declare v_now timestamptz := clock_timestamp();
begin
  return query
    with cancelled as (
      select j.id from sluice.jobs j where j.cancel and j.state < 10 and j.state in (1, 4) order by j.id limit p_limit for update skip locked),
    late as (
      select c.id from sluice.lanes l cross join lateral (
        select q.id from sluice.jobs q where q.state = 1 and q.lane = l.id and q.due_at <= v_now
         order by q.due_at, q.id limit p_limit for update skip locked) c),
    overdue as (
      select j.id from sluice.jobs j where j.state = 4 and j.run_at <= v_now and j.due_at <= v_now
       order by j.run_at, j.id limit p_limit for update skip locked),
    mine as (
      update sluice.jobs j set state = 2, owner = p_owner, run_at = null
       where j.id in (select c.id from cancelled c union select o.id from late o union select o.id from overdue o)
      returning j.*)
    select m.id, m.uuid, m.day, m.lane, m.run, 1::smallint, m.attempt, m.first_attempt, m.max_attempts, m.deaths, m.execution, m.retry_unknown, m.streams,
           m.cancel, extract(epoch from m.due_at)::float8, extract(epoch from m.deadline)::float8, extract(epoch from m.admitted_at)::float8,
           ''::bytea, q.facts, q.requester, case when l.waits_until > v_now then l.waits_for end
      from mine m join sluice.requests q on q.job = m.id and q.day = m.day join sluice.lanes l on l.id = m.lane;
end $$;

-- Sets owned rows of held runs aside, so that nobody claims them again and again; they end when they would have ended.
create function sluice.shelve_v1(p_owner bigint, p_jobs bigint[]) returns int language sql volatile as $$
  with held as materialized (
    select j.id from sluice.jobs j where j.id = any (p_jobs) and j.owner = p_owner and j.state = 2 and j.run is not null order by j.id for update),
  aside as (
    update sluice.jobs j set state = 4, owner = null, run_at = j.due_at from held where j.id = held.id returning j.run, j.id),
  noted as (
    insert into sluice.shelved (run, job) select a.run, a.id from aside a order by 1, 2 on conflict do nothing)
  select count(*)::int from aside
$$;

-- Puts rows of runs that nobody holds (any more) back into their lanes, p_limit at a time: every pass, so that it cannot be forgotten.
create function sluice.unshelve_v1(p_limit int) returns int language sql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
  -- A walk over the distinct runs: a held one with a million rows costs one step.
  with recursive aside (run) as (
    (select s.run from sluice.shelved s order by s.run limit 1)
    union all
    select (select s.run from sluice.shelved s where s.run > a.run order by s.run limit 1) from aside a where a.run is not null),
  free as materialized (
    select c.run, c.job from aside a join sluice.runs r on r.id = a.run cross join lateral (
      select s.run, s.job from sluice.shelved s where s.run = a.run order by s.job limit p_limit) c
     where not exists (select from sluice.holds h where h.kind = 'run' and h.tenant = r.tenant and h.name = r.name)
     limit p_limit),
  -- Of what ended meanwhile only the entry is left.
  waits as materialized (
    select j.id from sluice.jobs j join free f on f.job = j.id where j.state = 4 and j.run_at = j.due_at order by j.id for update of j),
  back as (
    update sluice.jobs j set state = 1, run_at = null from waits w where j.id = w.id returning 1),
  gone as (
    delete from sluice.shelved s using free f where s.run = f.run and s.job = f.job returning 1)
  select count(*)::int from gone
$$;

-- The lanes that have parked rows, by a walk that costs one step a lane.
create function sluice.waiting_lanes_v1() returns setof int language sql volatile
set enable_seqscan = off set jit = off as $$
  with recursive waiting (lane) as (
    (select j.lane from sluice.jobs j where j.state = 1 order by j.lane limit 1)
    union all
    select (select j.lane from sluice.jobs j where j.state = 1 and j.lane > w.lane order by j.lane limit 1)
      from waiting w where w.lane is not null)
  select w.lane from waiting w where w.lane is not null
$$;

-- Parked rows of each tenant in one class; counting ends at its limit.
create function sluice.parked_v1(p_class smallint, p_tenants text[], p_limits bigint[]) returns bigint[] language sql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
  select coalesce(array_agg(c.parked order by t.ord), '{}') from unnest(p_tenants, p_limits) with ordinality t(tenant, most, ord)
   cross join lateral (
     select count(*) as parked from (
       select 1 from sluice.lanes l join sluice.jobs j on j.lane = l.id and j.state = 1
        where l.tenant = t.tenant and l.class = p_class limit t.most) s) c
$$;

revoke execute on function sluice.claim_v2, sluice.claim_ending_v2, sluice.shelve_v1, sluice.unshelve_v1, sluice.waiting_lanes_v1, sluice.parked_v1 from public;
grant execute on function sluice.claim_v2, sluice.claim_ending_v2, sluice.shelve_v1, sluice.unshelve_v1, sluice.waiting_lanes_v1, sluice.parked_v1 to sluice_service;
