"""Dispatch: claims with a bound for each lane, and what operators hold."""

from alembic import op

from sluice_migrations.sql import run

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(op.get_bind(), "0004_holds")
    run(op.get_bind(), "claim_v2")


def downgrade() -> None:
    op.execute("drop function sluice.claim_v2, sluice.claim_ending_v2, sluice.shelve_v1")
    op.execute("drop function sluice.unshelve_v1, sluice.waiting_lanes_v1, sluice.parked_v1")
    op.execute("drop type sluice.cursor_v2")
    op.execute("drop index sluice.jobs_retry_lane")
    op.execute("alter table sluice.lanes drop column waits_for, drop column waits_until")
    op.execute("drop table sluice.holds, sluice.shelved")
