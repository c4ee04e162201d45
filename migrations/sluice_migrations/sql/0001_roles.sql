-- sluice_finance reads schema finance and nothing else; sluice_service is what workers and keepers log in as a member of.
-- Neither has a password: grant one, or make a login role a member.
do $$ begin
  create role sluice_finance login;
  alter role sluice_finance set statement_timeout = '10min';
  alter role sluice_finance set idle_in_transaction_session_timeout = '1min';
exception when duplicate_object or unique_violation then null; end $$;
do $$ begin
  create role sluice_service nologin;
exception when duplicate_object or unique_violation then null; end $$;

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
