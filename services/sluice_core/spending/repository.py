"""Statements on spending: reports from finance, and the settlement of unknown outcomes."""

from collections.abc import Sequence
from datetime import date
from typing import Final
from uuid import UUID

import asyncpg

from sluice_core.pricing.model import UNPRICED
from sluice_core.spending.invoices import Amounts, Booked
from sluice_core.spending.model import DIMENSIONS, Unresolved, UsageLine, UsageQuery
from sluice_platform.ids import uuid7

_NOBODY: Final = 0
"""Owner of the outbox row: a keeper sends what belongs to no living process."""


class SpendingRepository:
    """Reads finance as operators and reports need it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def report(self, query: UsageQuery) -> Sequence[UsageLine]:
        """Sums per group, the dearest first. ValueError for a dimension that does not exist."""
        unknown = set(query.by) - set(DIMENSIONS)
        if unknown or not query.by:
            raise ValueError(f"no such dimension: {', '.join(sorted(unknown)) or '(none given)'}")
        columns = ", ".join(query.by)  # each one is of DIMENSIONS
        rows = await self._pool.fetch(
            f"select {columns}, sum(calls) as calls, sum(input_tokens) as input_tokens,"  # noqa: S608
            " sum(output_tokens) as output_tokens, sum(cost_usd) as cost_usd,"
            " sum(list_cost_usd) as list_cost_usd from finance.usage_daily"
            " where day >= $1 and ($2::date is null or day < $2) and ($3::text is null or tenant = $3)"
            f" group by {columns} order by sum(cost_usd) desc, {columns}",
            query.since,
            query.until,
            query.tenant,
        )
        return [
            UsageLine(
                group=tuple(None if row[name] is None else str(row[name]) for name in query.by),
                calls=int(row["calls"]),
                input_tokens=int(row["input_tokens"]),
                output_tokens=int(row["output_tokens"]),
                cost_usd=row["cost_usd"],
                list_cost_usd=row["list_cost_usd"],
            )
            for row in rows
        ]

    async def unpriced(self, query: UsageQuery) -> dict[str, int]:
        """Calls in a report's span that were booked at no price, by the model that was asked for."""
        rows = await self._pool.fetch(
            "select model_requested as model, count(*) as calls from finance.usage"
            " where price_version = $4 and charge_class is null"
            " and started_at >= $1::date::timestamp at time zone 'UTC'"
            " and ($2::date is null or started_at < $2::date::timestamp at time zone 'UTC')"
            " and ($3::text is null or tenant = $3) group by 1 order by 2 desc, 1",
            query.since,
            query.until,
            query.tenant,
            UNPRICED,
        )
        return {row["model"]: row["calls"] for row in rows}

    async def booked(self, account: str, since: date, until: date) -> Sequence[Booked]:
        """What an account's calls of these UTC days (the last included) used and cost, corrections in it."""
        rows = await self._pool.fetch(
            "select (started_at at time zone 'UTC')::date as day, provider_model as model,"
            " count(*) filter (where charge_class is null) as requests,"
            " sum(input_tokens) as input_tokens, sum(cache_read_tokens) as cache_read_tokens,"
            " sum(cache_write_tokens) as cache_write_tokens, sum(output_tokens) as output_tokens,"
            " sum(cost_usd) as cost_usd from finance.usage"
            " where account = $1 and outcome <> 'cached'"
            " and started_at >= $2::date::timestamp at time zone 'UTC'"
            " and started_at < ($3::date + 1)::timestamp at time zone 'UTC' group by 1, 2",
            account,
            since,
            until,
        )
        return [
            Booked(
                day=row["day"],
                model=row["model"],
                amounts=Amounts(
                    requests=int(row["requests"]),
                    input_tokens=int(row["input_tokens"]),
                    cache_read_tokens=int(row["cache_read_tokens"]),
                    cache_write_tokens=int(row["cache_write_tokens"]),
                    output_tokens=int(row["output_tokens"]),
                    cost_usd=row["cost_usd"],
                ),
            )
            for row in rows
        ]

    async def unresolved(self, limit: int) -> Sequence[Unresolved]:
        """Attempts of unknown outcome, the oldest first."""
        rows = await self._pool.fetch(
            "select usage_id, held_usd, since, provider_request_id, tenant, job_id, attempt, account, provider_model"
            " from finance.unresolved order by since, usage_id limit $1",
            limit,
        )
        return [Unresolved(**dict(row)) for row in rows]

    async def find_unresolved(self, name: UUID) -> Sequence[UUID]:
        """The usage ids held under a usage id or a job's id."""
        rows = await self._pool.fetch(
            "select usage_id from finance.unresolved where usage_id = $1 or job_id = $1 order by since",
            name,
        )
        return [row["usage_id"] for row in rows]

    async def settle(
        self, usage_id: UUID, *, cost_nano: int, reason: str, actor: str
    ) -> UUID | None:
        """Book what an attempt cost (nano-dollars) as a correction; None where nothing is held.

        The correction, its event, the release and the audit entry are one statement.
        """
        correction: UUID | None = await self._pool.fetchval(
            "select sluice.resolve_unknown_v2($1, $2, $3, $4, $5, $6)",
            usage_id,
            uuid7(),
            cost_nano,
            reason,
            actor,
            _NOBODY,
        )
        return correction
