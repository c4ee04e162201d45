-- Claiming: a keyset cursor per lane, so that the cost stays flat however many rows were claimed before it.

create type sluice.cursor_v1 as (lane int, due_at float8, job bigint);

-- Takes up to p_limit rows and p_bytes of requests. p_retries: due retry_wait rows of these lanes first.
create function sluice.claim_v1(p_owner bigint, p_cursors sluice.cursor_v1[], p_per_lane int, p_limit int, p_bytes bigint, p_retries boolean)
returns table (job bigint, uuid uuid, day date, lane int, run bigint, was smallint, attempt smallint, first_attempt smallint, max_attempts smallint,
               deaths smallint, execution smallint, retry_unknown boolean, streams boolean, cancel boolean,
               due_at float8, deadline float8, admitted_at float8, body bytea, facts text, requester bytea)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_ids bigint[] := '{}'; v_more bigint[]; v_left bigint := p_bytes; v_lanes int[];
  v_now timestamptz := clock_timestamp();    -- a variable bounds an index scan, the volatile function would not
begin
  if p_retries then
    select array_agg(c.lane) into v_lanes from unnest(p_cursors) c;
    select array_agg(t.id), v_left - coalesce(sum(t.bytes), 0) into v_ids, v_left from (
      select p.id, p.bytes, sum(p.bytes) over (order by p.run_at, p.id) as total from (
        select j.id, j.bytes, j.run_at from sluice.jobs j
         where j.state = 4 and j.run_at <= v_now and j.lane = any (v_lanes)
         order by j.run_at, j.id limit p_limit for update skip locked) p) t
     where t.total <= p_bytes;
    v_ids := coalesce(v_ids, '{}');
  end if;
  if cardinality(v_ids) < p_limit and v_left > 0 then
    select array_agg(t.id) into v_more from (
      select p.id, sum(p.bytes) over (order by p.nth, p.due_at, p.id) - p.bytes as before from (
        select c.id, c.bytes, c.due_at, c.nth from unnest(p_cursors) l(lane, due_at, job)
         cross join lateral (
           select j.id, j.bytes, j.due_at, row_number() over () as nth from (
             select q.id, q.bytes, q.due_at from sluice.jobs q
              where q.state = 1 and q.lane = l.lane and (q.due_at, q.id) > (to_timestamp(l.due_at), l.job)
              order by q.due_at, q.id limit p_per_lane for update skip locked) j) c
         order by c.nth limit p_limit - cardinality(v_ids)) p) t
     where t.before < v_left;
    v_ids := v_ids || coalesce(v_more, '{}');
  end if;
  return query
    with mine as (
      update sluice.jobs j set state = 2, owner = p_owner, run_at = null
        from unnest(v_ids) v(id) where j.id = v.id and j.state in (1, 4)
      returning j.*)
    select m.id, m.uuid, m.day, m.lane, m.run, 1::smallint, m.attempt, m.first_attempt, m.max_attempts, m.deaths, m.execution, m.retry_unknown, m.streams,
           m.cancel, extract(epoch from m.due_at)::float8, extract(epoch from m.deadline)::float8, extract(epoch from m.admitted_at)::float8,
           q.body, q.facts, q.requester
      from mine m join sluice.requests q on q.job = m.id and q.day = m.day;
end $$;

-- Takes rows whose next step is their end, whoever serves their lane: cancelled or past due while nobody owns them.
create function sluice.claim_ending_v1(p_owner bigint, p_limit int)
returns table (job bigint, uuid uuid, day date, lane int, run bigint, was smallint, attempt smallint, first_attempt smallint, max_attempts smallint,
               deaths smallint, execution smallint, retry_unknown boolean, streams boolean, cancel boolean,
               due_at float8, deadline float8, admitted_at float8, body bytea, facts text, requester bytea)
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
      select j.id from sluice.jobs j where j.state = 4 and j.run_at <= v_now and j.deadline <= v_now
       order by j.run_at, j.id limit p_limit for update skip locked),
    mine as (
      update sluice.jobs j set state = 2, owner = p_owner, run_at = null
       where j.id in (select c.id from cancelled c union select o.id from late o union select o.id from overdue o)
      returning j.*)
    select m.id, m.uuid, m.day, m.lane, m.run, 1::smallint, m.attempt, m.first_attempt, m.max_attempts, m.deaths, m.execution, m.retry_unknown, m.streams,
           m.cancel, extract(epoch from m.due_at)::float8, extract(epoch from m.deadline)::float8, extract(epoch from m.admitted_at)::float8,
           ''::bytea, q.facts, q.requester
      from mine m join sluice.requests q on q.job = m.id and q.day = m.day;
end $$;

-- Gives owned rows back unstarted (draining, self-audit); a call in flight never goes back this way.
create function sluice.release_v1(p_owner bigint, p_jobs bigint[]) returns int language sql volatile as $$
  with held as (
    select j.id from sluice.jobs j where j.id = any (p_jobs) and j.owner = p_owner and j.state = 2 order by j.id for update),
  freed as (
    update sluice.jobs j set state = 1, owner = null from held where j.id = held.id returning 1)
  select count(*)::int from freed
$$;
