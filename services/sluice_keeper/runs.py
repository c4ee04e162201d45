"""Says once that a run is complete: no live job, and no new one for a while."""

import structlog

from sluice_core.publishing.model import Origin
from sluice_core.upkeep.repository import UpkeepRepository

EVERY_S = 1.0
QUIET_S = 10.0
BATCH = 100

_log = structlog.stdlib.get_logger(__name__)


class Runs:
    """Marks runs and enters their events in one statement; the sweeper sends them."""

    def __init__(
        self, upkeep: UpkeepRepository, origin: Origin, *, quiet_s: float = QUIET_S
    ) -> None:
        self._upkeep = upkeep
        self._origin = origin
        self._quiet_s = quiet_s

    async def once(self) -> bool:
        """One batch; True where there may be more."""
        done = await self._upkeep.complete_runs(
            quiet_s=self._quiet_s,
            limit=BATCH,
            topic=self._origin.topics.runs,
            source=self._origin.source.decode(),
        )
        for tenant, run in done:
            _log.info("run.completed", tenant=tenant, run_id=run)
        return len(done) == BATCH
