"""A stand-in for the scopes' tables."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "create table sluice.scopes (id bigint generated always as identity primary key, kind smallint not null,"
        " name text not null, weight float8 not null default 1, virtual float8[] not null default '{0,0,0}',"
        " unique (kind, name))"
    )
    op.execute("grant select, insert, update, delete on sluice.scopes to sluice_service")


def downgrade() -> None:
    op.execute("drop table sluice.scopes")
