"""Routing and caching: targets that are left alone, and answers that are given again, shared between workers."""

from alembic import op

from sluice_migrations.sql import run

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(op.get_bind(), "0005_routing")
    run(op.get_bind(), "0005_cache")


def downgrade() -> None:
    for function in ("look_meaning_v1", "keep_meanings_v1", "purge_meanings_v1"):
        op.execute(f"drop function if exists sluice.{function}")
    op.execute("drop table if exists sluice.meanings")
    op.execute("drop function sluice.look_cache_v1, sluice.keep_cache_v1, sluice.purge_cache_v1")
    op.execute("drop type sluice.cached_v1")
    op.execute("drop table sluice.cache")
    op.execute("drop function sluice.share_breakers_v1")
    op.execute("drop type sluice.opening_v1, sluice.target_v1")
    op.execute("drop table sluice.breakers")
    op.execute("drop table sluice.provider_keys")
