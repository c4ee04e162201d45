-- What finance reads of budgets: the current period of each, and the past ones there are rows of.
create view finance.budgets as
  select (array['tenant', 'team', 'project', 'app', 'user', 'key', 'model', 'account', 'target', 'run'])[s.kind] || ':' || s.name as scope,
         case b.per when 'day' then to_char(p.starts_at at time zone b.zone, 'YYYY-MM-DD') when 'week' then to_char(p.starts_at at time zone b.zone, 'IYYY-"W"IW')
                    when 'month' then to_char(p.starts_at at time zone b.zone, 'YYYY-MM') when 'quarter' then to_char(p.starts_at at time zone b.zone, 'YYYY-"Q"Q')
                    else 'total' end as period,
         (p.cap_nano * 0.000000001)::numeric(24, 9) as cap, (p.spent_nano * 0.000000001)::numeric(24, 9) as spent,
         (p.held_nano * 0.000000001)::numeric(24, 9) as held, (p.reserved_nano * 0.000000001)::numeric(24, 9) as reserved,
         ((p.cap_nano::numeric - p.spent_nano - p.held_nano - p.reserved_nano) * 0.000000001)::numeric(24, 9) as remaining,
         case when b.per = 'total' then null when p.ends_at <= now() then ((p.spent_nano + p.held_nano) * 0.000000001)::numeric(24, 9)
              else ((p.spent_nano + p.held_nano) * 0.000000001
                    / least(1, greatest(extract(epoch from now() - greatest(p.starts_at, b.created_at)) / extract(epoch from p.ends_at - greatest(p.starts_at, b.created_at)), 0.001)))::numeric(24, 9)
         end as forecast,
         b.per, b.zone, case when b.hard then 'hard' else 'soft' end as kind, nullif(p.starts_at, timestamptz 'epoch') as starts_at,
         nullif(p.ends_at, timestamptz 'infinity') as ends_at, b.active
    from sluice.budgets b
    join sluice.scopes s on s.id = b.scope
   cross join lateral (
     select q.starts_at, q.ends_at, coalesce(b.own_cap_nano, b.cap_nano) + q.topup_nano as cap_nano, q.spent_nano, q.held_nano, q.reserved_nano
       from sluice.budget_periods_now q where q.budget = b.id
     union all
     select c.starts_at, c.ends_at, coalesce(b.own_cap_nano, b.cap_nano), 0, 0, 0 from (
       -- As sluice.period_start_v1 and period_end_v1 say, which a reader may not call.
       select case when b.per = 'total' then timestamptz 'epoch' else date_trunc(b.per, now() at time zone b.zone) at time zone b.zone end as starts_at,
              case when b.per = 'total' then timestamptz 'infinity'
                   else (date_trunc(b.per, now() at time zone b.zone)
                         + case when b.per = 'quarter' then interval '3 months' else ('1 ' || b.per)::interval end) at time zone b.zone end as ends_at) c
      where b.active and not exists (select from sluice.budget_periods q where q.budget = b.id and q.starts_at = c.starts_at)) p;

comment on view finance.budgets is 'Budgets by period: what may be spent, was spent, and is set aside. US dollars.';
comment on column finance.budgets.scope is 'Whose budget it is, such as tenant:acme, project:acme/search or run:acme/nightly';
comment on column finance.budgets.period is 'The calendar period, such as 2026-11, 2026-W48 or 2026-Q4; total: since the budget was made';
comment on column finance.budgets.cap is 'What may be spent in the period, one-off top-ups included';
comment on column finance.budgets.spent is 'The sum of cost_usd of the usage rows that the budget covers, by started_at';
comment on column finance.budgets.held is 'Money of calls whose outcome is unknown, until it is settled';
comment on column finance.budgets.reserved is 'The most that the calls in flight can cost';
comment on column finance.budgets.remaining is 'cap - spent - held - reserved';
comment on column finance.budgets.forecast is 'spent and held at the end of the period if it goes on as so far; null for totals';
comment on column finance.budgets.per is 'day, week, month, quarter or total';
comment on column finance.budgets.zone is 'The time zone in which its calendar runs';
comment on column finance.budgets.kind is 'hard: never exceeded; soft: alerts only';
comment on column finance.budgets.starts_at is 'Begin of the period; null for totals';
comment on column finance.budgets.ends_at is 'End of the period, exclusive; null for totals';
comment on column finance.budgets.active is 'Whether new calls still draw on it';

grant select on finance.budgets to sluice_finance, sluice_service;
grant select on sluice.scopes_now, sluice.budget_periods_now to sluice_service;
grant select, insert, update, delete on sluice.scopes, sluice.scope_state, sluice.budgets, sluice.budget_periods, sluice.period_state, sluice.alerts, sluice.deferred, sluice.decision_log to sluice_service;
grant usage on all sequences in schema sluice to sluice_service;
revoke execute on all functions in schema sluice from public;
grant execute on all functions in schema sluice to sluice_service;
