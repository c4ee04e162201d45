"""The ledger's statement on breakers: one worker's news in, what is open for everybody out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import asyncpg

Key = tuple[str, str]
"""An account and a model there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNews:
    """A breaker that opened here; `fault`: the account's own, somebody is alerted."""

    key: Key
    level: int
    open_s: float
    reason: str
    fault: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRow:
    """A breaker that is open, for so many seconds more (negative: it is time to probe); `mine`: this worker probes."""

    key: Key
    level: int
    reason: str
    left_s: float
    mine: bool


class BreakerRepository:
    """Shares breakers between workers."""

    def __init__(self, pool: asyncpg.Pool, worker: int) -> None:
        self._pool = pool
        self._worker = worker

    async def share(
        self,
        *,
        opened: Sequence[OpenNews] = (),
        closed: Iterable[Key] = (),
        given_up: Iterable[Key] = (),
        wanted: Iterable[Key] = (),
        unpriced: Iterable[Key] = (),
        probe_s: float,
    ) -> list[OpenRow]:
        """Tell what changed here and read what is open.

        `probe_s`: how long a probe granted now is nobody else's. `unpriced`: calls there are booked at 0.
        """
        rows = await self._pool.fetch(
            "select * from sluice.share_breakers_v1($1, $2, $3, $4, $5, $6, $7)",
            self._worker,
            [(*o.key, o.level, o.open_s, o.reason, o.fault) for o in opened],
            list(closed),
            list(given_up),
            list(wanted),
            list(unpriced),
            probe_s,
        )
        return [
            OpenRow(
                key=(row["account"], row["model"]),
                level=row["level"],
                reason=row["reason"],
                left_s=row["left_s"],
                mine=row["mine"],
            )
            for row in rows
        ]
