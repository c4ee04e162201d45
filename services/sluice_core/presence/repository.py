"""Statements on the processes that may own jobs."""

from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a heartbeat brings back. `known` False: this incarnation was declared dead and must stop.

    `cancels`: rows of this process whose cancel flag is up. The versions move with every change.
    """

    known: bool
    cancels: list[int]
    keys_version: int
    config_version: int


class PresenceRepository:
    """Registers an incarnation, beats for it, and reads everybody's beats."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def register(self, incarnation: int, *, name: str, kind: str, pool: str) -> None:
        """Enter a process before it owns anything."""
        await self._pool.execute(
            "insert into sluice.workers (incarnation, name, kind, pool) values ($1, $2, $3, $4)"
            " on conflict (incarnation) do nothing",
            incarnation,
            name,
            kind,
            pool,
        )

    async def leave(self, incarnation: int) -> None:
        """Remove a process that owns nothing any more."""
        await self._pool.execute("delete from sluice.workers where incarnation = $1", incarnation)

    async def beat(self, incarnation: int) -> Beat:
        """Raise the counter."""
        row = await self._pool.fetchrow("select * from sluice.beat_v1($1)", incarnation)
        return Beat(**dict(row))

    async def beats(self) -> tuple[dict[int, int], float]:
        """Every counter, and when the database server started (epoch seconds)."""
        rows = await self._pool.fetch(
            "select incarnation, beat, extract(epoch from pg_postmaster_start_time())::float8 as started"
            " from sluice.workers"
            " union all select 0, 0, extract(epoch from pg_postmaster_start_time())::float8"
        )
        return {row["incarnation"]: row["beat"] for row in rows if row["incarnation"]}, rows[-1][
            "started"
        ]
