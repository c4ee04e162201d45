"""Users of keys and their last use, the record of denials, and audit entries as events."""

from alembic import op

from sluice_migrations.sql import run

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(op.get_bind(), "0003_policies")
    op.execute("select sluice.ensure_denials_v1()")


def downgrade() -> None:
    op.execute("drop index sluice.audit_at")
    op.execute("drop trigger told on sluice.audit")
    op.execute("drop function sluice.tell_audit_v1()")
    op.execute("delete from sluice.outbox where kind = 5")
    op.execute("alter table sluice.outbox drop column audit")
    op.execute("drop function sluice.drop_denials_v1(interval)")
    op.execute("drop function sluice.ensure_denials_v1()")
    op.execute("drop table sluice.denials")
    op.execute('alter table sluice.keys drop column last_used_at, drop column "user"')
