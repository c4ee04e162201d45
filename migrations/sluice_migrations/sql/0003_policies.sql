-- Users as bounds of keys, when a key was last used, who was refused, and audit entries on Kafka.

alter table sluice.keys add column "user" text;
alter table sluice.keys add column last_used_at timestamptz;

-- Who was refused and by which rule. Append-only, like the audit; months over their retention are dropped as partitions.
create table sluice.denials (
  record  uuid not null,                     -- uuid5 of the record, or of the job's execution, that was refused
  at      timestamptz not null default clock_timestamp(),
  tenant  text,                              -- null: the record did not show whose it is
  key_id  text,
  team    text,
  project text,
  app     text,
  user_id text,                              -- a pseudonym, as in finance.usage
  topic   text,                              -- null: refused just before a call
  model   text,
  code    text not null,
  rule    text,                              -- the policy's statement that decided; null: no policy did
  primary key (record, at)
) partition by range (at);
create index denials_at on sluice.denials (tenant, at);
create trigger append_only before update or delete on sluice.denials for each row execute function finance.refuse_change();
create trigger append_only_truncate before truncate on sluice.denials for each statement execute function finance.refuse_change();

create function sluice.ensure_denials_v1() returns int language plpgsql security definer
set search_path = pg_catalog set lock_timeout = '1s' as $$
declare
  made int := 0; lo timestamptz; hi timestamptz; name text;
  today date := (clock_timestamp() at time zone 'UTC')::date;
begin
  perform pg_advisory_xact_lock(hashtext('sluice.partitions'));
  for i in 0..1 loop
    lo := (date_trunc('month', today::timestamp) + make_interval(months => i)) at time zone 'UTC';
    hi := ((lo at time zone 'UTC') + interval '1 month') at time zone 'UTC';
    name := 'denials_' || to_char(lo at time zone 'UTC', 'YYYYMM');
    if sluice.ensure_partition_v1('sluice', 'denials', name, lo::text, hi::text, '') then
      execute format('create trigger append_only_truncate before truncate on sluice.%I for each statement execute function finance.refuse_change()', name);
      made := made + 1;
    end if;
  end loop;
  return made;
end $$;

-- Drops the months of denials that lie wholly beyond p_age; returns the names dropped.
create function sluice.drop_denials_v1(p_age interval) returns text[] language plpgsql security definer
set search_path = pg_catalog set lock_timeout = '1s' as $$
declare
  dropped text[] := '{}'; r record;
  edge timestamp := (clock_timestamp() - p_age) at time zone 'UTC';
begin
  perform pg_advisory_xact_lock(hashtext('sluice.partitions'));
  for r in select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'sluice' and c.relkind = 'r' and c.relname ~ '^denials_[0-9]{6}$'
              and to_timestamp(right(c.relname, 6), 'YYYYMM')::timestamp + interval '1 month' <= edge
            order by c.relname loop
    execute format('drop table sluice.%I', r.relname);
    dropped := dropped || r.relname::text;
  end loop;
  return dropped;
end $$;

-- Outbox rows of kind 5 tell of an audit entry. Owner 0 is nobody who is registered, so the keeper's sweeper publishes them.
alter table sluice.outbox add column audit bigint;
create function sluice.tell_audit_v1() returns trigger language plpgsql as $$
begin
  insert into sluice.outbox (owner, kind, audit) values (0, 5, new.id);
  return null;
end $$;
create trigger told after insert on sluice.audit for each row execute function sluice.tell_audit_v1();
create index audit_at on sluice.audit (at);

grant select, insert on sluice.denials to sluice_service;
revoke execute on function sluice.ensure_denials_v1(), sluice.drop_denials_v1(interval), sluice.tell_audit_v1() from public;
grant execute on function sluice.ensure_denials_v1(), sluice.drop_denials_v1(interval), sluice.tell_audit_v1() to sluice_service;
