-- What the configuration says of scopes and budgets, made true; whatever it says no more is lifted (the runs' budgets are operators').
-- A rate that stays of the same kind keeps its level. Returns whether anything changed. Many may call it at once.
create type sluice.scope_v1 as (
  kind smallint, name text, weight float8, meters smallint[], units text[], zones text[], limits float8[], steps float8[], bursts float8[], max_in_flight int
);
create type sluice.budget_v1 as (kind smallint, name text, per text, zone text, hard boolean, cap_nano bigint, thresholds smallint[]);

-- p_whole: these are all there are, but for those whose kind and tenant (`5:acme/`) stand in p_kept: they are made as they are met.
-- Else these are made or changed, others stay, and nobody is told.
create function sluice.define_scopes_v1(p_scopes jsonb, p_budgets jsonb, p_whole boolean, p_kept text[] default '{}') returns boolean language plpgsql volatile as $$
declare v_changed int; v_all int := 0;
begin
  perform pg_advisory_xact_lock(hashtext('sluice.scopes'));
  -- All that is changed below, in the order of the ids, as begin and settle lock them: else each could wait for the other.
  perform from sluice.scopes s
    where (s.kind, s.name) in (select w.kind, w.name from jsonb_populate_recordset(null::sluice.scope_v1, p_scopes) w)
       or (p_whole and (s.meters <> '{}' or s.max_in_flight is not null or s.weight <> 1)
           and s.kind || ':' || split_part(s.name, '/', 1) || '/' <> all (p_kept)) order by s.id for no key update of s;
  update sluice.scope_state t
     set version = t.version + 1,
         levels = case when (s.meters, s.units) is not distinct from (w.meters, w.units) then t.levels else array_fill(0::float8, array[cardinality(w.meters) * 3]) end,
         ends = array_fill(0::float8, array[cardinality(w.meters)])
    from jsonb_populate_recordset(null::sluice.scope_v1, p_scopes) w join sluice.scopes_now s on s.kind = w.kind and s.name = w.name
   where t.scope = s.id and t.era = s.era and (s.meters, s.units, s.zones) is distinct from (w.meters, w.units, w.zones);
  with wanted as materialized (select w.* from jsonb_populate_recordset(null::sluice.scope_v1, p_scopes) w),
  changed as (
    update sluice.scopes s
       set weight = w.weight, meters = w.meters, units = w.units, zones = w.zones, limits = w.limits, steps = w.steps, bursts = w.bursts,
           max_in_flight = w.max_in_flight
      from wanted w
     where s.kind = w.kind and s.name = w.name
       and (s.weight, s.meters, s.units, s.zones, s.limits, s.steps, s.bursts, s.max_in_flight)
           is distinct from (w.weight, w.meters, w.units, w.zones, w.limits, w.steps, w.bursts, w.max_in_flight)
    returning 1)
  select count(*) into v_changed from changed;
  v_all := v_all + v_changed;
  insert into sluice.scopes (kind, name, weight, meters, units, zones, limits, steps, bursts, max_in_flight)
  select w.kind, w.name, w.weight, w.meters, w.units, w.zones, w.limits, w.steps, w.bursts, w.max_in_flight
    from jsonb_populate_recordset(null::sluice.scope_v1, p_scopes) w
   where not exists (select from sluice.scopes s where s.kind = w.kind and s.name = w.name) order by w.kind, w.name
  on conflict do nothing;
  get diagnostics v_changed = row_count; v_all := v_all + v_changed;
  -- Another time zone is no other money: the current period goes on with what it has, to the end of the new zone's.
  update sluice.budget_periods p
     set starts_at = sluice.period_start_v1(w.per, w.zone, clock_timestamp()), ends_at = sluice.period_end_v1(w.per, w.zone, clock_timestamp())
    from jsonb_populate_recordset(null::sluice.budget_v1, p_budgets) w
    join sluice.scopes s on s.kind = w.kind and s.name = w.name
    join sluice.budgets b on b.scope = s.id and b.per = w.per
   where p.budget = b.id and b.zone <> w.zone and p.starts_at = sluice.period_start_v1(b.per, b.zone, clock_timestamp())
     and not exists (select from sluice.budget_periods q where q.budget = b.id and q.id <> p.id
                        and q.starts_at = sluice.period_start_v1(w.per, w.zone, clock_timestamp()));
  insert into sluice.budgets as b (scope, per, zone, hard, cap_nano, thresholds)
  select s.id, w.per, w.zone, w.hard, w.cap_nano, w.thresholds
    from jsonb_populate_recordset(null::sluice.budget_v1, p_budgets) w join sluice.scopes s on s.kind = w.kind and s.name = w.name order by s.id, w.per
  on conflict (scope, per) do update
     set zone = excluded.zone, hard = excluded.hard, cap_nano = excluded.cap_nano, thresholds = excluded.thresholds, configured = true, active = true
   where (b.zone, b.hard, b.cap_nano, b.thresholds, b.configured, b.active)
         is distinct from (excluded.zone, excluded.hard, excluded.cap_nano, excluded.thresholds, true, true);
  get diagnostics v_changed = row_count; v_all := v_all + v_changed;
  if p_whole then
    with named as materialized (
      select s.id from sluice.scopes s join jsonb_populate_recordset(null::sluice.scope_v1, p_scopes) w on w.kind = s.kind and w.name = s.name),
    superfluous as materialized (
      select s.id from sluice.scopes s
       where (s.meters <> '{}' or s.max_in_flight is not null or s.weight <> 1) and s.id not in (select n.id from named n)
         and s.kind || ':' || split_part(s.name, '/', 1) || '/' <> all (p_kept)),
    lifted as (
      update sluice.scopes s set weight = 1, meters = '{}', units = '{}', zones = '{}', limits = '{}', steps = '{}', bursts = '{}', max_in_flight = null
        from superfluous o where s.id = o.id returning 1),
    forgotten as (
      update sluice.scope_state t set version = t.version + 1, levels = '{}', ends = '{}'
        from superfluous o cross join lateral (select x.era from sluice.scope_state x where x.scope = o.id order by x.era desc limit 1) n
       where t.scope = o.id and t.era = n.era),
    ended as (
      update sluice.budgets b set active = false
        from sluice.scopes o
       where o.id = b.scope and b.active and b.configured and o.kind || ':' || split_part(o.name, '/', 1) || '/' <> all (p_kept) and not exists (
         select from jsonb_populate_recordset(null::sluice.budget_v1, p_budgets) w join sluice.scopes s on s.kind = w.kind and s.name = w.name
          where s.id = b.scope and w.per = b.per)
      returning 1)
    select (select count(*) from lifted) + (select count(*) from ended) into v_changed;
    v_all := v_all + v_changed;
  end if;
  if p_whole and v_all > 0 then
    update sluice.versions set version = version + 1 where name = 'config';
    perform pg_notify('sluice_config', '');
  end if;
  return v_all > 0;
end $$;
