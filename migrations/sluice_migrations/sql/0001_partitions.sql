-- Partitions are made ahead by the keeper (and once by the migration); making one that exists does nothing.
-- A statement that waits for a table's lock holds up all that come after it: both functions give up soon, and are called again.

-- Whose payloads are still remembered; a brin index costs next to nothing, since jobs leave about in the order they came.
create index jobs_past_day on sluice.jobs_past using brin (day) with (pages_per_range = 16);

-- Made beside its parent and then attached, which does not stop the parent's readers and writers. Returns whether it was made.
create function sluice.ensure_partition_v1(p_schema text, p_parent text, p_name text, p_from text, p_to text, p_settings text)
returns boolean language plpgsql set search_path = pg_catalog as $$
begin
  if to_regclass(format('%I.%I', p_schema, p_name)) is not null then return false; end if;
  execute format('create table %I.%I (like %I.%I including all)%s', p_schema, p_name, p_schema, p_parent, p_settings);
  execute format('alter table %I.%I attach partition %I.%I for values from (%L) to (%L)', p_schema, p_parent, p_schema, p_name, p_from, p_to);
  return true;
end $$;

create function sluice.ensure_partitions_v1(p_days int default 7) returns int language plpgsql security definer
set search_path = pg_catalog set lock_timeout = '1s' as $$
declare
  made int := 0; parent text; d date; lo timestamptz; hi timestamptz; name text; since timestamptz;
  today date := (clock_timestamp() at time zone 'UTC')::date;
begin
  perform pg_advisory_xact_lock(hashtext('sluice.partitions'));
  foreach parent in array array['requests', 'responses', 'attempts'] loop
    for i in -1..p_days loop
      d := today + i;
      made := made + sluice.ensure_partition_v1('sluice', parent, parent || '_' || to_char(d, 'YYYYMMDD'), d::text, (d + 1)::text,
        case parent when 'attempts' then ' with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05)'
                    else ' with (autovacuum_vacuum_scale_factor = 0.05)' end)::int;
    end loop;
  end loop;
  -- Weeks go on from the newest one there is: what finished while no keeper ran has its place too.
  select max(right(c.relname, 8)::date)::timestamp at time zone 'UTC' into since
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where n.nspname = 'sluice' and c.relkind = 'r' and c.relname ~ '^jobs_past_[0-9]{8}$';
  lo := date_trunc('week', today::timestamp) at time zone 'UTC' - interval '7 days';
  lo := least(lo, since);
  while lo < (today + 7 + p_days)::timestamp at time zone 'UTC' loop
    hi := lo + interval '7 days';
    made := made + sluice.ensure_partition_v1('sluice', 'jobs_past', 'jobs_past_' || to_char(lo at time zone 'UTC', 'YYYYMMDD'), lo::text, hi::text, '')::int;
    lo := hi;
  end loop;
  for i in 0..1 + p_days / 28 loop
    lo := (date_trunc('month', today::timestamp) + make_interval(months => i)) at time zone 'UTC';
    hi := ((lo at time zone 'UTC') + interval '1 month') at time zone 'UTC';
    name := 'usage_' || to_char(lo at time zone 'UTC', 'YYYYMM');
    if sluice.ensure_partition_v1('finance', 'usage', name, lo::text, hi::text, '') then
      execute format('create trigger append_only_truncate before truncate on finance.%I for each statement execute function finance.refuse_change()', name);
      made := made + 1;
    end if;
  end loop;
  return made;
end $$;

-- Drops payload days and past weeks over their retention; returns the names dropped. A payload day stays while one of its jobs lives, is
-- remembered (its stored result may be asked for again), or has an event due.
create function sluice.drop_partitions_v1(p_payloads interval, p_past interval) returns text[] language plpgsql security definer
set search_path = pg_catalog set lock_timeout = '1s' as $$
declare
  dropped text[] := '{}'; r record;
  payload_edge date := ((clock_timestamp() - p_payloads) at time zone 'UTC')::date;
  past_edge date := ((clock_timestamp() - p_past) at time zone 'UTC')::date;
begin
  perform pg_advisory_xact_lock(hashtext('sluice.partitions'));
  for r in select c.relname, right(c.relname, 8)::date as starts, split_part(c.relname, '_2', 1) as parent
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'sluice' and c.relkind = 'r' and c.relname ~ '^(requests|responses|attempts|jobs_past)_[0-9]{8}$'
            order by split_part(c.relname, '_2', 1) = 'jobs_past' desc, c.relname loop
    if r.parent = 'jobs_past' then
      continue when r.starts + 7 > past_edge;
    else
      continue when r.starts >= payload_edge;
      continue when exists (select from sluice.jobs j where j.day = r.starts);
      continue when exists (select from sluice.jobs_past p where p.day = r.starts);
      continue when exists (select from sluice.outbox o where o.day = r.starts);
    end if;
    execute format('drop table sluice.%I', r.relname);
    dropped := dropped || r.relname::text;
  end loop;
  return dropped;
end $$;
