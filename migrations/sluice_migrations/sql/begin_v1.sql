-- Intent before call: the attempt is durable, under the caller's fencing token, or there is no call.
-- Twin of the decision: sluice_core.jobs.policy.begin.

create type sluice.intent_v1 as (job bigint, day date, account text, provider_model text, worst_nano bigint, input_nano bigint);

-- verdicts: 0 not the caller's any more  1 begun  2 cancelled  3 past its deadline
create function sluice.begin_v1(p_owner bigint, p_intents sluice.intent_v1[], out verdicts smallint[], out attempts smallint[])
language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  n int := cardinality(p_intents);
  v_now timestamptz := clock_timestamp();
  r record;
begin
  verdicts := array_fill(0::smallint, array[n]); attempts := array_fill(0::smallint, array[n]);
  for r in select i.ord, j.state, j.owner, j.cancel, j.deadline, j.attempt
             from unnest(p_intents) with ordinality i(job, day, account, provider_model, worst_nano, input_nano, ord)
             join sluice.jobs j on j.id = i.job order by j.id for update of j loop
    if r.owner = p_owner and r.state = 2 then
      attempts[r.ord] := r.attempt + 1;
      verdicts[r.ord] := case when r.cancel then 2 when r.deadline <= v_now then 3 else 1 end;
    end if;
  end loop;
  update sluice.jobs j set state = 3, attempt = i.attempt
    from unnest(p_intents, verdicts, attempts) i(job, day, account, provider_model, worst_nano, input_nano, verdict, attempt)
   where j.id = i.job and i.verdict = 1;
  insert into sluice.attempts (job, day, attempt, worker, started_at, worst_nano, input_nano, account, provider_model)
  select i.job, i.day, i.attempt, p_owner, v_now, i.worst_nano, i.input_nano, i.account, i.provider_model
    from unnest(p_intents, verdicts, attempts) i(job, day, account, provider_model, worst_nano, input_nano, verdict, attempt)
   where i.verdict = 1;
end $$;
