-- Partitions are made ahead by the keeper (and once by the migration); making one that exists does nothing.
create function sluice.ensure_partitions_v1(p_days int default 7) returns int language plpgsql security definer set search_path = pg_catalog as $$
declare
  made int := 0; parent text; d date; lo timestamptz; hi timestamptz; name text;
begin
  perform pg_advisory_xact_lock(hashtext('sluice.partitions'));
  foreach parent in array array['requests', 'responses', 'attempts'] loop
    for i in -1..p_days loop
      d := (clock_timestamp() at time zone 'UTC')::date + i;
      name := parent || '_' || to_char(d, 'YYYYMMDD');
      if to_regclass('sluice.' || name) is null then
        execute format('create table sluice.%I partition of sluice.%I for values from (%L) to (%L) with (%s)', name, parent, d, d + 1,
          case parent when 'attempts' then 'fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05' else 'autovacuum_vacuum_scale_factor = 0.05' end);
        made := made + 1;
      end if;
    end loop;
  end loop;
  for i in -1..1 + p_days / 7 loop
    lo := (date_trunc('week', clock_timestamp() at time zone 'UTC') + make_interval(weeks => i)) at time zone 'UTC';
    hi := lo + interval '7 days';
    name := 'jobs_past_' || to_char(lo at time zone 'UTC', 'YYYYMMDD');
    if to_regclass('sluice.' || name) is null then
      execute format('create table sluice.%I partition of sluice.jobs_past for values from (%L) to (%L)', name, lo, hi);
      made := made + 1;
    end if;
  end loop;
  for i in 0..1 + p_days / 28 loop
    lo := (date_trunc('month', clock_timestamp() at time zone 'UTC') + make_interval(months => i)) at time zone 'UTC';
    hi := ((lo at time zone 'UTC') + interval '1 month') at time zone 'UTC';
    name := 'usage_' || to_char(lo at time zone 'UTC', 'YYYYMM');
    if to_regclass('finance.' || name) is null then
      execute format('create table finance.%I partition of finance.usage for values from (%L) to (%L)', name, lo, hi);
      execute format('create trigger append_only_truncate before truncate on finance.%I for each statement execute function finance.refuse_change()', name);
      made := made + 1;
    end if;
  end loop;
  return made;
end $$;

-- Drops payload days, past weeks that are over their retention and of which nothing lives; returns the names dropped.
create function sluice.drop_partitions_v1(p_payloads interval, p_past interval) returns text[] language plpgsql security definer set search_path = pg_catalog as $$
declare
  dropped text[] := '{}'; r record; edge date;
begin
  perform pg_advisory_xact_lock(hashtext('sluice.partitions'));
  edge := ((clock_timestamp() - p_payloads) at time zone 'UTC')::date;
  for r in select c.relname, right(c.relname, 8)::date as starts, split_part(c.relname, '_2', 1) as parent
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'sluice' and c.relkind = 'r' and c.relname ~ '^(requests|responses|attempts|jobs_past)_[0-9]{8}$' loop
    if r.parent = 'jobs_past' then
      continue when r.starts + 7 > ((clock_timestamp() - p_past) at time zone 'UTC')::date;
    else
      continue when r.starts >= edge;
      continue when exists (select from sluice.jobs j where j.day = r.starts and j.state < 10);
    end if;
    execute format('drop table sluice.%I', r.relname);
    dropped := dropped || r.relname::text;
  end loop;
  return dropped;
end $$;
