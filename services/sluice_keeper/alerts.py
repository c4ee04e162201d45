"""Alerts: thresholds that budgets reach, and whatever else was raised, told on Kafka once."""

from sluice_core.budgets.repository import BudgetRepository
from sluice_core.publishing.model import Origin

EVERY_S = 1.0
BATCH = 200


class Alerts:
    """Raises what budgets say and enters the events; the sweeper sends what a crash leaves."""

    def __init__(self, budgets: BudgetRepository, origin: Origin, incarnation: int) -> None:
        self._budgets = budgets
        self._origin = origin
        self._incarnation = incarnation

    async def once(self) -> bool:
        """One pass; True where there may be more."""
        await self._budgets.watch()
        told = await self._budgets.tell(
            BATCH,
            owner=self._incarnation,
            topic=self._origin.topics.alerts,
            source=self._origin.source.decode(),
        )
        return told >= BATCH
