"""Limits and budgets: scopes, budgets and their periods; begin and settle draw on them."""

from alembic import op

from sluice_migrations.sql import run

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FILES = (
    "0002_limits",
    "begin_v2",
    "give_back_v2",
    "settle_v2",
    "resolve_unknown_v2",
    "define_scopes_v1",
    "budgets_v1",
    "0002_finance",
)


def upgrade() -> None:
    for name in FILES:
        run(op.get_bind(), name)
    # A worker of the version before would call past every limit: it is stopped here instead.
    op.execute("drop function sluice.begin_v1, sluice.settle_v1, sluice.resolve_unknown_v1")
    op.execute("drop type sluice.intent_v1, sluice.settlement_v1")


def downgrade() -> None:
    op.execute("drop view finance.budgets")
    op.execute("drop function sluice.begin_v2, sluice.settle_v2, sluice.resolve_unknown_v2")
    op.execute("drop function sluice.give_back_v2, sluice.unhold_v2, sluice.define_scopes_v1")
    op.execute("drop function sluice.lock_periods_v1, sluice.period_start_v1, sluice.period_end_v1")
    op.execute("drop type sluice.intent_v2, sluice.settlement_v2, sluice.ended_v2")
    op.execute("drop type sluice.scope_v1, sluice.budget_v1, sluice.usage_v1")
    op.execute("drop function sluice.set_budget_v1, sluice.topup_budget_v1")
    op.execute("drop function sluice.watch_budgets_v1, sluice.tell_alerts_v1")
    op.execute("drop function sluice.purge_alerts_v1")
    op.execute("drop function sluice.budget_subject_v1")
    op.execute("drop function sluice.defer_v1, sluice.wake_deferred_v1, sluice.wake_affordable_v1")
    op.execute("drop view sluice.scopes_now, sluice.budget_periods_now")
    op.execute("drop table sluice.decision_log, sluice.deferred, sluice.alerts")
    op.execute("drop table sluice.period_state, sluice.budget_periods, sluice.budgets")
    op.execute("drop table sluice.scope_state, sluice.scopes")
    op.execute("drop function sluice.scope_made_v1, sluice.period_made_v1")
    op.execute("alter table sluice.unresolved drop column periods")
    for column in ("route", "class", "tokens", "bound", "scopes", "periods"):
        op.execute(f"alter table sluice.attempts drop column {column}")
    run(op.get_bind(), "begin_v1")
    run(op.get_bind(), "settle_v1")
    run(op.get_bind(), "resolve_unknown_v1")
    op.execute("revoke execute on all functions in schema sluice from public")
    op.execute("grant execute on all functions in schema sluice to sluice_service")
