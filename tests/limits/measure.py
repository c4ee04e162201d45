"""What the ledger says of how fast calls began, and how unequal shares are."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

CLOCK_S = 2e-6
"""The ledger keeps times to the microsecond."""


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt as it began (epoch seconds), and the tokens it used (0: none were booked)."""

    at: float
    tokens: int


async def starts(pool: asyncpg.Pool) -> dict[str, list[Start]]:
    """Every attempt in the order of its begin, by the model's name at the provider."""
    rows = await pool.fetch(
        """
        select a.provider_model as model, extract(epoch from a.started_at)::float8 as at, coalesce(u.input_tokens + u.output_tokens, 0) as tokens
          from sluice.attempts a left join finance.usage u on u.usage_id = a.usage_id and u.charge_class is null
         order by a.started_at
        """
    )
    found: dict[str, list[Start]] = {}
    for row in rows:
        found.setdefault(row["model"], []).append(Start(row["at"], row["tokens"]))
    return found


def most_in_a_window(begun: Sequence[Start], per_s: float, *, tokens: bool = False) -> int:
    """The most attempts (or tokens of them) that began in any time of this length."""
    most = total = first = 0
    for start in begun:
        total += start.tokens if tokens else 1
        while begun[first].at <= start.at - per_s + CLOCK_S:
            total -= begun[first].tokens if tokens else 1
            first += 1
        most = max(most, total)
    return most


def rate(begun: Sequence[Start], since: float, until: float, *, tokens: bool = False) -> float:
    """Attempts (or tokens of them) a second that began in [since, until)."""
    times = [start.at for start in begun]
    some = begun[bisect_left(times, since) : bisect_left(times, until)]
    return sum(start.tokens if tokens else 1 for start in some) / (until - since)


def fairness(shares: Sequence[float]) -> float:
    """Jain's index: 1 where all have the same, 1/n where one has all."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))
