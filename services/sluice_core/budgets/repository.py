"""Statements on budgets as a whole; what calls draw on them is `sluice_core.admission`'s."""

from collections.abc import Sequence

import asyncpg

from sluice_core.budgets.model import BudgetLine, ScopeName, TooMuch

_WAKE_BATCH = 500


class BudgetRepository:
    """Each change and its audit entry are one statement."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lines(self, scope: str | None, *, past: bool) -> list[BudgetLine]:
        """The current period of each active budget, or with `past` every period there is."""
        rows = await self._pool.fetch(
            "select scope, per, period, kind, cap, spent, held, reserved, remaining, forecast, zone, ends_at"
            " from finance.budgets"
            " where ($1::text is null or scope = $1) and ($2 or (active and coalesce(ends_at, 'infinity') > now()))"
            " order by scope, per, starts_at desc nulls last",
            scope,
            past,
        )
        return [BudgetLine(**dict(row)) for row in rows]

    async def set_cap(
        self,
        scope: ScopeName,
        *,
        per: str,
        cap_nano: int | None,
        zone: str | None,
        hard: bool | None,
        thresholds: Sequence[int],
        actor: str,
        reason: str,
    ) -> int | None:
        """Put an operator's cap in force (None: take it back); the budget's id, None where there is none."""
        budget: int | None = await self._pool.fetchval(
            "select sluice.set_budget_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            scope.kind,
            scope.name,
            per,
            zone,
            hard,
            cap_nano,
            thresholds,
            actor,
            reason,
        )
        return budget

    async def top_up(
        self, scope: ScopeName, *, per: str, nano: int, actor: str, reason: str
    ) -> int | None:
        """Change the current period's money once; the budget's id, None where there is none. Raises TooMuch."""
        try:
            budget: int | None = await self._pool.fetchval(
                "select sluice.topup_budget_v1($1, $2, $3, $4, $5, $6)",
                scope.kind,
                scope.name,
                per,
                nano,
                actor,
                reason,
            )
        except asyncpg.NumericValueOutOfRangeError as exc:
            raise TooMuch(exc.message) from exc
        return budget

    async def wake(self, budget: int) -> int:
        """Let the jobs that wait for this budget ask again; returns how many were waiting."""
        woken = 0
        while True:
            some: int = await self._pool.fetchval(
                "select sluice.wake_deferred_v1($1, $2)", budget, _WAKE_BATCH
            )
            woken += some
            if some < _WAKE_BATCH:
                return woken

    async def wake_affordable(self, limit: int) -> int:
        """Let the jobs ask again for whose worst case there is money now; returns how many, at most `limit`."""
        woken: int = await self._pool.fetchval("select sluice.wake_affordable_v1($1)", limit)
        return woken

    async def watch(self) -> int:
        """Raise alerts for thresholds newly reached; returns how many."""
        raised: int = await self._pool.fetchval("select sluice.watch_budgets_v1()")
        return raised

    async def tell(self, limit: int, *, owner: int, topic: str, source: str) -> int:
        """Enter the events of alerts that nobody was told of; returns how many."""
        told: int = await self._pool.fetchval(
            "select sluice.tell_alerts_v1($1, $2, $3, $4)", limit, owner, topic, source
        )
        return told
