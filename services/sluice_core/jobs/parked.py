"""What waits in the ledger: how much of it, in which lanes, and what stands aside for an operator."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import asyncpg

from sluice_schemas.classes import JobClass


class ParkedRepository:
    """Counts what is parked and moves it in and out of its lanes; each method is one statement."""

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

    async def of_tenants(self, job_class: JobClass, limits: Mapping[str, int]) -> Mapping[str, int]:
        """Parked rows of tenants in a class; counting ends at each one's limit."""
        counts = await self._pool.fetchval(
            "select sluice.parked_v1($1::smallint, $2, $3)",
            job_class,
            list(limits),
            list(limits.values()),
        )
        return dict(zip(limits, counts, strict=True))

    async def bytes(self) -> int:
        """The size of all stored requests on disk."""
        size: int = await self._pool.fetchval(
            "select coalesce(sum(pg_total_relation_size(i.inhrelid)), 0)::bigint from pg_inherits i"
            " where i.inhparent = 'sluice.requests'::regclass"
        )
        return size

    async def waiting_lanes(self) -> set[int]:
        """The lanes that have parked rows."""
        rows = await self._pool.fetch("select lane from sluice.waiting_lanes_v1() w(lane)")
        return {row["lane"] for row in rows}

    async def lanes_wait(self, reasons: Mapping[int, tuple[str, float]]) -> None:
        """Note what lanes wait for, each (error code, until when in epoch seconds); a row in use is left out."""
        codes, untils = zip(*reasons.values(), strict=True)
        await self._pool.execute(
            "with said as (select * from unnest($1::int[], $2::text[], $3::float8[]) s(lane, code, until)),"
            " mine as (select l.id from sluice.lanes l join said s on s.lane = l.id order by l.id"
            "          for update of l skip locked)"
            " update sluice.lanes l set waits_for = s.code, waits_until = to_timestamp(s.until)"
            "   from said s join mine m on m.id = s.lane where l.id = s.lane",
            list(reasons),
            codes,
            untils,
        )

    async def known(self, jobs: Iterable[UUID]) -> set[UUID]:
        """Which of these identities are remembered: a record that names one makes no new job."""
        rows = await self._pool.fetch(
            "select uuid from sluice.identities where uuid = any ($1)"
            " union select uuid from sluice.jobs_past where uuid = any ($1)",
            list(jobs),
        )
        return {UUID(bytes=row["uuid"].bytes) for row in rows}

    async def shelve(self, owner: int, rows: Sequence[int]) -> int:
        """Set owned rows aside until they end or `unshelve` puts them back; returns how many were."""
        count: int = await self._pool.fetchval("select sluice.shelve_v1($1, $2)", owner, rows)
        return count

    async def unshelve(self, limit: int) -> int:
        """Put rows back whose run is not held, at most `limit` now."""
        count: int = await self._pool.fetchval("select sluice.unshelve_v1($1)", limit)
        return count
