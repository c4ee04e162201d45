"""The ledger: private schema `sluice`, public schema `finance`, and the hot functions in their first version."""

from alembic import op

from sluice_migrations.sql import run

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FILES = (
    "0001_tables",
    "0001_finance",
    "0001_finance_comments",
    "0001_partitions",
    "admit_v1",
    "begin_v1",
    "settle_v1",
    "claim_v1",
    "reap_v1",
    "cancel_v1",
    "upkeep_v1",
    "resolve_unknown_v1",
    "0001_roles",
)


def upgrade() -> None:
    for name in FILES:
        run(op.get_bind(), name)
    op.execute("select sluice.ensure_partitions_v1()")


def downgrade() -> None:
    op.execute("drop schema finance cascade")
    op.execute("drop schema sluice cascade")
