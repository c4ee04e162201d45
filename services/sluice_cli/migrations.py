"""The ledger's migrations as commands use them."""

from sluice_migrations import run as _moves  # type: ignore[import-untyped]


async def upgrade(dsn: str) -> None:
    """Bring the database at `dsn` to the newest revision that this build knows."""
    await _moves.upgrade_async(dsn)


async def revisions(dsn: str) -> tuple[str | None, str | None]:
    """The database's revision (None: no ledger) and the newest one that this build knows."""
    current, head = await _moves.revisions(dsn)
    return current, head
