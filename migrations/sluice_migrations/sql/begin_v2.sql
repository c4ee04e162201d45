-- Intent before call, and everything that the call draws on: the attempt is durable under the caller's fencing token, with its share
-- of every limit and budget, or there is no call. All or nothing for each job, job by job in the order given; what is refused draws
-- on nothing and its row is not written. Rows are locked jobs, then scopes, then budget periods, each in the order of their ids; the
-- states of the latter two are read after that and written as their next version (0002_limits.sql says why).
-- Twins of the decisions: sluice_core.jobs.policy.begin, sluice_core.admission.policy.

create type sluice.intent_v2 as (
  job bigint, day date, account text, provider_model text, worst_nano bigint, input_nano bigint,
  class smallint,                            -- 0 realtime  1 standard  2 bulk
  tokens bigint, bound bigint,               -- input and output together: as expected, and at most
  tenant_floor float8, project_floor float8, -- where the virtual times of those that wait stand
  route text,                                -- why this target was chosen
  hedge boolean                              -- beside the attempt that is under way, which is read on: the job's fate is this one's now
);

-- p_scopes, p_budgets: the distinct rows of this batch, ascending. Job i draws on the places of p_scope_of (in p_scopes) that follow
-- those of job i - 1 up to p_scope_end[i]: its tenant's first, its project's second; and so for budgets.
-- verdicts: 0 not the caller's any more  1 begun  2 cancelled  3 past its deadline
--   for now: 4 a rate  5 concurrency  6 the provider's cool-down  7 money that others have reserved
--   for good: 8 over a hard budget  9 more tokens than a limit can ever let through
-- untils: when to ask again (epoch seconds); of 8: when the budgets' periods end. causes: the scope's id, or minus the budget's.
-- virtuals: three of each of p_scopes, as they are now.
create function sluice.begin_v2(
  p_owner bigint, p_intents sluice.intent_v2[], p_scopes bigint[], p_budgets bigint[],
  p_scope_of int[], p_scope_end int[], p_budget_of int[], p_budget_end int[],
  out verdicts smallint[], out attempts smallint[], out untils float8[], out causes bigint[], out virtuals float8[])
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  n int := cardinality(p_intents);
  v_now timestamptz := clock_timestamp();
  now_us float8; now_s float8;
  headroom constant float8[] := '{1, 0.95, 0.8}';
  recheck_s constant float8 := 0.05;         -- nobody can say when a slot, or others' money, becomes free
  v_first boolean[]; v_begun int := 0;
  v_logged constant boolean := coalesce(current_setting('sluice.decision_log', true), '') = 'on';
  -- one place a scope
  v_kind smallint[] := '{}'; v_in int[] := '{}'; v_most float8[] := '{}'; v_blocked float8[] := '{}'; v_weight float8[] := '{}'; v_rates int[] := '{}';
  v_touched boolean[]; v_version bigint[] := '{}';
  -- one place a rate; three a rate in v_level
  v_meter smallint[] := '{}'; v_limit float8[] := '{}'; v_step float8[] := '{}'; v_burst float8[] := '{}'; v_end float8[] := '{}'; v_level float8[] := '{}';
  v_ids bigint[]; v_period_ids bigint[]; v_periods bigint[]; v_hard boolean[]; v_cap bigint[]; v_used bigint[]; v_reserved bigint[]; v_ends float8[]; v_taken bigint[]; v_versions bigint[];
  r record; it sluice.intent_v2;
  c int; h float8; s int; b int; amount float8; x float8; y float8; free float8; verdict smallint; until float8; cause bigint; scope_from int; budget_from int; d int; q int; z int;
begin
  verdicts := array_fill(0::smallint, array[n]); attempts := array_fill(0::smallint, array[n]);
  untils := array_fill(0::float8, array[n]); causes := array_fill(0::bigint, array[n]); v_first := array_fill(false, array[n]);
  for r in select i.ord, i.hedge, j.state, j.owner, j.cancel, j.deadline, j.attempt, j.first_attempt
             from unnest(p_intents) with ordinality i(job, day, account, provider_model, worst_nano, input_nano, class, tokens, bound, tenant_floor, project_floor, route, hedge, ord)
             join sluice.jobs j on j.id = i.job order by j.id for update of j loop
    if r.owner = p_owner and r.state = (case when r.hedge then 3 else 2 end) then
      attempts[r.ord] := r.attempt + 1;
      v_first[r.ord] := r.attempt = r.first_attempt;
      verdicts[r.ord] := case when r.cancel then 2 when r.deadline <= v_now then 3 else 1 end;
    end if;
  end loop;

  -- What the batch draws on, as it stands under lock.
  virtuals := '{}'; z := 0;
  perform from sluice.scopes s where s.id = any (p_scopes) order by s.id for no key update;
  get diagnostics q = row_count;
  if q <> cardinality(p_scopes) then
    raise exception 'a scope of % is missing', p_scopes using errcode = 'undefined_object';
  end if;
  v_now := clock_timestamp(); now_s := extract(epoch from v_now); now_us := now_s * 1e6; -- waiting for locks is no time gained
  for r in select s.kind, s.weight, s.meters, s.units, s.zones, s.limits, s.steps, s.bursts, least(s.max_in_flight, t.allowed) as most,
                  coalesce(extract(epoch from t.blocked_until), 0)::float8 as blocked, t.version, t.in_flight, t.levels, t.ends, t.virtual
             from sluice.scopes s
            cross join lateral (select * from sluice.scope_state x where x.scope = s.id order by x.era desc limit 1) t
            where s.id = any (p_scopes) order by s.id loop
    v_kind := v_kind || r.kind; v_in := v_in || r.in_flight; v_most := v_most || r.most; v_blocked := v_blocked || r.blocked;
    v_weight := v_weight || r.weight; v_version := v_version || r.version;
    v_rates := v_rates || z; virtuals := virtuals || r.virtual; q := cardinality(r.meters);
    if q > 0 then
      v_meter := v_meter || r.meters; v_limit := v_limit || r.limits; v_step := v_step || r.steps; v_burst := v_burst || r.bursts;
      v_level := v_level || r.levels; v_end := v_end || r.ends;
      for d in 1..q loop
        if r.units[d] is not null and v_end[z + d] <= now_us then
          v_end[z + d] := extract(epoch from sluice.period_end_v1(r.units[d], r.zones[d], v_now)) * 1e6;
          v_level[(z + d) * 3 - 2] := 0;
        end if;
      end loop;
      z := z + q;
    end if;
  end loop;
  v_rates := v_rates || z;
  v_touched := array_fill(false, array[cardinality(p_scopes)]);
  if cardinality(p_budgets) > 0 then
    select l.periods, l.hard, l.caps, l.used, l.reserved, l.ends, l.versions into v_periods, v_hard, v_cap, v_used, v_reserved, v_ends, v_versions
      from sluice.lock_periods_v1(p_budgets, v_now) l;
    v_taken := array_fill(0::bigint, array[cardinality(p_budgets)]);
  end if;

  for i in 1..n loop
    continue when verdicts[i] <> 1;
    it := p_intents[i]; c := it.class + 1; h := headroom[c];
    verdict := 1; until := 0; cause := 0;
    scope_from := case when i = 1 then 1 else p_scope_end[i - 1] + 1 end; budget_from := case when i = 1 then 1 else p_budget_end[i - 1] + 1 end;
    for k in budget_from..p_budget_end[i] loop
      b := p_budget_of[k];
      continue when not v_hard[b];
      if v_used[b] + it.worst_nano > v_cap[b] then
        if verdict <> 8 or v_ends[b] > until then until := v_ends[b]; cause := -p_budgets[b]; end if;
        verdict := 8;
      elsif verdict = 1 and v_used[b] + v_reserved[b] + v_taken[b] + it.worst_nano > v_cap[b] then
        verdict := 7; until := now_s + recheck_s; cause := -p_budgets[b];
      end if;
    end loop;
    if verdict <> 8 then
      <<scopes>>
      for k in scope_from..p_scope_end[i] loop
        s := p_scope_of[k];
        if v_blocked[s] > now_s and v_blocked[s] > until then verdict := 6; until := v_blocked[s]; cause := p_scopes[s]; end if;
        if v_most[s] is not null and v_in[s] >= greatest(1, floor(v_most[s] * h)) and now_s + recheck_s > until then verdict := 5; until := now_s + recheck_s; cause := p_scopes[s]; end if;
        for d in v_rates[s] + 1..v_rates[s + 1] loop
          case v_meter[d]
            when 1 then continue when v_kind[s] < 7 and not v_first[i]; amount := 1;
            when 2 then amount := it.tokens;
            else amount := it.bound;
              if amount > (case when v_end[d] > 0 then v_limit[d] * h else v_burst[d] end) then verdict := 9; cause := p_scopes[s]; exit scopes; end if;
          end case;
          if v_end[d] > 0 then
            -- Of a limit of one or a few, a class's share may not be less than one: it would never come.
            continue when v_level[d * 3 - 2] + case when v_meter[d] = 2 then least(amount, 1) else amount end <= case when v_meter[d] = 3 then v_limit[d] * h else greatest(1, v_limit[d] * h) end;
            free := v_end[d];
          else
            x := greatest(v_level[d * 3 - 3 + c], now_us); y := greatest(v_level[d * 3 - 2], now_us);
            if v_meter[d] = 2 then
              -- Debt: what is expected may overdraw the bucket, and nobody draws on one that is overdrawn.
              free := greatest(x - v_burst[d] * v_step[d] / h, y - v_burst[d] * v_step[d]) + 1;
            else
              free := greatest(x + (amount - v_burst[d]) * v_step[d] / h, y + (amount - v_burst[d]) * v_step[d]);
            end if;
            continue when free <= now_us + 0.5;
          end if;
          if free / 1e6 > until then verdict := 4; until := free / 1e6; cause := p_scopes[s]; end if;
        end loop;
      end loop;
    end if;
    if v_logged and p_budget_end[i] >= budget_from then
      insert into sluice.decision_log (period, job, cap_nano, used_nano, reserved_nano, need_nano, hard, verdict)
      select v_periods[o.b], it.job, v_cap[o.b], v_used[o.b], v_reserved[o.b] + v_taken[o.b], it.worst_nano, v_hard[o.b], verdict
        from unnest(p_budget_of[budget_from:p_budget_end[i]]) o(b);
    end if;
    if verdict <> 1 then
      verdicts[i] := verdict; untils[i] := until; causes[i] := cause;
      continue;
    end if;

    v_begun := v_begun + 1;
    for k in scope_from..p_scope_end[i] loop
      s := p_scope_of[k]; v_touched[s] := true;
      v_in[s] := v_in[s] + 1;
      if k - scope_from < 2 then
        d := s * 3 - 3 + c;
        virtuals[d] := greatest(virtuals[d], case when k = scope_from then it.tenant_floor else it.project_floor end) + it.tokens / v_weight[s];
      end if;
      for d in v_rates[s] + 1..v_rates[s + 1] loop
        case v_meter[d]
          when 1 then continue when v_kind[s] < 7 and not v_first[i]; amount := 1;
          when 2 then amount := it.tokens;
          else amount := it.bound;
        end case;
        if v_end[d] > 0 then
          v_level[d * 3 - 2] := v_level[d * 3 - 2] + amount;
        else
          y := greatest(v_level[d * 3 - 2], now_us) + amount * v_step[d];
          v_level[d * 3 - 2] := y;
          for q in 2..3 loop
            x := greatest(v_level[d * 3 - 3 + q], now_us);
            -- What other classes use is no debt of this one beyond what it could have lent.
            v_level[d * 3 - 3 + q] := case when q = c then x + amount * v_step[d] / headroom[q]
              else greatest(x, least(x + amount * v_step[d] / headroom[q], greatest(y, now_us + v_burst[d] * v_step[d] / headroom[q]))) end;
          end loop;
        end if;
      end loop;
    end loop;
    for k in budget_from..p_budget_end[i] loop
      b := p_budget_of[k]; v_taken[b] := v_taken[b] + it.worst_nano;
    end loop;
  end loop;
  if v_begun = 0 then return; end if;

  update sluice.jobs j set state = 3, attempt = i.attempt
    from unnest(p_intents, verdicts, attempts) i(job, day, account, provider_model, worst_nano, input_nano, class, tokens, bound, tenant_floor, project_floor, route, hedge, verdict, attempt)
   where j.id = i.job and i.verdict = 1;
  if exists (select from unnest(p_intents) i where i.hedge) then
    insert into sluice.reading_on (job, attempt, day, worker)
    select i.job, i.attempt - 1, i.day, p_owner
      from unnest(p_intents, verdicts, attempts) i(job, day, account, provider_model, worst_nano, input_nano, class, tokens, bound, tenant_floor, project_floor, route, hedge, verdict, attempt)
     where i.verdict = 1 and i.hedge;
  end if;
  select (select array_agg(p_scopes[o.place] order by o.ord) from unnest(p_scope_of) with ordinality o(place, ord)),
         (select array_agg(v_periods[o.place] order by o.ord) from unnest(p_budget_of) with ordinality o(place, ord)) into v_ids, v_period_ids;
  insert into sluice.attempts (job, day, attempt, worker, started_at, worst_nano, input_nano, account, provider_model, route, class, tokens, bound, scopes, periods)
  select i.job, i.day, i.attempt, p_owner, v_now, i.worst_nano, i.input_nano, i.account, i.provider_model, i.route, i.class, i.tokens, i.bound,
         coalesce(v_ids[coalesce(p_scope_end[i.ord::int - 1], 0) + 1:i.scope_end], '{}'), coalesce(v_period_ids[coalesce(p_budget_end[i.ord::int - 1], 0) + 1:i.budget_end], '{}')
    from unnest(p_intents, verdicts, attempts, p_scope_end, p_budget_end) with ordinality
         i(job, day, account, provider_model, worst_nano, input_nano, class, tokens, bound, tenant_floor, project_floor, route, hedge, verdict, attempt, scope_end, budget_end, ord)
   where i.verdict = 1;
  -- The planner thinks a tenth of what a limit may let through: so it looks the rows up, and does not walk the key to find them all.
  update sluice.scope_state t
     set version = t.version + 1, in_flight = v_in[o.place], virtual = virtuals[o.place * 3 - 2:o.place * 3],
         levels = v_level[v_rates[o.place] * 3 + 1:v_rates[o.place + 1] * 3], ends = v_end[v_rates[o.place] + 1:v_rates[o.place + 1]]
    from (select u.id, u.version, u.touched, u.ord::int as place from unnest(p_scopes, v_version, v_touched) with ordinality u(id, version, touched, ord) limit cardinality(p_scopes)) o
   where t.scope = o.id and t.era = o.version >> 4 and t.version = o.version and o.touched;
  get diagnostics q = row_count;
  if q <> cardinality(array_positions(v_touched, true)) then
    raise exception 'a scope of % was changed without its lock', p_scopes using errcode = 'serialization_failure';
  end if;
  update sluice.period_state p set version = p.version + 1, reserved_nano = p.reserved_nano + t.nano
    from (select * from unnest(v_periods, v_versions, v_taken) u(id, version, nano) limit cardinality(v_periods)) t
   where p.period = t.id and p.era = t.version >> 4 and p.version = t.version and t.nano > 0;
  get diagnostics q = row_count;
  if q <> cardinality(v_taken) - cardinality(array_positions(v_taken, 0::bigint)) then
    raise exception 'a budget of % was changed without its lock', p_budgets using errcode = 'serialization_failure';
  end if;
end $$;
