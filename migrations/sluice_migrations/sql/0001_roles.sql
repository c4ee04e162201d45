-- sluice_finance reads schema finance and nothing else; sluice_service is what workers and keepers log in as a member of.
-- Neither has a password: grant one, or make a login role a member.
do $$ begin
  create role sluice_finance login;
  -- An old snapshot keeps every worker's dead rows: long reports go to a replica.
  alter role sluice_finance set statement_timeout = '60s';
  alter role sluice_finance set idle_in_transaction_session_timeout = '60s';
exception when duplicate_object or unique_violation then null; end $$;
do $$ begin
  create role sluice_service nologin;
exception when duplicate_object or unique_violation then null; end $$;

do $$ begin
  -- Everyone may make temporary tables by default; here nobody needs them, and they fill the ledger's disk.
  execute format('revoke temporary on database %I from public', current_database());
end $$;
grant usage on schema finance to sluice_finance, sluice_service;
grant select on all tables in schema finance to sluice_finance, sluice_service;
grant execute on function finance.watermark(pg_snapshot) to sluice_finance;
grant insert on finance.usage, finance.users to sluice_service;
grant usage on schema sluice to sluice_service;
do $$ begin
  grant select on public.schema_version to sluice_service;
exception when undefined_table then null; end $$;
grant select, insert, update, delete on all tables in schema sluice to sluice_service;
revoke update, delete on sluice.audit from sluice_service;
grant usage on all sequences in schema sluice to sluice_service;
revoke execute on all functions in schema sluice from public;
grant execute on all functions in schema sluice to sluice_service;
