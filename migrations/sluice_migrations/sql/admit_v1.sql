-- Admission: one statement a poll. Every record ends in exactly one row of its kind before its offset is committed.

create type sluice.admission_v1 as (
  uuid uuid, record uuid, body_hash bytea,
  lane int, state smallint,                  -- asked for: 1 parked, 2 owned by the caller, 12 rejected
  max_attempts smallint, retry_unknown boolean, streams boolean, rerun boolean,
  due_at float8, deadline float8,            -- epoch seconds
  run bigint, tenant text, run_name text,
  ce_id uuid                                 -- of a rejection's result
);
create type sluice.dead_letter_v1 as (
  record uuid, topic text, partition int, "offset" bigint, code text, message text,
  to_topic text, key bytea, headers bytea, value bytea
);

-- What a record means that names a job which exists. Twin: sluice_core.jobs.policy.duplicate.
--   1 join the wait  2 send the stored result again  3 next execution  4 conflict  5 nothing: this record was here before
create function sluice.duplicate_v1(p_state smallint, p_seen boolean, p_same_body boolean, p_rerun boolean)
returns smallint language sql immutable as $$
  select (case when p_seen then 5
               when not p_same_body then 4
               when p_state < 10 then 1
               when p_state = 12 then 3
               when p_rerun and p_state in (11, 13, 14) then 3
               else 2 end)::smallint
$$;

-- verdicts: 0 ask again (its job was just moved)  1 admitted  2 joined a live job  3 stored result is sent again  4 conflict: reject it
--           5 redelivered, nothing done  6 admitted, owned by the caller, and already cancelled
-- For 1 and 6 jobs, executions and attempts (those made by earlier executions) are set. results_out: the outbox rows of rejections.
create function sluice.admit_v1(
  p_owner bigint, p_entries sluice.admission_v1[], p_bodies bytea[], p_facts text[], p_requesters bytea[], p_results bytea[],
  p_dead sluice.dead_letter_v1[],
  out verdicts smallint[], out jobs bigint[], out executions smallint[], out attempts smallint[], out day date, out outbox bigint[])
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  n int := coalesce(cardinality(p_entries), 0);
  v_now timestamptz := clock_timestamp();
  v_day date := (v_now at time zone 'UTC')::date;
  v_ids bigint[]; v_fresh uuid[]; v_new bigint[]; v_states smallint[]; v_cancel boolean[];
  r record; what smallint; v_job bigint; v_live sluice.jobs; v_seen boolean; i int;
begin
  day := v_day; outbox := '{}';
  verdicts := array_fill(0::smallint, array[n]); executions := array_fill(1::smallint, array[n]); attempts := array_fill(0::smallint, array[n]);
  if cardinality(p_dead) > 0 then
    with new as (
      insert into sluice.dead_letters (record, topic, partition, "offset", code, message)
      select d.record, d.topic, d.partition, d."offset", d.code, d.message from unnest(p_dead) d order by d.record
      on conflict do nothing returning record),
    due as (
      insert into sluice.outbox (owner, kind, topic, key, headers, value)
      select p_owner, 4, d.to_topic, d.key, d.headers, d.value from unnest(p_dead) d join new on new.record = d.record
      returning id)
    select coalesce(array_agg(id), '{}') into outbox from due;
  end if;
  if n = 0 then jobs := '{}'; return; end if;

  -- Identities go in ordered, so that two admissions of the same ones never wait in a ring.
  select array_agg(nextval('sluice.job_ids')) into v_ids from generate_series(1, n);
  with ins as (
    insert into sluice.identities as t (uuid, job, record, body_hash)
    select e.uuid, e.id, e.record, e.body_hash from unnest(p_entries, v_ids)
           e(uuid, record, body_hash, lane, state, max_attempts, retry_unknown, streams, rerun, due_at, deadline, run, tenant, run_name, ce_id, id)
     order by e.uuid
    on conflict (uuid) do nothing
    returning t.uuid, t.job)
  select array_agg(ins.uuid), array_agg(ins.job) into v_fresh, v_new from ins;
  select array_agg(case when v.id = any (v_new) then v.id end order by v.ord) into jobs from unnest(v_ids) with ordinality v(id, ord);
  select array_agg(e.state) into v_states from unnest(p_entries) e;
  v_cancel := array_fill(false, array[n]);

  -- Past identities are probed in a second statement, with a new snapshot: one that was moved while we inserted is seen here.
  for r in select distinct on (p.uuid) p.uuid, p.id, p.day, p.state, p.attempt, p.execution, p.body_hash, p.record, p.deaths
             from unnest(v_fresh) f(uuid) join sluice.jobs_past p on p.uuid = f.uuid order by p.uuid, p.execution desc loop
    for i in 1..n loop
      continue when (p_entries[i]).uuid <> r.uuid;
      v_seen := r.record = (p_entries[i]).record or exists (select from sluice.waiters w where w.job = r.id and w.record = (p_entries[i]).record);
      what := sluice.duplicate_v1(r.state, v_seen, r.body_hash = (p_entries[i]).body_hash, (p_entries[i]).rerun);
      if what = 3 then
        executions[i] := r.execution + 1; attempts[i] := r.attempt;
        insert into sluice.waiters (job, record) values (jobs[i], r.record) on conflict do nothing;
        insert into sluice.waiters (job, record) select jobs[i], w.record from sluice.waiters w where w.job = r.id on conflict do nothing;
      else
        delete from sluice.identities t where t.uuid = r.uuid;
        jobs[i] := null;
        verdicts[i] := case what when 2 then 3 when 4 then 4 else 5 end;
        if what = 2 then
          insert into sluice.waiters (job, record, requester) values (r.id, (p_entries[i]).record, p_requesters[i]);
          insert into sluice.outbox (owner, kind, job, day, record) values (p_owner, 2, r.id, r.day, (p_entries[i]).record) returning id into v_job;
          outbox := outbox || v_job;
        end if;
      end if;
    end loop;
  end loop;

  -- Entries whose identity is alive: the job row is locked, in id order, and decides.
  if array_position(jobs, null) is not null then
    for r in select e.ord, t.job, t.record, t.body_hash
               from unnest(p_entries) with ordinality e(uuid, record, body_hash, lane, state, max_attempts, retry_unknown, streams, rerun,
                                                        due_at, deadline, run, tenant, run_name, ce_id, ord)
               join sluice.identities t on t.uuid = e.uuid
              where jobs[e.ord] is null and verdicts[e.ord] = 0 order by t.job loop
      i := r.ord;
      select * into v_live from sluice.jobs j where j.id = r.job for update;
      continue when not found;                -- moved to the past since: verdict 0
      v_seen := r.record = (p_entries[i]).record or exists (select from sluice.waiters w where w.job = r.job and w.record = (p_entries[i]).record);
      what := sluice.duplicate_v1(v_live.state, v_seen, r.body_hash = (p_entries[i]).body_hash, (p_entries[i]).rerun);
      if what = 3 then
        v_job := nextval('sluice.job_ids');
        update sluice.identities t set job = v_job, record = (p_entries[i]).record, body_hash = (p_entries[i]).body_hash where t.uuid = v_live.uuid and t.job = r.job;
        continue when not found;
        jobs[i] := v_job; executions[i] := v_live.execution + 1; attempts[i] := v_live.attempt;
        insert into sluice.waiters (job, record) values (v_job, r.record) on conflict do nothing;
        insert into sluice.waiters (job, record) select v_job, w.record from sluice.waiters w where w.job = r.job on conflict do nothing;
      elsif what in (1, 2) then
        insert into sluice.waiters (job, record, requester) values (r.job, (p_entries[i]).record, p_requesters[i]);
        if what = 1 then
          update sluice.jobs j set waited = true where j.id = r.job and not j.waited;
        else
          insert into sluice.outbox (owner, kind, job, day, record) values (p_owner, 2, r.job, v_live.day, (p_entries[i]).record) returning id into v_job;
          outbox := outbox || v_job;
        end if;
        verdicts[i] := what + 1;
      else
        verdicts[i] := what;
      end if;
    end loop;
  end if;

  -- Cancels that came first. Taking one uses it up; a run's stays.
  if exists (select from sluice.cancels) then
    for r in select e.ord, c.id, c.uuid from unnest(p_entries, jobs) with ordinality
               e(uuid, record, body_hash, lane, state, max_attempts, retry_unknown, streams, rerun, due_at, deadline, run, tenant, run_name, ce_id, job, ord)
               join sluice.cancels c on c.tenant = e.tenant and (c.uuid = e.uuid or c.run = e.run_name)
              where e.job is not null and e.state < 10 loop
      v_cancel[r.ord] := true; v_states[r.ord] := 2;
      if r.uuid is not null then delete from sluice.cancels c where c.id = r.id; end if;
    end loop;
  end if;

  insert into sluice.jobs (id, uuid, run, owner, due_at, deadline, admitted_at, finished_at, day, lane, bytes, state, attempt, first_attempt,
                           max_attempts, execution, retry_unknown, streams, cancel)
  select e.job, e.uuid, e.run, case when e.now_state = 2 then p_owner end, to_timestamp(e.due_at), to_timestamp(e.deadline), v_now,
         case when e.now_state = 12 then v_now end, v_day, e.lane, octet_length(e.body), e.now_state, e.made, e.made,
         e.max_attempts, e.execution, e.retry_unknown, e.streams, e.cancelled
    from unnest(p_entries, jobs, v_states, executions, attempts, v_cancel, p_bodies)
      e(uuid, record, body_hash, lane, state, max_attempts, retry_unknown, streams, rerun, due_at, deadline, run, tenant, run_name, ce_id,
        job, now_state, execution, made, cancelled, body)
   where e.job is not null;
  insert into sluice.requests (job, day, body, facts, requester)
  select e.job, v_day, e.body, e.facts, e.requester from unnest(jobs, p_bodies, p_facts, p_requesters) e(job, body, facts, requester)
   where e.job is not null;

  if 12 = any (v_states) then
    insert into sluice.responses (job, uuid, day, ce_id, finished_at, result)
    select e.job, e.uuid, v_day, e.ce_id, v_now, e.result
      from unnest(p_entries, jobs, p_results) e(uuid, record, body_hash, lane, state, max_attempts, retry_unknown, streams, rerun,
                                                due_at, deadline, run, tenant, run_name, ce_id, job, result)
     where e.job is not null and e.state = 12;
    with due as (
      insert into sluice.outbox (owner, kind, job, day)
      select p_owner, 1, e.job, v_day from unnest(jobs, v_states) e(job, state) where e.job is not null and e.state = 12 returning id)
    select outbox || coalesce(array_agg(id), '{}') into outbox from due;
  end if;

  for i in 1..n loop
    if jobs[i] is not null then verdicts[i] := case when v_cancel[i] then 6 else 1 end; end if;
  end loop;
end $$;
