-- Cancelling: the flag on the row is the truth; whoever owns the job acts on it, or claim_ending takes it where nobody does.

-- p_uuids and p_runs: exactly one of each pair is set. Only the tenant's own jobs are touched. Returns how many live jobs were flagged.
create function sluice.cancel_v1(p_tenants text[], p_uuids uuid[], p_runs text[]) returns int language plpgsql volatile as $$
declare
  flagged int := 0; v_job bigint; v_row record; r record;
begin
  for r in select c.tenant, c.uuid, c.run from unnest(p_tenants, p_uuids, p_runs) c(tenant, uuid, run) order by c.uuid, c.tenant, c.run loop
    if r.run is not null then
      insert into sluice.cancels (tenant, run) values (r.tenant, r.run) on conflict do nothing;
      continue;
    end if;
    -- The pending cancel is written first: an admission that does not see it yet is seen below.
    insert into sluice.cancels (tenant, uuid) values (r.tenant, r.uuid) on conflict do nothing;
    select t.job into v_job from sluice.identities t where t.uuid = r.uuid;
    if not found then
      -- A job that has moved to the past is over; nothing is kept for it.
      if exists (select from sluice.jobs_past p join sluice.lanes l on l.id = p.lane where p.uuid = r.uuid and l.tenant = r.tenant) then
        delete from sluice.cancels c where c.uuid = r.uuid and c.tenant = r.tenant;
      end if;
      continue;
    end if;
    select j.state, j.cancel, l.tenant into v_row from sluice.jobs j join sluice.lanes l on l.id = j.lane where j.id = v_job for update of j;
    if found and v_row.tenant = r.tenant then
      if v_row.state < 10 and not v_row.cancel then
        update sluice.jobs j set cancel = true where j.id = v_job;
        flagged := flagged + 1;
      end if;
    end if;
    -- Either it was for this job and is used up, or another tenant's job has that id and the cancel means nothing.
    if v_row is not null then delete from sluice.cancels c where c.uuid = r.uuid and c.tenant = r.tenant; end if;
  end loop;
  return flagged;
end $$;

-- Flags the live jobs of cancelled runs, a bounded number at a time.
create function sluice.flag_cancelled_runs_v1(p_limit int) returns int language sql volatile as $$
  with due as (
    select j.id from sluice.cancels c
      join sluice.runs r on r.tenant = c.tenant and r.name = c.run
      join sluice.jobs j on j.run = r.id and j.state < 10 and not j.cancel
     where c.run is not null
     order by j.id limit p_limit for update of j skip locked),
  flagged as (
    update sluice.jobs j set cancel = true from due where j.id = due.id returning 1)
  select count(*)::int from flagged
$$;
