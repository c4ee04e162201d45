-- What ended attempts give back: their slots, the tokens they did not use (or owe), their virtual time, and their reserved money, of
-- which what was spent is booked and what is unknown stays held. Twin: sluice_core.admission.policy.give_back.

create type sluice.ended_v2 as (
  scopes bigint[], periods bigint[], class smallint, tokens bigint, bound bigint, used bigint,
  worst_nano bigint, held_nano bigint, cost_nano bigint, pressure float8, cool_until float8
);

create function sluice.give_back_v2(p_ended sluice.ended_v2[]) returns void language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  headroom constant float8[] := '{1, 0.95, 0.8}';
  least_bearable constant float8 := 10;
  v_now timestamptz; now_us float8;
  r record; v_levels float8[]; v_virtual float8[]; v_allowed float8; v_cut timestamptz; v_scopes bigint[]; v_periods bigint[];
  -- one place a scope; in w_levels w_ends tells where each one's end, in w_virtual there are three of each
  w_ids bigint[] := '{}'; w_versions bigint[] := '{}'; w_in int[] := '{}'; w_allowed float8[] := '{}'; w_cut timestamptz[] := '{}'; w_blocked timestamptz[] := '{}';
  w_levels float8[] := '{}'; w_ends int[] := '{}'; w_virtual float8[] := '{}';
  v_dues float8[]; due float8; own float8; x float8; y float8; step float8; v_written int; v_dear boolean;
begin
  -- Locked first and read after it: see 0002_limits.sql.
  select (select array_agg(distinct o.scope) from unnest(p_ended) e cross join lateral unnest(e.scopes) o(scope)),
         (select array_agg(distinct o.period) from unnest(p_ended) e cross join lateral unnest(e.periods) o(period)),
         exists (select from unnest(p_ended) e where e.cost_nano > e.worst_nano) into v_scopes, v_periods, v_dear;
  perform from sluice.scopes s where s.id = any (v_scopes) order by s.id for no key update;
  for r in
    select s.id, s.kind, s.weight, s.meters, s.units, s.steps, s.bursts, s.max_in_flight, t.version, t.levels, t.ends, t.in_flight, t.allowed, t.cut_at, t.blocked_until,
           t.virtual, g.ended, g.virtual_due, g.tokens_due, g.bound_due, g.well, g.cut, g.cool
      from (select l.scope, count(*)::int as ended,
                   array[sum(l.tokens_due) filter (where l.class = 0), sum(l.tokens_due) filter (where l.class = 1), sum(l.tokens_due) filter (where l.class = 2)]::float8[] as tokens_due,
                   array[sum(l.bound_due) filter (where l.class = 0), sum(l.bound_due) filter (where l.class = 1), sum(l.bound_due) filter (where l.class = 2)]::float8[] as bound_due,
                   bool_or(l.ord <= 2) as virtual_due, count(*) filter (where l.pressure >= 1) as well, min(l.pressure) filter (where l.pressure < 1) as cut, max(l.cool_until) as cool
              from (select o.scope, o.ord, e.class, e.used - e.tokens as tokens_due, e.used - e.bound as bound_due, e.pressure, e.cool_until
                      from unnest(p_ended) e cross join lateral unnest(e.scopes) with ordinality o(scope, ord)) l
             group by l.scope) g
      join sluice.scopes s on s.id = g.scope
     cross join lateral (select * from sluice.scope_state x where x.scope = g.scope order by x.era desc limit 1) t order by s.id loop
    v_now := clock_timestamp(); now_us := extract(epoch from v_now) * 1e6;
    v_levels := r.levels; v_virtual := r.virtual;
    if r.virtual_due then
      for c in 1..3 loop v_virtual[c] := v_virtual[c] + coalesce(r.tokens_due[c], 0) / r.weight; end loop;
    end if;
    for d in 1..cardinality(r.meters) loop
      continue when r.meters[d] = 1;         -- requests are never refunded
      v_dues := case r.meters[d] when 2 then r.tokens_due else r.bound_due end;
      due := coalesce(v_dues[1], 0) + coalesce(v_dues[2], 0) + coalesce(v_dues[3], 0);
      if r.units[d] is not null then
        if r.ends[d] > now_us then v_levels[d * 3 - 2] := greatest(0, v_levels[d * 3 - 2] + due); end if;
        continue;
      end if;
      for c in 1..3 loop
        -- A credit covers only what has not drained yet; a debt begins now at the earliest. What other classes owe or leave is
        -- no debt of this one beyond what it could have lent.
        step := r.steps[d] / headroom[c]; x := v_levels[d * 3 - 3 + c];
        own := case when c = 1 then due else coalesce(v_dues[c], 0) end;
        x := case when own > 0 then greatest(x, now_us) + own * step when x > now_us then greatest(now_us, x + own * step) else x end;
        if c = 1 then
          y := x;
        elsif due - own > 0 then
          x := greatest(x, least(greatest(x, now_us) + (due - own) * step, greatest(y, now_us + r.bursts[d] * step)));
        elsif due - own < 0 and x > now_us then
          x := greatest(now_us, x + (due - own) * step);
        end if;
        v_levels[d * 3 - 3 + c] := x;
      end loop;
    end loop;
    v_allowed := r.allowed; v_cut := r.cut_at;
    if r.kind = 8 then
      if r.cut is not null then
        if v_cut is null or v_cut < v_now - interval '1 second' then  -- a whole batch of refusals is one sign
          v_allowed := greatest(least_bearable, least(coalesce(v_allowed, r.in_flight), r.in_flight) * r.cut); v_cut := v_now;
        end if;
      elsif v_allowed is not null then
        v_allowed := v_allowed + r.well / v_allowed;
        if v_allowed > coalesce(r.max_in_flight, greatest(100, 4 * r.in_flight)) then v_allowed := null; end if;
      end if;
    end if;
    w_ids := w_ids || r.id; w_versions := w_versions || r.version; w_in := w_in || greatest(0, r.in_flight - r.ended); w_allowed := w_allowed || v_allowed;
    w_cut := w_cut || v_cut; w_levels := w_levels || v_levels; w_ends := w_ends || cardinality(w_levels); w_virtual := w_virtual || v_virtual;
    w_blocked := w_blocked || case when r.kind = 9 and r.cool is not null then greatest(r.blocked_until, to_timestamp(r.cool)) else r.blocked_until end;
  end loop;
  update sluice.scope_state t
     set version = t.version + 1, in_flight = o.in_flight, allowed = o.allowed, cut_at = o.cut_at, blocked_until = o.blocked_until,
         levels = w_levels[coalesce(w_ends[o.place - 1], 0) + 1:w_ends[o.place]], virtual = w_virtual[o.place * 3 - 2:o.place * 3]
    from (select u.id, u.version, u.in_flight, u.allowed, u.cut_at, u.blocked_until, u.ord::int as place
            from unnest(w_ids, w_versions, w_in, w_allowed, w_cut, w_blocked) with ordinality u(id, version, in_flight, allowed, cut_at, blocked_until, ord)
           limit cardinality(w_ids)) o -- as in begin_v2
   where t.scope = o.id and t.era = o.version >> 4 and t.version = o.version;
  get diagnostics v_written = row_count;
  if v_written <> cardinality(w_ids) then
    raise exception 'a scope of % was changed without its lock', w_ids using errcode = 'serialization_failure';
  end if;

  if v_periods is not null then
    perform from sluice.budget_periods p where p.id = any (v_periods) order by p.id for no key update;
    with due as materialized (
      select o.period, sum(e.worst_nano)::bigint as worst, sum(e.cost_nano)::bigint as cost, sum(coalesce(e.held_nano, 0))::bigint as held
        from unnest(p_ended) e cross join lateral unnest(e.periods) o(period) group by o.period),
    given as (
      update sluice.period_state p
         set version = p.version + 1, reserved_nano = p.reserved_nano - due.worst, spent_nano = p.spent_nano + due.cost, held_nano = p.held_nano + due.held
        from (select d.*, t.era, t.version from due d
               cross join lateral (select x.era, x.version from sluice.period_state x where x.period = d.period order by x.era desc limit 1) t
               limit cardinality(v_periods)) due
       where p.period = due.period and p.era = due.era and p.version = due.version
      returning p.period as id, due.worst, due.cost + due.held as booked),
    logged as (
      insert into sluice.decision_log (period, freed_nano, booked_nano)
      select g.id, g.worst, g.booked from given g where coalesce(current_setting('sluice.decision_log', true), '') = 'on')
    select count(*) into v_written from given;
    if v_written <> cardinality(v_periods) then
      raise exception 'a period of % was changed without its lock', v_periods using errcode = 'serialization_failure';
    end if;
    if v_dear then
      insert into sluice.alerts (kind, subject, detail)
      select 'bound_violated', sluice.budget_subject_v1(p.budget), jsonb_build_object('worst_nano', e.worst_nano, 'cost_nano', e.cost_nano)
        from unnest(p_ended) e join sluice.budget_periods p on p.id = e.periods[1] where e.cost_nano > e.worst_nano;
    end if;
  end if;
end $$;

-- An unknown outcome's money leaves what is held and is spent, as far as it was.
create function sluice.unhold_v2(p_periods bigint[], p_held bigint, p_cost bigint) returns void language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  perform from sluice.budget_periods p where p.id = any (p_periods) order by p.id for no key update;
  update sluice.period_state p set version = p.version + 1, held_nano = p.held_nano - p_held, spent_nano = p.spent_nano + p_cost
    from sluice.budget_periods_now n where n.id = any (p_periods) and p.period = n.id and p.era = n.era;
end $$;
