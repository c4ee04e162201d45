"""Puts jobs back into their lanes that stood aside for a held run, once nobody holds it."""

import structlog

from sluice_core.jobs.parked import ParkedRepository

EVERY_S = 1.0
BATCH = 2_000

_log = structlog.stdlib.get_logger(__name__)


class Shelf:
    """Level-triggered, so that a command that dies after it lifted a hold leaves nothing behind."""

    def __init__(self, parked: ParkedRepository) -> None:
        self._parked = parked

    async def once(self) -> bool:
        """One batch; True where there may be more."""
        back = await self._parked.unshelve(BATCH)
        if back:
            _log.info("shelf.put_back", jobs=back)
        return back >= BATCH
