"""Books attempts of unknown outcome whose money was held for so long that nobody will say what they cost."""

import structlog

from sluice_core.config.model import UnknownConfig
from sluice_core.upkeep.policy import booked_nano
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_platform.ids import uuid7

EVERY_S = 30.0
BATCH = 500

_log = structlog.stdlib.get_logger(__name__)


class Unknowns:
    """One correction each; whoever books first has booked it."""

    def __init__(self, upkeep: UpkeepRepository, policy: UnknownConfig) -> None:
        self._upkeep = upkeep
        self._policy = policy

    async def once(self) -> bool:
        """One batch; True where there may be more."""
        overdue = await self._upkeep.unresolved(self._policy.after, BATCH)
        for held in overdue:
            cost = booked_nano(held, self._policy.book)
            if await self._upkeep.resolve(held.usage_id, uuid7(), cost):
                _log.info("unknown.booked", usage_id=str(held.usage_id), cost_nano=cost)
        return len(overdue) == BATCH
