"""Statements of upkeep: partitions, what is remembered too long, held money, finished runs, the dead."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from sluice_core.publishing.model import Message
from sluice_core.publishing.repository import pack_headers
from sluice_core.upkeep.model import Held

REASON: Final = "unknown.after"
ACTOR: Final = "keeper"


class UpkeepRepository:
    """Each method is one autocommit statement; all may be repeated by any number of processes."""

    def __init__(self, pool: asyncpg.Pool, incarnation: int) -> None:
        self._pool = pool
        self._incarnation = incarnation

    async def ensure_partitions(self) -> int:
        """Make the coming days', weeks' and months' partitions; returns how many were missing."""
        made: int = await self._pool.fetchval(
            "select sluice.ensure_partitions_v1() + sluice.ensure_denials_v1()"
        )
        return made

    async def drop_partitions(
        self, *, payloads_s: float, identities_s: float, denials_s: float
    ) -> list[str]:
        """Drop partitions over these ages in seconds; returns their names."""
        names: list[str] = await self._pool.fetchval(
            "select sluice.drop_partitions_v1(make_interval(secs => $1), make_interval(secs => $2))"
            " || sluice.drop_denials_v1(make_interval(secs => $3))",
            payloads_s,
            identities_s,
            denials_s,
        )
        return names

    async def purge(self, age_s: float, limit: int) -> int:
        """Remove what is older than `age_s` seconds and is remembered for no longer, at most `limit` rows a table."""
        count: int = await self._pool.fetchval(
            "select sluice.purge_v1(make_interval(secs => $1), $2)", age_s, limit
        )
        return count

    async def purge_alerts(self, age_s: float, limit: int) -> int:
        """Remove alerts that have been over for `age_s` seconds and that everybody was told of, at most `limit`."""
        count: int = await self._pool.fetchval(
            "select sluice.purge_alerts_v1(make_interval(secs => $1), $2)", age_s, limit
        )
        return count

    async def bury(self, silent: Sequence[int], lease_s: float) -> list[int]:
        """Remove the rows of silent processes of which nothing is left; returns which."""
        rows = await self._pool.fetch(
            "select * from sluice.bury_v1($1, make_interval(secs => $2)) b(incarnation)",
            silent,
            lease_s,
        )
        return [row["incarnation"] for row in rows]

    async def unresolved(self, age_s: float, limit: int) -> list[Held]:
        """Money held for longer than `age_s` seconds, the longest first."""
        rows = await self._pool.fetch(
            "select usage_id, held_nano, input_nano from sluice.unresolved"
            " where since < clock_timestamp() - make_interval(secs => $1) order by since limit $2",
            age_s,
            limit,
        )
        return [Held(**dict(row)) for row in rows]

    async def resolve(self, usage_id: UUID, correction_id: UUID, cost_nano: int) -> bool:
        """Book held money as a correction; False where somebody else has."""
        done = await self._pool.fetchval(
            "select sluice.resolve_unknown_v2($1, $2, $3, $4, $5, $6)",
            usage_id,
            correction_id,
            cost_nano,
            REASON,
            ACTOR,
            self._incarnation,
        )
        return done is not None

    async def complete_runs(
        self, *, quiet_s: float, limit: int, topic: str, source: str
    ) -> list[tuple[str, str]]:
        """Mark runs complete that have been quiet, with their events; returns (tenant, run)."""
        rows = await self._pool.fetch(
            "select tenant, name from sluice.complete_runs_v1(make_interval(secs => $1), $2, $3, $4, $5)",
            quiet_s,
            limit,
            self._incarnation,
            topic,
            source,
        )
        return [(row["tenant"], row["name"]) for row in rows]

    async def tell_once(self, ce_id: UUID, message: Message) -> bool:
        """Enter an event unless this fact was told before; returns whether it was new."""
        new: bool = await self._pool.fetchval(
            "select sluice.tell_once_v1($1, $2, $3, $4, $5, $6)",
            ce_id,
            self._incarnation,
            message.topic,
            message.key,
            pack_headers(message.headers),
            message.value,
        )
        return new
