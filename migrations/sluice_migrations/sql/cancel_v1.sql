-- Cancelling: the flag on the row is the truth; whoever owns the job acts on it, or claim_ending takes it where nobody does.

-- p_uuids and p_runs: exactly one of each pair is set. Only the tenant's own jobs are touched. Returns how many live jobs were flagged.
create function sluice.cancel_v1(p_tenants text[], p_uuids uuid[], p_runs text[]) returns int language plpgsql volatile as $$
declare
  v_absent uuid[]; v_jobs bigint[]; flagged int := 0;
begin
  insert into sluice.cancels (tenant, run)
  select distinct c.tenant, c.run from unnest(p_tenants, p_runs) c(tenant, run) where c.run is not null order by 1, 2
  on conflict do nothing;
  if array_remove(p_uuids, null) = '{}' then return 0; end if;
  insert into sluice.cancels (tenant, uuid)
  select distinct c.tenant, c.uuid from unnest(p_tenants, p_uuids) c(tenant, uuid) where c.uuid is not null order by 2, 1
  on conflict do nothing;
  -- An admission of the same identity that runs at this moment must see the cancel, or be seen by it. The unique index decides:
  -- to insert the identity waits for that admission to end, and one that comes later waits for us, then finds the cancel.
  with probe as (
    insert into sluice.identities as t (uuid, job, record, body_hash)
    select distinct u.uuid, 0, u.uuid, ''::bytea from unnest(p_uuids) u(uuid) where u.uuid is not null order by 1
    on conflict do nothing returning t.uuid)
  select coalesce(array_agg(p.uuid), '{}') into v_absent from probe p;
  delete from sluice.identities t where t.uuid = any (v_absent);

  select array_agg(s.id) into v_jobs from (
    select j.id, j.state, j.cancel from unnest(p_tenants, p_uuids) c(tenant, uuid)
      join sluice.identities t on t.uuid = c.uuid
      join sluice.jobs j on j.id = t.job
      join sluice.lanes l on l.id = j.lane and l.tenant = c.tenant
     order by j.id for update of j) s
   where s.state < 10 and not s.cancel;
  update sluice.jobs j set cancel = true where j.id = any (v_jobs);
  get diagnostics flagged = row_count;
  -- Used up: it was for a job that is here, or over; or that id is another tenant's job, and the cancel means nothing.
  delete from sluice.cancels x using unnest(p_tenants, p_uuids) c(tenant, uuid)
   where x.tenant = c.tenant and x.uuid = c.uuid
     and (c.uuid <> all (v_absent)
          or exists (select from sluice.jobs_past p join sluice.lanes l on l.id = p.lane where p.uuid = c.uuid and l.tenant = c.tenant));
  return flagged;
end $$;

-- Flags the live jobs of cancelled runs, a bounded number at a time.
create function sluice.flag_cancelled_runs_v1(p_limit int) returns int language sql volatile as $$
  with over as materialized (
    select r.id from sluice.cancels c join sluice.runs r on r.tenant = c.tenant and r.name = c.run where c.run is not null),
  due as (
    select l.id from over cross join lateral (
      select j.id from sluice.jobs j where j.run = over.id and j.state < 10 and not j.cancel limit p_limit for update skip locked) l
     limit p_limit),
  flagged as (
    update sluice.jobs j set cancel = true from due where j.id = due.id returning 1)
  select count(*)::int from flagged
$$;
