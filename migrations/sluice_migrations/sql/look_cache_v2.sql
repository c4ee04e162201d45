-- As look_cache_v1, but that a lease ends with its owner: one that has left, or has not beaten for a while, asks for nobody any more.
create function sluice.look_cache_v2(p_worker bigint, p_keys bytea[], p_tenants text[], p_lease_s float8)
returns table (state smallint, left_s float8, body bytea, provider text, account text, provider_model text, tokens int[], list_nano bigint, price_version text)
language plpgsql volatile as $$
#variable_conflict use_column
declare v_now timestamptz := clock_timestamp(); v_mine bytea[]; v_alive bigint[];
begin
  select coalesce(array_agg(w.incarnation), '{}') into v_alive from sluice.workers w where w.beat_at > v_now - interval '5 seconds';
  -- Mostly all are there or none; only what is not there, or no more, is written.
  with missing as (
    select k.key, k.tenant from unnest(p_keys, p_tenants) k(key, tenant)
     where not exists (select from sluice.cache c where c.key = k.key
                        and (c.expires_at > v_now or (c.body is null and c.lease_until > v_now and c.owner = any (v_alive)))) order by k.key),
  taken as (
    insert into sluice.cache as c (key, tenant, owner, lease_until)
    select m.key, m.tenant, p_worker, v_now + p_lease_s * interval '1 second' from missing m order by m.key
    on conflict (key) do update set owner = excluded.owner, lease_until = excluded.lease_until, body = null, size = 0, stored_at = null, expires_at = null
      where not (coalesce(c.expires_at > v_now, false) or (c.body is null and c.lease_until > v_now and c.owner = any (v_alive)))
    returning key)
  select array_agg(t.key) into v_mine from taken t;
  return query
    select case when c.body is not null then 1 when k.key = any (v_mine) then 0 else 2 end::smallint,
           extract(epoch from c.expires_at - v_now)::float8, c.body, c.provider, c.account, c.provider_model, c.tokens, c.list_nano, c.price_version
      from unnest(p_keys) with ordinality k(key, ord) left join sluice.cache c on c.key = k.key and (c.body is null or c.expires_at > v_now) order by k.ord;
end $$;

revoke execute on function sluice.look_cache_v2 from public;
grant execute on function sluice.look_cache_v2 to sluice_service;
