-- What operators do to budgets, and what budgets tell.

-- The budget's public subject, such as `project:acme/search month`.
create function sluice.budget_subject_v1(p_budget bigint) returns text language sql stable as $$
  select (array['tenant', 'team', 'project', 'app', 'user', 'key', 'model', 'account', 'target', 'run'])[s.kind] || ':' || s.name || ' ' || b.per
    from sluice.budgets b join sluice.scopes s on s.id = b.scope where b.id = p_budget
$$;

-- An operator's cap: of a configured budget it stands instead of the configured one (null: no more), else it makes or changes the
-- budget. Returns the budget's id; null where there is none to put back.
create function sluice.set_budget_v1(p_kind smallint, p_name text, p_per text, p_zone text, p_hard boolean, p_cap_nano bigint,
  p_thresholds smallint[], p_actor text, p_reason text) returns bigint language plpgsql volatile as $$
declare v_scope bigint; v_old sluice.budgets; v_new sluice.budgets;
begin
  if p_cap_nano not between 0 and 4000000000000000000 then
    raise exception 'a cap of % USD: at least 0 and at most 4000000000', (p_cap_nano * 0.000000001)::numeric(24, 9) using errcode = 'numeric_value_out_of_range';
  end if;
  insert into sluice.scopes (kind, name) values (p_kind, p_name) on conflict do nothing;
  select s.id into v_scope from sluice.scopes s where s.kind = p_kind and s.name = p_name;
  select * into v_old from sluice.budgets b where b.scope = v_scope and b.per = p_per for update;
  if not found then
    if p_cap_nano is null then return null; end if;
    insert into sluice.budgets (scope, per, zone, hard, cap_nano, thresholds, configured)
    values (v_scope, p_per, coalesce(p_zone, 'UTC'), coalesce(p_hard, true), p_cap_nano, p_thresholds, false) returning * into v_new;
  elsif v_old.configured then
    update sluice.budgets b set own_cap_nano = p_cap_nano where b.id = v_old.id returning * into v_new;
  else
    update sluice.budgets b
       set active = p_cap_nano is not null, cap_nano = coalesce(p_cap_nano, b.cap_nano), zone = coalesce(p_zone, b.zone), hard = coalesce(p_hard, b.hard)
     where b.id = v_old.id returning * into v_new;
  end if;
  insert into sluice.audit (actor, action, subject, before, after)
  values (p_actor, 'budget.set', sluice.budget_subject_v1(v_new.id),
          case when v_old.id is not null then jsonb_build_object('cap_nano', coalesce(v_old.own_cap_nano, v_old.cap_nano), 'active', v_old.active) end,
          jsonb_build_object('cap_nano', coalesce(v_new.own_cap_nano, v_new.cap_nano), 'active', v_new.active, 'hard', v_new.hard, 'reason', p_reason));
  update sluice.versions set version = version + 1 where name = 'config';
  perform pg_notify('sluice_config', '');
  return v_new.id;
end $$;

-- More money (or less) for the current period alone. Returns the budget's id; null where there is none.
create function sluice.topup_budget_v1(p_kind smallint, p_name text, p_per text, p_nano bigint, p_actor text, p_reason text)
returns bigint language plpgsql volatile as $$
declare v_budget bigint; v_period bigint; v_sum numeric;
begin
  select b.id into v_budget from sluice.budgets b join sluice.scopes s on s.id = b.scope
   where s.kind = p_kind and s.name = p_name and b.per = p_per and b.active;
  if not found then return null; end if;
  select l.periods[1] into v_period from sluice.lock_periods_v1(array[v_budget], clock_timestamp()) l;
  select p.topup_nano + p_nano::numeric into v_sum from sluice.budget_periods p where p.id = v_period;
  if abs(v_sum) > 4000000000000000000 then
    raise exception 'the top-ups of % would come to % USD in this period: at most 4000000000 either way; change the cap instead',
      sluice.budget_subject_v1(v_budget), (v_sum * 0.000000001)::numeric(24, 9) using errcode = 'numeric_value_out_of_range';
  end if;
  update sluice.budget_periods p set topup_nano = v_sum where p.id = v_period;
  insert into sluice.audit (actor, action, subject, after)
  values (p_actor, 'budget.topup', sluice.budget_subject_v1(v_budget), jsonb_build_object('topup_nano', p_nano, 'reason', p_reason));
  return v_budget;
end $$;

-- Raises an alert for each threshold that a period has newly reached, once a period; one that it is below again, since the cap was raised,
-- is resolved. A period that has ended is watched until all of its calls have, and its alerts are resolved: its money is spent, and the
-- next one has its own. Any number of processes may call it.
create function sluice.watch_budgets_v1() returns int language plpgsql volatile set enable_bitmapscan = off as $$
declare r record; v_reached smallint; v_raised int := 0; v_threshold smallint; v_now timestamptz := clock_timestamp();
begin
  for r in
    select p.id, p.told, n.spent_nano + n.held_nano as used, coalesce(b.own_cap_nano, b.cap_nano) + p.topup_nano as cap, b.thresholds, b.hard, b.active,
           sluice.budget_subject_v1(b.id) || ' ' || to_char(p.starts_at at time zone b.zone, 'YYYY-MM-DD') as subject, n.spent_nano, n.held_nano,
           p.ends_at <= v_now as over,
           -- A call that began just before the end may have waited for this row's lock till after it.
           p.ends_at < v_now - interval '5 minutes' and n.held_nano = 0 and n.reserved_nano = 0 as done
      from sluice.budget_periods p
      join sluice.budgets b on b.id = p.budget
     cross join lateral (select * from sluice.period_state x where x.period = p.id order by x.era desc limit 1) n
     where not p.closed order by p.id for no key update of p skip locked loop
    select coalesce(max(t), 0) into v_reached from unnest(r.thresholds) t
     where r.active and r.used > 0 and r.used::numeric * 100 >= r.cap::numeric * t; -- percents of hundreds of millions of dollars are no bigint
    continue when v_reached = r.told and not r.over;
    for v_threshold in select t from unnest(r.thresholds) t where t > r.told and t <= v_reached order by t loop
      insert into sluice.alerts (kind, subject, period, detail)
      values ('budget_threshold', r.subject, r.id,
              jsonb_build_object('threshold_percent', v_threshold, 'cap_usd', (r.cap * 0.000000001)::numeric(24, 9)::text, 'hard', r.hard,
                'spent_usd', (r.spent_nano * 0.000000001)::numeric(24, 9)::text, 'held_usd', (r.held_nano * 0.000000001)::numeric(24, 9)::text));
      v_raised := v_raised + 1;
    end loop;
    update sluice.alerts a set resolved_at = clock_timestamp()
     where a.period = r.id and a.resolved_at is null and (r.over or (a.detail ->> 'threshold_percent')::int > v_reached);
    update sluice.budget_periods p set told = v_reached, closed = r.done where p.id = r.id and (v_reached <> r.told or r.done);
  end loop;
  return v_raised;
end $$;

-- Removes alerts that are older than p_age and over, and of which everybody was told; at most p_limit. A call that was dearer than its
-- worst case is an event: it is never resolved.
create function sluice.purge_alerts_v1(p_age interval, p_limit int) returns int language plpgsql volatile as $$
declare v_gone int;
begin
  delete from sluice.alerts a using (
    select x.id from sluice.alerts x
     where x.told and ((x.resolved_at < clock_timestamp() - p_age and x.told_resolved)
                       or (x.kind = 'bound_violated' and x.raised_at < clock_timestamp() - p_age)) limit p_limit) o
   where a.id = o.id;
  get diagnostics v_gone = row_count;
  return v_gone;
end $$;

-- Alerts nobody was told of yet, or not of their end: their events are entered in the same statement. Returns how many.
create function sluice.tell_alerts_v1(p_limit int, p_owner bigint, p_topic text, p_source text) returns int language sql volatile as $$
  with news as materialized (
    select a.* from sluice.alerts a where not a.told or (a.resolved_at is not null and not a.told_resolved)
     order by a.id limit p_limit for update skip locked),
  marked as (
    update sluice.alerts a set told = true, told_resolved = a.resolved_at is not null from news n where a.id = n.id returning 1),
  said as (
    select n.*, w.state, case w.state when 'raised' then n.raised_at else n.resolved_at end as at
      from news n cross join lateral (values ('raised', not n.told), ('resolved', n.resolved_at is not null and not n.told_resolved)) w(state, due)
     where w.due order by n.id, w.state),
  due as (
    insert into sluice.outbox (owner, kind, topic, key, headers, value)
    select p_owner, 4, p_topic, convert_to(s.subject, 'UTF8'),
           sluice.headers_v1('ce_specversion', '1.0', 'ce_type', 'com.sluicegate.alert.' || s.state || '.v1', 'ce_source', p_source, 'ce_subject', s.subject,
             'ce_id', md5('alert ' || p_source || ' ' || s.id || ' ' || s.state)::uuid::text, 'ce_time', sluice.time_v1(s.at), 'content-type', 'application/json'),
           convert_to(jsonb_build_object('alert', s.kind, 'state', s.state,
             'severity', case when s.kind = 'bound_violated' then 'critical' when (s.detail ->> 'threshold_percent')::int >= 100 then 'critical' else 'warning' end,
             'scope', s.subject, 'at', sluice.time_v1(s.at), 'details', s.detail,
             'message', case s.kind when 'budget_threshold' then (s.detail ->> 'threshold_percent') || ' % of the budget is used'
                                    when 'bound_violated' then 'a call cost more than its worst case' else s.kind end)::text, 'UTF8')
      from said s returning 1)
  select count(*)::int from due
$$;
