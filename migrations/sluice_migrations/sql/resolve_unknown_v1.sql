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
