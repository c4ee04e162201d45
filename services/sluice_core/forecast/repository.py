"""What the ledger knows that a forecast needs; nothing is written."""

import hashlib
import hmac
from collections.abc import Collection, Sequence
from typing import Final

import asyncpg

from sluice_core.admission.model import ScopeKind
from sluice_core.forecast.model import BudgetState, Name, Recent, Standing

RECENT_DAYS: Final = 3
"""Days whose calls tell how long answers are and how long they take."""


class ForecastRepository:
    """Each method is one or two reading statements."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def recent(self, tenant: str) -> dict[tuple[str, str], Recent]:
        """Means of the calls of the last days that succeeded, by tenant and model."""
        rows = await self._pool.fetch(
            "select model_requested, avg(output_tokens)::float8 as tokens, avg(provider_ms)::float8 as ms"
            " from finance.usage where recorded_at >= now() - make_interval(days => $2) and tenant = $1"
            " and outcome = 'succeeded' and charge_class is null group by 1",
            tenant,
            RECENT_DAYS,
        )
        return {
            (tenant, row["model_requested"]): Recent(
                output_tokens=row["tokens"], provider_ms=row["ms"]
            )
            for row in rows
        }

    async def budgets(self, names: Collection[Name]) -> dict[Name, list[BudgetState]]:
        """The active budgets of scopes in their current period; scopes without one are left out."""
        by_label = dict(zip(await self._labels(list(names)), names, strict=True))
        rows = await self._pool.fetch(
            "select scope, per, period, kind, (remaining * 1000000000)::bigint as nano, ends_at"
            " from finance.budgets where scope = any ($1) and active"
            " and coalesce(ends_at, 'infinity') > now() order by scope, per",
            list(by_label),
        )
        found: dict[Name, list[BudgetState]] = {}
        for row in rows:
            name = by_label[row["scope"]]
            found.setdefault(name, []).append(
                BudgetState(
                    scope=label(name),
                    per=row["per"],
                    period=row["period"],
                    hard=row["kind"] == "hard",
                    remaining_nano=row["nano"],
                    ends_at=row["ends_at"],
                )
            )
        return found

    async def standing(self) -> Standing:
        """How many workers live by pool, and what accounts were found to bear at once."""
        workers = await self._pool.fetch(
            "select pool, count(*)::int as workers from sluice.workers where kind = 'worker' group by pool"
        )
        accounts = await self._pool.fetch(
            "select name, allowed from sluice.scopes_now where kind = $1 and allowed is not null",
            ScopeKind.ACCOUNT,
        )
        return Standing(
            workers={row["pool"]: row["workers"] for row in workers},
            bearable={row["name"]: row["allowed"] for row in accounts},
        )

    async def _labels(self, names: Sequence[Name]) -> list[str]:
        """Scopes as finance calls them: users by their pseudonyms."""
        tenants = {path.partition("/")[0] for kind, path in names if kind is ScopeKind.USER}
        rows = await self._pool.fetch(
            "select tenant, key from sluice.pseudonym_keys where tenant = any ($1)", list(tenants)
        )
        keys = {row["tenant"]: row["key"] for row in rows}
        labels = []
        for kind, path in names:
            tenant, _, one = path.partition("/")
            if kind is ScopeKind.USER and tenant in keys:
                digest = hmac.digest(keys[tenant], one.encode(), hashlib.sha256)
                labels.append(f"user:{tenant}/u_{digest[:16].hex()}")
            else:
                labels.append(label((kind, path)))
        return labels


def label(name: Name) -> str:
    """A scope as people write it."""
    return f"{name[0].label}:{name[1]}"
