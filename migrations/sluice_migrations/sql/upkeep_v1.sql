-- Beats, the archive, the outbox.

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

-- Outbox rows from p_from on that are of the dead (as in reap_v1: silent, or not registered), or older than p_age: leased to the caller,
-- who publishes and deletes them.
create function sluice.take_outbox_v1(p_owner bigint, p_silent bigint[], p_age interval, p_limit int, p_from bigint default 0)
returns setof sluice.outbox language sql volatile as $$
  with seen as materialized (
    select o.id, o.owner from sluice.outbox o
     where o.id >= p_from
       and (o.owner = any (p_silent) or o.at < clock_timestamp() - p_age
            or not exists (select from sluice.workers w where w.incarnation = o.owner))
     order by o.id limit p_limit),
  due as (
    select o.id from seen s join sluice.outbox o on o.id = s.id and o.owner = s.owner order by o.id for update of o skip locked)
  update sluice.outbox o set owner = p_owner, at = clock_timestamp() from due where o.id = due.id returning o.*
$$;

-- Enters an event that says a fact which holds for long, once for all processes and passes. False: it was told before.
create table sluice.facts_told (ce_id uuid primary key, at timestamptz not null default clock_timestamp());
create function sluice.tell_once_v1(p_ce_id uuid, p_owner bigint, p_topic text, p_key bytea, p_headers bytea, p_value bytea)
returns boolean language sql volatile as $$
  with fresh as (
    insert into sluice.facts_told (ce_id) values (p_ce_id) on conflict do nothing returning ce_id),
  due as (
    insert into sluice.outbox (owner, kind, topic, key, headers, value)
    select p_owner, 4, p_topic, p_key, p_headers, p_value from fresh returning 1)
  select exists (select from due)
$$;

-- Headers as the outbox holds them: a JSON list of names and values in hexadecimal.
create function sluice.headers_v1(variadic p_pairs text[]) returns bytea language sql immutable as $$
  select convert_to(jsonb_agg(jsonb_build_array(p_pairs[i], encode(convert_to(p_pairs[i + 1], 'UTF8'), 'hex')) order by i)::text, 'UTF8')
    from generate_series(1, cardinality(p_pairs), 2) i
$$;
create function sluice.time_v1(p_at timestamptz) returns text language sql stable as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- Marks runs complete that have had no live job and no new one for p_quiet, and enters the event of each in the same statement.
create function sluice.complete_runs_v1(p_quiet interval, p_limit int, p_owner bigint, p_topic text, p_source text)
returns table (run bigint, tenant text, name text, completed_at timestamptz) language sql volatile as $$
  with done as (
    select r.id from sluice.runs r
     where r.completed_at is null
       and not exists (select from sluice.jobs j where j.run = r.id and j.state < 10)
       and greatest((select j.admitted_at from sluice.jobs j where j.run = r.id order by j.id desc limit 1),
                    (select max(p.admitted_at) from sluice.jobs_past p where p.run = r.id)) < clock_timestamp() - p_quiet
     order by r.id limit p_limit for update of r skip locked),
  marked as (
    update sluice.runs r set completed_at = clock_timestamp() from done where r.id = done.id
    returning r.id, r.tenant, r.name, r.created_at, r.completed_at),
  due as (
    insert into sluice.outbox (owner, kind, topic, key, headers, value)
    select p_owner, 4, p_topic, convert_to(m.name, 'UTF8'),
           sluice.headers_v1('ce_specversion', '1.0', 'ce_type', 'com.sluicegate.run.completed.v1', 'ce_source', p_source, 'ce_subject', m.name,
             'ce_id', gen_random_uuid()::text, 'ce_time', sluice.time_v1(m.completed_at), 'content-type', 'application/json'),
           convert_to(jsonb_build_object('run_id', m.name, 'tenant', m.tenant, 'jobs', f.jobs,
             'states', jsonb_build_object('succeeded', f.succeeded, 'failed', f.failed, 'rejected', f.rejected, 'expired', f.expired,
                                          'cancelled', f.cancelled, 'unknown', f.unknown),
             'cost_usd', f.cost_usd::text, 'started_at', sluice.time_v1(m.created_at), 'completed_at', sluice.time_v1(m.completed_at))::text, 'UTF8')
      from marked m join finance.runs f on f.tenant = m.tenant and f.run_id = m.name)
  select m.id, m.tenant, m.name, m.completed_at from marked m
$$;

-- Removes, at most p_limit rows of each table, what is remembered no longer than identities are.
create function sluice.purge_v1(p_age interval, p_limit int) returns int language plpgsql volatile as $$
declare
  v_edge timestamptz := clock_timestamp() - p_age; v_gone int; v_all int := 0;
begin
  delete from sluice.waiters w using (
    select x.job, x.record from sluice.waiters x
     where x.at < v_edge and not exists (select from sluice.jobs j where j.id = x.job) limit p_limit) o
   where w.job = o.job and w.record = o.record;
  get diagnostics v_gone = row_count; v_all := v_all + v_gone;
  delete from sluice.dead_letters d using (select x.record from sluice.dead_letters x where x.at < v_edge limit p_limit) o where d.record = o.record;
  get diagnostics v_gone = row_count; v_all := v_all + v_gone;
  delete from sluice.cancels c using (select x.id from sluice.cancels x where x.at < v_edge limit p_limit) o where c.id = o.id;
  get diagnostics v_gone = row_count; v_all := v_all + v_gone;
  delete from sluice.late_outcomes l using (select x.id from sluice.late_outcomes x where x.at < v_edge limit p_limit) o where l.id = o.id;
  get diagnostics v_gone = row_count; v_all := v_all + v_gone;
  delete from sluice.facts_told f using (select x.ce_id from sluice.facts_told x where x.at < v_edge limit p_limit) o where f.ce_id = o.ce_id;
  get diagnostics v_gone = row_count;
  return v_all + v_gone;
end $$;
