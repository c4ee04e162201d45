"""Statements on scopes and budgets: what the configuration says of them, and their numbers."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson

from sluice_core.admission.model import BudgetDefinition, ScopeDefinition, ScopeKind


class AdmissionRepository:
    """Each method is one autocommit statement."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def define(
        self,
        scopes: Sequence[ScopeDefinition],
        budgets: Sequence[BudgetDefinition] = (),
        *,
        whole: bool = False,
        kept: Sequence[str] = (),
    ) -> bool:
        """Make the ledger's rows say what these definitions say; returns whether anything changed.

        `whole`: whatever they do not name is lifted, but for kinds and tenants in `kept` (`5:acme/`).
        """
        changed: bool = await self._pool.fetchval(
            "select sluice.define_scopes_v1($1::text::jsonb, $2::text::jsonb, $3, $4)",
            orjson.dumps([_scope_row(scope) for scope in scopes]).decode(),
            orjson.dumps([_budget_row(budget) for budget in budgets]).decode(),
            whole,
            list(kept),
        )
        return changed

    async def numbers(
        self, names: Sequence[tuple[ScopeKind, str]]
    ) -> dict[tuple[ScopeKind, str], int]:
        """The ids of scopes by kind and name; those there are no rows of are left out."""
        rows = await self._pool.fetch(
            "select s.id, s.kind, s.name from unnest($1::smallint[], $2::text[]) w(kind, name)"
            " join sluice.scopes s using (kind, name)",
            [kind for kind, _ in names],
            [name for _, name in names],
        )
        return {(ScopeKind(row["kind"]), row["name"]): row["id"] for row in rows}

    async def limited(self) -> dict[tuple[ScopeKind, str], int]:
        """Every scope that has a limit or a budget, but users and keys: those are looked up as they are met."""
        rows = await self._pool.fetch(
            "select s.id, s.kind, s.name from sluice.scopes s"
            " where s.kind not in (5, 6) and (s.meters <> '{}' or s.max_in_flight is not null"
            "   or exists (select from sluice.budgets b where b.scope = s.id and b.active))"
        )
        return {(ScopeKind(row["kind"]), row["name"]): row["id"] for row in rows}

    async def ensure(self, scopes: Sequence[ScopeDefinition]) -> None:
        """Make rows of which nothing is said; one that is there stays as it is."""
        await self._pool.execute(
            "insert into sluice.scopes (kind, name) select * from unnest($1::smallint[], $2::text[])"
            " order by 1, 2 on conflict do nothing",
            [scope.kind for scope in scopes],
            [scope.name for scope in scopes],
        )

    async def budgets(self, scopes: Sequence[int]) -> dict[int, list[tuple[int, bool]]]:
        """The active budgets of scopes: id, and whether it is hard. Scopes without one are left out."""
        rows = await self._pool.fetch(
            "select scope, id, hard from sluice.budgets where active and scope = any ($1) order by id",
            scopes,
        )
        found: dict[int, list[tuple[int, bool]]] = {}
        for row in rows:
            found.setdefault(row["scope"], []).append((row["id"], row["hard"]))
        return found


def _scope_row(scope: ScopeDefinition) -> dict[str, Any]:
    rates = scope.rates
    return {
        "kind": scope.kind,
        "name": scope.name,
        "weight": scope.weight,
        "meters": [rate.meter for rate in rates],
        "units": [rate.unit for rate in rates],
        "zones": [rate.zone for rate in rates],
        "limits": [rate.limit for rate in rates],
        "steps": [rate.step_us for rate in rates],
        "bursts": [rate.burst for rate in rates],
        "max_in_flight": scope.max_in_flight,
    }


def _budget_row(budget: BudgetDefinition) -> dict[str, Any]:
    return {
        "kind": budget.kind,
        "name": budget.name,
        "per": budget.per,
        "zone": budget.zone,
        "hard": budget.hard,
        "cap_nano": budget.cap_nano,
        "thresholds": list(budget.thresholds),
    }
