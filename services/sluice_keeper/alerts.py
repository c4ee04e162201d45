"""Budgets and alerts: thresholds that are reached are told on Kafka once, and jobs that wait for money are woken."""

from sluice_core.budgets.repository import BudgetRepository
from sluice_core.publishing.model import Origin

EVERY_S = 1.0
BATCH = 200
WAKE_BATCH = 500


class Alerts:
    """Raises what budgets say, enters the events (the sweeper sends what a crash leaves), and wakes who can pay now."""

    def __init__(self, budgets: BudgetRepository, origin: Origin, incarnation: int) -> None:
        self._budgets = budgets
        self._origin = origin
        self._incarnation = incarnation

    async def once(self) -> bool:
        """One pass; True where there may be more."""
        await self._budgets.watch()
        woken = await self._budgets.wake_affordable(WAKE_BATCH)
        told = await self._budgets.tell(
            BATCH,
            owner=self._incarnation,
            topic=self._origin.topics.alerts,
            source=self._origin.source.decode(),
        )
        return told >= BATCH or woken >= WAKE_BATCH
