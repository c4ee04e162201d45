-- Answers that are found by what was meant: only where the database has pgvector, whenever it comes. Run at every migration.
create extension if not exists vector with schema public;
create table if not exists sluice.meanings (
  key        bytea primary key,              -- of sluice.cache
  context    bytea not null,                 -- what must be the same; the model of the vectors is in it, so all of one have one length
  stored_at  timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  meaning    vector not null
);
create index if not exists meanings_context on sluice.meanings (context, stored_at);
create index if not exists meanings_expiry on sluice.meanings (expires_at);
grant select, insert, update, delete on sluice.meanings to sluice_service;

-- Exact within the context, which the index narrows: no neighbour is missed for an approximate index.
create or replace function sluice.look_meaning_v1(p_context bytea, p_vector text, p_threshold float8)
returns table (cosine float8, left_s float8, body bytea, provider text, account text, provider_model text, tokens int[], list_nano bigint, price_version text)
language sql stable as $$
  select 1 - n.distance, extract(epoch from c.expires_at - clock_timestamp())::float8, c.body, c.provider, c.account, c.provider_model, c.tokens,
         c.list_nano, c.price_version
    from (
      select m.key, m.meaning operator(public.<=>) p_vector::public.vector as distance from sluice.meanings m
       where m.context = p_context and m.expires_at > clock_timestamp() and public.vector_dims(m.meaning) = public.vector_dims(p_vector::public.vector)
       order by 2 limit 8) n
    join sluice.cache c on c.key = n.key and c.body is not null and c.expires_at > clock_timestamp()
   where 1 - n.distance >= p_threshold
   order by n.distance limit 1
$$;

create or replace function sluice.keep_meanings_v1(p_keys bytea[], p_contexts bytea[], p_vectors text[], p_ttls float8[], p_entries int) returns void
language sql volatile as $$
  insert into sluice.meanings as m (key, context, expires_at, meaning)
  select k.key, k.context, clock_timestamp() + k.ttl_s * interval '1 second', k.vector::public.vector
    from unnest(p_keys, p_contexts, p_vectors, p_ttls) k(key, context, vector, ttl_s) order by k.key
  on conflict (key) do update set context = excluded.context, stored_at = clock_timestamp(), expires_at = excluded.expires_at, meaning = excluded.meaning;
  -- In the order of their keys, and past what another is removing: two that store at once never wait in a ring.
  delete from sluice.meanings m using (
    select d.key from sluice.meanings d where d.key in (
      select o.key from unnest(p_contexts) c(context)
       cross join lateral (select x.key from sluice.meanings x where x.context = c.context order by x.stored_at desc offset p_entries) o)
     order by d.key for update skip locked) old
   where m.key = old.key
$$;

create or replace function sluice.purge_meanings_v1(p_limit int) returns int language sql volatile as $$
  with gone as (
    delete from sluice.meanings m using (
      select x.key from sluice.meanings x
       where x.expires_at <= clock_timestamp() or not exists (select from sluice.cache c where c.key = x.key and c.body is not null)
       order by x.key limit p_limit for update skip locked) old
     where m.key = old.key returning 1)
  select count(*)::int from gone
$$;
