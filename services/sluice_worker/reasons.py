"""Why lanes wait: for the requesters of jobs that end while they wait, in this worker's hands or in the ledger."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from sluice_core.jobs.parked import ParkedRepository
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.errors import ErrorCode

EVERY_S = 0.25
LASTS_S = 5.0
"""How long after a block has ended its reason is still the best answer: the next refusal renews it."""
RENEW_S = 2.0
"""A reason is written again when what the ledger has of it ends within this."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Reason:
    code: ErrorCode
    until: float
    written: float = 0.0


class Reasons:
    """Codes by lane, from refusals; times are epoch seconds. Most jobs of a blocked lane wait in the ledger and are
    ended there by the keeper, so the ledger is told, at most every few seconds a lane."""

    def __init__(self, parked: ParkedRepository, *, clock: Callable[[], float] = time.time) -> None:
        self._parked = parked
        self._clock = clock
        self._reasons: dict[int, _Reason] = {}

    def note(self, lane: int, code: ErrorCode, until: float) -> None:
        """A job of a lane was refused with this code, and the lane waits until then."""
        reason = self._reasons.get(lane)
        if reason is None or reason.code != code:
            self._reasons[lane] = _Reason(code, until)
        else:
            reason.until = max(reason.until, until)

    def why(self, lane: int) -> ErrorCode | None:
        """What a lane waits for, or waited for a moment ago."""
        reason = self._reasons.get(lane)
        if reason is None or reason.until + LASTS_S < self._clock():
            return None
        return reason.code

    async def run(self) -> None:
        """Tell the ledger until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.tell()
            except DATABASE_ERRORS as exc:
                _log.warning("reasons.not_told", error=repr(exc))

    async def tell(self) -> None:
        """Write what the ledger does not know, and forget what is over."""
        now = self._clock()
        self._reasons = {k: r for k, r in self._reasons.items() if r.until + LASTS_S >= now}
        fresh = {
            lane: (reason.code, max(reason.until, now) + LASTS_S)
            for lane, reason in self._reasons.items()
            if reason.written - now < RENEW_S or reason.until > reason.written
        }
        if not fresh:
            return
        await self._parked.lanes_wait(fresh)
        for lane, (_, written) in fresh.items():
            self._reasons[lane].written = written
