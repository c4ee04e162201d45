"""The ledger's migrations as commands use them."""

from sluice_migrations import run as _moves  # type: ignore[import-untyped]


async def upgrade(dsn: str, *, unlogged_cache: bool | None = None) -> None:
    """Bring the database at `dsn` to the newest revision that this build knows; `unlogged_cache` None: as it is."""
    await _moves.upgrade_async(dsn, unlogged_cache=unlogged_cache)


async def revisions(dsn: str) -> tuple[str | None, str | None]:
    """The database's revision (None: no ledger) and the newest one that this build knows."""
    current, head = await _moves.revisions(dsn)
    return current, head
