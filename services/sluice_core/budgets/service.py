"""Changing budgets, for commands and whatever administers; every change is audited."""

from collections.abc import Sequence
from decimal import Decimal

from sluice_core.budgets.model import LARGEST_NANO, BudgetLine, ScopeName, TooMuch
from sluice_core.budgets.repository import BudgetRepository
from sluice_platform.errors import StartupError

DEFAULT_THRESHOLDS = (50, 80, 100)


class BudgetRefused(StartupError):
    """A budget cannot be changed as asked; the message says why."""


class BudgetService:
    """Looks at budgets and changes them."""

    def __init__(self, repository: BudgetRepository, actor: str) -> None:
        self._repository = repository
        self._actor = actor

    async def lines(self, scope: str | None = None, *, past: bool = False) -> Sequence[BudgetLine]:
        """Budgets by period; `scope` as `kind:name`."""
        return await self._repository.lines(scope, past=past)

    async def set_cap(
        self,
        scope: ScopeName,
        *,
        per: str,
        usd: Decimal,
        zone: str | None = None,
        hard: bool | None = None,
        reason: str,
    ) -> int:
        """Raise or lower a budget's cap, or make a budget; returns how many waiting jobs ask again."""
        return await self._changed(
            scope, per=per, cap=nano(usd), zone=zone, hard=hard, reason=reason
        )

    async def reset(self, scope: ScopeName, *, per: str, reason: str) -> int:
        """Put the configured cap back in force; a budget that is not configured ends."""
        return await self._changed(scope, per=per, cap=None, zone=None, hard=None, reason=reason)

    async def top_up(self, scope: ScopeName, *, per: str, usd: Decimal, reason: str) -> int:
        """Add money to the current period alone (or take it); returns how many waiting jobs ask again."""
        try:
            budget = await self._repository.top_up(
                scope, per=per, nano=nano(usd), actor=self._actor, reason=reason
            )
        except TooMuch as exc:
            raise BudgetRefused(str(exc)) from exc
        return await self._woken(budget, scope, per)

    async def _changed(
        self,
        scope: ScopeName,
        *,
        per: str,
        cap: int | None,
        zone: str | None,
        hard: bool | None,
        reason: str,
    ) -> int:
        budget = await self._repository.set_cap(
            scope,
            per=per,
            cap_nano=cap,
            zone=zone,
            hard=hard,
            thresholds=DEFAULT_THRESHOLDS,
            actor=self._actor,
            reason=reason,
        )
        return await self._woken(budget, scope, per)

    async def _woken(self, budget: int | None, scope: ScopeName, per: str) -> int:
        if budget is None:
            raise BudgetRefused(
                f"{scope.kind.label}:{scope.name} has no budget per {per}: see `sluice budgets list`"
            )
        return await self._repository.wake(budget)


def nano(usd: Decimal) -> int:
    """Dollars as whole nano-dollars; BudgetRefused for what the ledger cannot hold."""
    scaled = usd.scaleb(9)
    if not usd.is_finite() or scaled != scaled.to_integral_value() or abs(scaled) > LARGEST_NANO:
        raise BudgetRefused(f"{usd} is no amount: at most nine decimals, at most four billion")
    return int(scaled)
