"""Statements on scopes and budgets: what the configuration says of them, their numbers, and how they stand."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson

from sluice_core.admission.model import (
    BudgetDefinition,
    Meter,
    Rate,
    ScopeDefinition,
    ScopeKind,
    ScopeState,
)

_WAKE_BATCH = 500


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
        actor: str | None = None,
    ) -> bool:
        """Make the ledger's rows say what these definitions say; returns whether anything changed.

        `whole`: whatever they do not name is lifted, but for kinds and tenants in `kept` (`5:acme/`).
        With an `actor`, a change and its audit entry are one statement.
        """
        changed: bool = await self._pool.fetchval(
            "with made as materialized ("
            "   select sluice.define_scopes_v1($1::text::jsonb, $2::text::jsonb, $3, $4) as changed),"
            " noted as ("
            "   insert into sluice.audit (actor, action, subject)"
            "   select $5::text, 'config.limits', 'limits and budgets' from made"
            "    where changed and $5::text is not null)"
            " select changed from made",
            orjson.dumps([_scope_row(scope) for scope in scopes]).decode(),
            orjson.dumps([_budget_row(budget) for budget in budgets]).decode(),
            whole,
            list(kept),
            actor,
        )
        return changed

    async def wake(self) -> None:
        """Let every job that waits for a budget ask again, a batch of one budget's at a time."""
        rows = await self._pool.fetch("select distinct budget from sluice.deferred order by budget")
        for row in rows:
            woken = _WAKE_BATCH
            while woken == _WAKE_BATCH:
                woken = await self._pool.fetchval(
                    "select sluice.wake_deferred_v1($1, $2)", row["budget"], _WAKE_BATCH
                )

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

    async def states(
        self, only: tuple[ScopeKind, str] | None = None, *, limit: int
    ) -> tuple[list[ScopeState], float]:
        """Scopes that have limits or work, or one alone, as they stand; and the database's time (epoch seconds)."""
        rows = await self._pool.fetch(
            "select s.*, coalesce(extract(epoch from s.blocked_until), 0)::float8 as blocked,"
            " extract(epoch from now())::float8 as now from sluice.scopes_now s"
            " where case when $1::smallint is null"
            "       then s.meters <> '{}' or s.max_in_flight is not null or s.in_flight > 0"
            "            or s.allowed is not null or s.blocked_until > now()"
            "       else s.kind = $1 and s.name = $2 end"
            " order by s.kind, s.name limit $3",
            None if only is None else only[0],
            None if only is None else only[1],
            limit,
        )
        return [_state(row) for row in rows], rows[0]["now"] if rows else 0.0

    async def defined(self) -> tuple[list[ScopeDefinition], list[BudgetDefinition]]:
        """What the ledger holds in force: scopes with limits or a weight of their own, and configured budgets."""
        scopes = await self._pool.fetch(
            "select * from sluice.scopes"
            " where meters <> '{}' or max_in_flight is not null or weight <> 1 order by kind, name"
        )
        budgets = await self._pool.fetch(
            "select s.kind, s.name, b.per, b.zone, b.hard, b.cap_nano, b.thresholds"
            " from sluice.budgets b join sluice.scopes s on s.id = b.scope"
            " where b.active and b.configured order by s.kind, s.name, b.per"
        )
        return [_definition(row) for row in scopes], [
            BudgetDefinition(
                kind=ScopeKind(row["kind"]),
                name=row["name"],
                per=row["per"],
                zone=row["zone"],
                hard=row["hard"],
                cap_nano=row["cap_nano"],
                thresholds=tuple(row["thresholds"]),
            )
            for row in budgets
        ]


def _definition(row: asyncpg.Record) -> ScopeDefinition:
    names = ("meters", "limits", "bursts", "steps", "units", "zones")
    return ScopeDefinition(
        kind=ScopeKind(row["kind"]),
        name=row["name"],
        weight=row["weight"],
        rates=tuple(
            Rate(meter=Meter(meter), limit=limit, burst=burst, step_us=step, unit=unit, zone=zone)
            for meter, limit, burst, step, unit, zone in zip(*(row[n] for n in names), strict=True)
        ),
        max_in_flight=row["max_in_flight"],
    )


def _state(row: asyncpg.Record) -> ScopeState:
    return ScopeState(
        definition=_definition(row),
        levels=list(row["levels"]),
        ends=list(row["ends"]),
        in_flight=row["in_flight"],
        allowed=row["allowed"],
        blocked_until=row["blocked"],
        virtual=list(row["virtual"]),
    )


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
