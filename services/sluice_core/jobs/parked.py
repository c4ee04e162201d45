"""How much waits in the ledger: what intake's backpressure goes by."""

import asyncpg

from sluice_schemas.classes import JobClass


class ParkedRepository:
    """Counts what is parked; each method is one statement."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def rows(self, job_class: JobClass, limit: int) -> int:
        """Parked rows of a class; counting ends at `limit`."""
        count: int = await self._pool.fetchval(
            "select count(*) from (select 1 from sluice.lanes l join sluice.jobs j on j.lane = l.id and j.state = 1"
            " where l.class = $1 limit $2) s",
            job_class,
            limit,
        )
        return count

    async def bytes(self) -> int:
        """The size of all stored requests on disk."""
        size: int = await self._pool.fetchval(
            "select coalesce(sum(pg_total_relation_size(i.inhrelid)), 0)::bigint from pg_inherits i"
            " where i.inhparent = 'sluice.requests'::regclass"
        )
        return size
