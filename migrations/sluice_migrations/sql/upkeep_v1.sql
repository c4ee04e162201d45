-- Beats, the archive, the outbox, and the way out of `unknown`.

-- known = false: this incarnation was declared dead; the process must stop. cancels: jobs of the caller that are flagged.
create function sluice.beat_v1(p_incarnation bigint, out known boolean, out cancels bigint[], out keys_version bigint, out config_version bigint)
language plpgsql volatile as $$
begin
  update sluice.workers w set beat = w.beat + 1, beat_at = clock_timestamp() where w.incarnation = p_incarnation;
  known := found;
  select coalesce(array_agg(j.id), '{}') into cancels from sluice.jobs j where j.cancel and j.state < 10 and j.state in (2, 3) and j.owner = p_incarnation;
  select max(v.version) filter (where v.name = 'keys'), max(v.version) filter (where v.name = 'config') into keys_version, config_version from sluice.versions v;
end $$;

-- Moves finished executions, with the identity where it still means them, out of the hot tables. Looks at p_limit rows from p_after on.
create function sluice.archive_v1(p_after bigint, p_age interval, p_limit int, out next_after bigint, out moved int)
language plpgsql volatile set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare v_ids bigint[];
begin
  select max(s.id), array_agg(s.id) filter (where s.state >= 10 and s.finished_at < clock_timestamp() - p_age) into next_after, v_ids
    from (select j.id, j.state, j.finished_at from sluice.jobs j where j.id > p_after order by j.id limit p_limit) s;
  moved := 0;
  if v_ids is null then return; end if;
  select array_agg(s.id) into v_ids from (select j.id from sluice.jobs j where j.id = any (v_ids) order by j.id for update skip locked) s;
  with gone as (delete from sluice.jobs j where j.id = any (v_ids) returning j.*),
  unbound as (delete from sluice.identities t using gone g where t.uuid = g.uuid and t.job = g.id returning t.job, t.record, t.body_hash)
  insert into sluice.jobs_past
  select g.*, coalesce(u.record, g.uuid), coalesce(u.body_hash, '') from gone g left join unbound u on u.job = g.id;
  get diagnostics moved = row_count;
end $$;

-- Outbox rows of the dead, or older than p_age: leased to the caller, who publishes and deletes them.
create function sluice.take_outbox_v1(p_owner bigint, p_alive bigint[], p_age interval, p_limit int)
returns setof sluice.outbox language sql volatile as $$
  with due as (
    select o.id from sluice.outbox o
     where o.owner <> all (p_alive) or o.at < clock_timestamp() - p_age
     order by o.id limit p_limit for update skip locked)
  update sluice.outbox o set owner = p_owner, at = clock_timestamp() from due where o.id = due.id returning o.*
$$;

-- Books what an unknown attempt really cost, as a correction of its row. Returns the correction's id, or null where nothing is held.
create function sluice.resolve_unknown_v1(p_usage_id uuid, p_correction uuid, p_cost_nano bigint, p_reason text, p_actor text, p_owner bigint)
returns uuid language plpgsql volatile as $$
declare
  u sluice.unresolved; v_now timestamptz;
begin
  delete from sluice.unresolved x where x.usage_id = p_usage_id returning * into u;
  if not found then return null; end if;
  v_now := clock_timestamp();
  insert into finance.usage
  select p_correction, f.job_id, f.attempt, f.run_id, v_now, f.started_at, f.ended_at, f.tenant, f.team, f.project, f.app, f.user_id, f.tags, f.key_id,
         f.provider, f.account, f.region, f.model_requested, f.provider_model, f.provider_request_id, f.operation, f.class, f.service_tier, f.arm,
         f.prompt_version, 0, 0, 0, 0, 0, 'estimated',
         case when p_cost_nano = 0 then '[]'::jsonb else jsonb_build_array(jsonb_build_object('meter', 'resolution', 'quantity', '1', 'unit', 'call',
           'unit_price_usd', (p_cost_nano * 0.000000001)::numeric(24, 9)::text, 'cost_usd', (p_cost_nano * 0.000000001)::numeric(24, 9)::text)) end,
         p_cost_nano * 0.000000001, p_cost_nano * 0.000000001, f.price_version, f.outcome, 'Correction', f.usage_id, p_reason, f.cache, 0
    from finance.usage f where f.usage_id = u.usage_id and f.recorded_at = u.recorded_at;
  insert into sluice.outbox (owner, kind, job, usage_id, usage_at) values (p_owner, 3, u.job, p_correction, v_now);
  insert into sluice.audit (actor, action, subject, before, after)
  values (p_actor, 'unresolved.settle', p_usage_id::text, jsonb_build_object('held_nano', u.held_nano),
          jsonb_build_object('cost_nano', p_cost_nano, 'reason', p_reason, 'correction', p_correction));
  return p_correction;
end $$;

-- Marks runs complete that have had no live job and no new one for p_quiet; the row makes it once.
create function sluice.complete_runs_v1(p_quiet interval, p_limit int)
returns table (run bigint, tenant text, name text, completed_at timestamptz) language sql volatile as $$
  with done as (
    select r.id from sluice.runs r
     where r.completed_at is null
       and not exists (select from sluice.jobs j where j.run = r.id and j.state < 10)
       and coalesce((select j.admitted_at from sluice.jobs j where j.run = r.id order by j.id desc limit 1),
                    (select max(p.admitted_at) from sluice.jobs_past p where p.run = r.id)) < clock_timestamp() - p_quiet
     order by r.id limit p_limit for update of r skip locked)
  update sluice.runs r set completed_at = clock_timestamp() from done where r.id = done.id
  returning r.id, r.tenant, r.name, r.completed_at
$$;
