-- Answers that are given again. A row without an answer: its owner is asking, and until `lease_until` nobody else does.
create table sluice.cache (
  key            bytea primary key,
  tenant         text not null,
  owner          bigint,
  lease_until    timestamptz,
  stored_at      timestamptz,
  expires_at     timestamptz,
  size           int not null default 0,
  body           bytea,
  provider       text,
  account        text,
  provider_model text,
  tokens         int[],                      -- input, cache read, cache write, output, reasoning
  list_nano      bigint,
  price_version  text
) with (autovacuum_vacuum_scale_factor = 0.05);
alter table sluice.cache alter column body set storage external; -- most are too small for compression to be worth its time
create index cache_age on sluice.cache (stored_at) where body is not null;
create index cache_expiry on sluice.cache (expires_at) where body is not null;
create index cache_lease on sluice.cache (lease_until) where body is null;
grant select, insert, update, delete on sluice.cache to sluice_service;

-- Per key, in its order: 1 a live answer  2 another worker is asking  0 the caller is to ask.
create function sluice.look_cache_v1(p_worker bigint, p_keys bytea[], p_tenants text[], p_lease_s float8)
returns table (state smallint, left_s float8, body bytea, provider text, account text, provider_model text, tokens int[], list_nano bigint, price_version text)
language plpgsql volatile as $$
#variable_conflict use_column
declare v_now timestamptz := clock_timestamp(); v_mine bytea[];
begin
  -- Mostly all are there or none; only what is not there, or no more, is written.
  with missing as (
    select k.key, k.tenant from unnest(p_keys, p_tenants) k(key, tenant)
     where not exists (select from sluice.cache c where c.key = k.key and (c.expires_at > v_now or (c.body is null and c.lease_until > v_now))) order by k.key),
  taken as (
    insert into sluice.cache as c (key, tenant, owner, lease_until)
    select m.key, m.tenant, p_worker, v_now + p_lease_s * interval '1 second' from missing m order by m.key
    on conflict (key) do update set owner = excluded.owner, lease_until = excluded.lease_until, body = null, size = 0, stored_at = null, expires_at = null
      where not (coalesce(c.expires_at > v_now, false) or (c.body is null and c.lease_until > v_now))
    returning key)
  select array_agg(t.key) into v_mine from taken t;
  return query
    select case when c.body is not null then 1 when k.key = any (v_mine) then 0 else 2 end::smallint,
           extract(epoch from c.expires_at - v_now)::float8, c.body, c.provider, c.account, c.provider_model, c.tokens, c.list_nano, c.price_version
      from unnest(p_keys) with ordinality k(key, ord) left join sluice.cache c on c.key = k.key and (c.body is null or c.expires_at > v_now) order by k.ord;
end $$;

create type sluice.cached_v1 as (
  key bytea, tenant text, ttl_s float8, body bytea, provider text, account text, provider_model text, tokens int[], list_nano bigint, price_version text
);
create function sluice.keep_cache_v1(p_answers sluice.cached_v1[], p_given_up bytea[], p_worker bigint) returns void language sql volatile as $$
  delete from sluice.cache c using (select k from unnest(p_given_up) k order by k) g where c.key = g.k and c.owner = p_worker and c.body is null;
  insert into sluice.cache as c (key, tenant, stored_at, expires_at, size, body, provider, account, provider_model, tokens, list_nano, price_version)
  select a.key, a.tenant, clock_timestamp(), clock_timestamp() + a.ttl_s * interval '1 second', octet_length(a.body), a.body, a.provider, a.account,
         a.provider_model, a.tokens, a.list_nano, a.price_version from unnest(p_answers) a order by a.key
  on conflict (key) do update
    set owner = null, lease_until = null, stored_at = excluded.stored_at, expires_at = excluded.expires_at, size = excluded.size, body = excluded.body,
        provider = excluded.provider, account = excluded.account, provider_model = excluded.provider_model, tokens = excluded.tokens,
        list_nano = excluded.list_nano, price_version = excluded.price_version
$$;

-- Removes what counts no more, then the oldest of what is over the bound. Returns how many.
create function sluice.purge_cache_v1(p_bytes bigint, p_limit int) returns int language plpgsql volatile as $$
declare v_gone int; v_over bigint; v_more int;
begin
  delete from sluice.cache c using (
    select x.key from sluice.cache x where (x.body is not null and x.expires_at <= clock_timestamp()) or (x.body is null and x.lease_until <= clock_timestamp())
     order by x.key limit p_limit for update skip locked) old where c.key = old.key;
  get diagnostics v_gone = row_count;
  select coalesce(sum(c.size), 0) - p_bytes into v_over from sluice.cache c;
  if v_over > 0 then
    delete from sluice.cache c using (
      select o.key from (
        select x.key, sum(x.size) over (order by x.stored_at, x.key) - x.size as before from sluice.cache x where x.body is not null) o
       where o.before < v_over order by o.key limit p_limit) old where c.key = old.key;
    get diagnostics v_more = row_count;
  end if;
  return v_gone + coalesce(v_more, 0);
end $$;
