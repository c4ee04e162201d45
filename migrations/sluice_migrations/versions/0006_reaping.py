"""What dead processes left: found by plans that are made once a session; their leases on requests end with them."""

from alembic import op

from sluice_migrations.sql import run

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(op.get_bind(), "left_v2")
    run(op.get_bind(), "look_cache_v2")


def downgrade() -> None:
    op.execute("drop function sluice.left_calling_v2, sluice.left_reading_v2, sluice.look_cache_v2")
