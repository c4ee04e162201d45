"""How long jobs waited for their call, and what tenants were served, as the ledger has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from sluice_schemas.classes import JobClass


@dataclass(frozen=True, slots=True)
class Wait:
    """One job: seconds from its admission to the begin of its first call."""

    tenant: str
    job_class: JobClass
    seconds: float


async def waits(pool: asyncpg.Pool, since: float) -> list[Wait]:
    """The waits of jobs that were admitted at this time (epoch seconds) or later, and have begun."""
    rows = await pool.fetch(
        """
        select l.tenant, l.class, extract(epoch from a.started_at - j.admitted_at)::float8 as seconds
          from sluice.jobs j join sluice.lanes l on l.id = j.lane
          join sluice.attempts a on a.job = j.id and a.day = j.day and a.attempt = 1
         where j.admitted_at >= to_timestamp($1)
        """,
        since,
    )
    return [Wait(row["tenant"], JobClass(row["class"]), row["seconds"]) for row in rows]


async def tokens_served(pool: asyncpg.Pool, since: float, until: float) -> Mapping[str, int]:
    """By tenant: the tokens of calls that began in this time and have ended."""
    rows = await pool.fetch(
        "select tenant, sum(input_tokens + output_tokens)::bigint as tokens from finance.usage"
        " where started_at >= to_timestamp($1) and started_at < to_timestamp($2) and charge_class is null group by 1",
        since,
        until,
    )
    return {row["tenant"]: row["tokens"] for row in rows}


def percentile(found: Sequence[Wait], share: float) -> float:
    """The wait below which `share` of them lie, in seconds to the millisecond."""
    ordered = sorted(wait.seconds for wait in found)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


def median(found: Sequence[Wait]) -> float:
    """The wait in the middle."""
    return percentile(found, 0.5)
