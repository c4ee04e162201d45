"""Makes the coming partitions and lets go of what is over its retention."""

import structlog

from sluice_core.config.model import RetentionConfig
from sluice_core.upkeep.repository import UpkeepRepository

EVERY_S = 900.0
BATCH = 5_000
PAST_WEEKS_S = 14 * 86_400.0
"""Identities go by whole weeks; what belongs to them stays for longer than the last of a week's."""
ALERTS_S = 90 * 86_400.0
"""Alerts that are over stay for a quarter, three times as long as their events."""

_log = structlog.stdlib.get_logger(__name__)


class Partitions:
    """Partitions first: without today's nothing can be admitted."""

    def __init__(self, upkeep: UpkeepRepository, retention: RetentionConfig) -> None:
        self._upkeep = upkeep
        self._retention = retention

    async def once(self) -> bool:
        """One pass; True where more is to be removed."""
        if made := await self._upkeep.ensure_partitions():
            _log.info("partitions.made", count=made)
        dropped = await self._upkeep.drop_partitions(
            payloads_s=self._retention.payloads,
            identities_s=self._retention.idempotency,
            denials_s=self._retention.denials,
        )
        if dropped:
            _log.info("partitions.dropped", names=dropped)
        gone = await self._upkeep.purge(self._retention.idempotency + PAST_WEEKS_S, BATCH)
        alerts = await self._upkeep.purge_alerts(ALERTS_S, BATCH)
        return gone >= BATCH or alerts >= BATCH
