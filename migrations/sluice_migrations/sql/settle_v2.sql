-- One settlement: terminal state, response, usage, what is held, the release of all that the attempt reserved, and the events commit
-- together, under the owner's token. Rows are locked jobs, then scopes, then budget periods, each in the order of their ids.
-- Twins of the decisions: sluice_core.jobs.policy.settle, sluice_core.admission.policy.

create type sluice.settlement_v2 as (
  job bigint, uuid uuid, day date,
  attempt smallint,                          -- the job's last attempt as the caller knows it
  state smallint,                            -- to be: terminal, 4 retry_wait, or 2: still the caller's, who asks another target;
                                             -- 0 = the job was answered before, only its attempt ends
  run_at float8,                             -- epoch seconds, with 4
  death boolean,                             -- the owner died under it
  outcome smallint,                          -- of the attempt; null: none was open; 0: it stays open and is read on
  code text, status smallint, provider_request_id text,
  usage_id uuid, held_nano bigint, input_nano bigint, -- held: an unknown outcome's money
  ce_id uuid,
  pressure float8,                           -- on the account: 1 it answered well; below 1: how far to cut its concurrency; null: nothing learnt
  cool_until float8                          -- epoch seconds: nothing goes to this target before; null: it did not say
);

-- verdicts: 0 fenced (kept in late_outcomes)  1 settled  2 settled by the caller before
-- outbox: ids of the rows written, in the order of out_kinds / out_jobs (1 result, 2 duplicate's result, 3 usage).
create function sluice.settle_v2(
  p_owner bigint, p_settlements sluice.settlement_v2[], p_results bytea[], p_usage sluice.usage_v1[], p_evidence boolean,
  out verdicts smallint[], out outbox bigint[], out out_kinds smallint[], out out_jobs bigint[], out recorded_at timestamptz)
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  n int := cardinality(p_settlements);
  v_now timestamptz := clock_timestamp();
  v_waited boolean := false;
  v_held boolean := false;
  v_last bigint;
  r record; s sluice.settlement_v2; i int; v_usage uuid[] := '{}'; v_ended sluice.ended_v2[];
begin
  recorded_at := v_now;
  verdicts := array_fill(0::smallint, array[n]);
  for r in select j.id, e.ord, e.attempt as claimed, e.state as target, e.outcome, e.held_nano, j.state, j.owner, j.attempt, j.waited
             from unnest(p_settlements) with ordinality
                  e(job, uuid, day, attempt, state, run_at, death, outcome, code, status, provider_request_id, usage_id, held_nano, input_nano, ce_id, pressure, cool_until, ord)
             join sluice.jobs j on j.id = e.job order by j.id for update of j loop
    continue when r.target = 0 or r.id = v_last; -- one settlement a job
    v_last := r.id;
    if r.owner = p_owner and r.state in (2, 3) and r.attempt = r.claimed and (r.state = 3) = (r.outcome is not null) then
      verdicts[r.ord] := 1; v_waited := v_waited or r.waited;
    end if;
  end loop;
  for i in 1..n loop
    s := p_settlements[i];
    if s.state = 0 then
      delete from sluice.reading_on o where o.job = s.job and o.attempt = s.attempt and o.worker = p_owner;
      if found then verdicts[i] := 1; end if;
    end if;
    v_held := v_held or s.held_nano is not null;
    if verdicts[i] = 1 then
      v_usage := v_usage || s.usage_id;
    else
      if (s.outcome > 0 and exists (select from sluice.attempts a where a.job = s.job and a.day = s.day and a.attempt = s.attempt
                                     and a.worker = p_owner and a.outcome = s.outcome and a.usage_id is not distinct from s.usage_id))
         or exists (select from sluice.responses p where p.job = s.job and p.day = s.day and p.ce_id = s.ce_id) then
        verdicts[i] := 2;
      elsif p_evidence then
        insert into sluice.late_outcomes (worker, job, attempt, state, cost_nano, usage)
        select p_owner, s.job, s.attempt, s.state, coalesce(u.cost_nano, 0), to_jsonb(u)
          from (select 1) one left join unnest(p_usage) u on u.job = s.job;
      end if;
    end if;
  end loop;

  update sluice.jobs j
     set state = e.state, owner = case when e.state = 2 then j.owner end,
         run_at = case when e.state = 4 then to_timestamp(e.run_at) end,
         due_at = case when e.state in (2, 4) then j.deadline else j.due_at end, -- max_wait_s ends with the first attempt
         finished_at = case when e.state >= 10 then v_now end,
         deaths = j.deaths + e.death::int
    from unnest(p_settlements, verdicts)
         e(job, uuid, day, attempt, state, run_at, death, outcome, code, status, provider_request_id, usage_id, held_nano, input_nano, ce_id, pressure, cool_until, verdict)
   where j.id = e.job and e.verdict = 1 and e.state > 0;
  with ended as (
    update sluice.attempts a
       set outcome = e.outcome, ended_at = v_now, code = e.code, status = e.status, provider_request_id = e.provider_request_id, usage_id = e.usage_id
      from unnest(p_settlements, verdicts)
           e(job, uuid, day, attempt, state, run_at, death, outcome, code, status, provider_request_id, usage_id, held_nano, input_nano, ce_id, pressure, cool_until, verdict)
      left join unnest(p_usage) u on u.usage_id = e.usage_id
     where a.job = e.job and a.day = e.day and a.attempt = e.attempt and e.verdict = 1 and e.outcome > 0
    returning a.scopes, a.periods, a.class, a.tokens, a.bound, a.worst_nano, e.held_nano, e.pressure, e.cool_until,
              coalesce(u.input_tokens + u.output_tokens, 0) as used, coalesce(u.cost_nano, 0) as cost_nano)
  select array_agg((e.scopes, e.periods, e.class, e.tokens, e.bound, e.used, e.worst_nano, e.held_nano, e.cost_nano, e.pressure, e.cool_until)::sluice.ended_v2)
    into v_ended from ended e where e.scopes <> '{}';
  insert into sluice.reading_on (job, attempt, day, worker)
  select e.job, e.attempt, e.day, p_owner from unnest(p_settlements, verdicts)
         e(job, uuid, day, attempt, state, run_at, death, outcome, code, status, provider_request_id, usage_id, held_nano, input_nano, ce_id, pressure, cool_until, verdict)
   where e.verdict = 1 and e.outcome = 0;
  insert into sluice.responses (job, uuid, day, ce_id, finished_at, result)
  select e.job, e.uuid, e.day, e.ce_id, v_now, e.result from unnest(p_settlements, verdicts, p_results)
         e(job, uuid, day, attempt, state, run_at, death, outcome, code, status, provider_request_id, usage_id, held_nano, input_nano, ce_id, pressure, cool_until, verdict, result)
   where e.verdict = 1 and e.state >= 10;
  if cardinality(p_usage) > 0 then
    insert into finance.usage (usage_id, job_id, attempt, run_id, recorded_at, started_at, ended_at, tenant, team, project, app, user_id, tags, key_id,
      provider, account, region, model_requested, provider_model, provider_request_id, operation, class, service_tier, arm, prompt_version,
      input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, usage_source, meters, cost_usd, list_cost_usd,
      price_version, outcome, cache, provider_ms)
    select u.usage_id, u.job_id, u.attempt, u.run_id, v_now, to_timestamp(u.started_at), to_timestamp(u.ended_at), u.tenant, u.team, u.project, u.app,
      u.user_id, u.tags::jsonb, u.key_id, u.provider, u.account, u.region, u.model_requested, u.provider_model, u.provider_request_id, u.operation,
      u.class, u.service_tier, u.arm, u.prompt_version, u.input_tokens, u.cache_read_tokens, u.cache_write_tokens, u.output_tokens,
      u.reasoning_tokens, u.usage_source, u.meters::jsonb, u.cost_nano * 0.000000001, u.list_cost_nano * 0.000000001, u.price_version, u.outcome,
      u.cache, u.provider_ms
      from unnest(p_usage) u where u.usage_id = any (v_usage);
  end if;
  if v_held then
    insert into sluice.unresolved (usage_id, recorded_at, tenant, job, attempt, held_nano, input_nano, since, provider_request_id, periods)
    select e.usage_id, v_now, u.tenant, e.job, e.attempt, e.held_nano, e.input_nano, v_now, e.provider_request_id, coalesce(a.periods, '{}') from unnest(p_settlements, verdicts)
         e(job, uuid, day, attempt, state, run_at, death, outcome, code, status, provider_request_id, usage_id, held_nano, input_nano, ce_id, pressure, cool_until, verdict)
      join unnest(p_usage) u on u.usage_id = e.usage_id
      left join sluice.attempts a on a.job = e.job and a.day = e.day and a.attempt = e.attempt
     where e.verdict = 1 and e.held_nano is not null;
  end if;

  with due as (
    insert into sluice.outbox (owner, kind, job, day, record, usage_id, usage_at)
    select p_owner, 1::smallint, e.job, e.day, null::uuid, null::uuid, null::timestamptz from unnest(p_settlements, verdicts)
         e(job, uuid, day, attempt, state, run_at, death, outcome, code, status, provider_request_id, usage_id, held_nano, input_nano, ce_id, pressure, cool_until, verdict)
     where e.verdict = 1 and e.state >= 10
    union all
    select p_owner, 3::smallint, u.job, null::date, null::uuid, u.usage_id, v_now from unnest(p_usage) u where u.usage_id = any (v_usage)
    returning id, kind, job)
  select array_agg(id), array_agg(kind), array_agg(job) into outbox, out_kinds, out_jobs from due;
  -- The waiters are read after the job row is locked: none can join any more.
  if v_waited then
    with due as (
      insert into sluice.outbox (owner, kind, job, day, record)
      select p_owner, 2, e.job, e.day, w.record from unnest(p_settlements, verdicts)
           e(job, uuid, day, attempt, state, run_at, death, outcome, code, status, provider_request_id, usage_id, held_nano, input_nano, ce_id, pressure, cool_until, verdict)
        join sluice.waiters w on w.job = e.job and w.requester is not null
       where e.verdict = 1 and e.state >= 10
      returning id, kind, job)
    select outbox || coalesce(array_agg(id), '{}'), out_kinds || coalesce(array_agg(kind), '{}'), out_jobs || coalesce(array_agg(job), '{}')
      into outbox, out_kinds, out_jobs from due;
  end if;
  -- Last, since these rows are everybody's: they are locked for as short a time as can be.
  if v_ended is not null then perform sluice.give_back_v2(v_ended); end if;
end $$;
