"""Replays the decision log of budgets: was every admission right, and every refusal?"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import asyncpg

BEGUN, BUSY, OVER = 1, 7, 8


@dataclass(slots=True)
class Replay:
    """What was decided, and everything that should have been decided otherwise."""

    decisions: int = 0
    begun: int = 0
    busy: int = 0
    over: int = 0
    faults: list[str] = field(default_factory=list)


async def replay(pool: asyncpg.Pool) -> Replay:
    """Read the whole log in the order of the locks and judge it."""
    rows = await pool.fetch("select * from sluice.decision_log order by seq")
    found = Replay()
    used: dict[int, int] = defaultdict(int)
    reserved: dict[int, int] = defaultdict(int)
    decisions: dict[tuple[Any, int], list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        period = row["period"]
        if row["job"] is None:
            reserved[period] -= row["freed_nano"]
            used[period] += row["booked_nano"]
            continue
        saw, stood = (row["used_nano"], row["reserved_nano"]), (used[period], reserved[period])
        if saw != stood:
            found.faults.append(f"{row['seq']}: saw {saw}, there was {stood}")
        if row["verdict"] == BEGUN:
            reserved[period] += row["need_nano"]
            if row["hard"] and used[period] + reserved[period] > row["cap_nano"]:
                found.faults.append(f"{row['seq']}: over the cap of {row['cap_nano']}")
        decisions[row["batch"], row["job"]].append(row)
    for levels in decisions.values():
        _judge(found, levels)
    return found


def _judge(found: Replay, levels: list[asyncpg.Record]) -> None:
    """One job's decision over all budgets above it."""
    hard = [row for row in levels if row["hard"]]
    gone = any(row["used_nano"] + row["need_nano"] > row["cap_nano"] for row in hard)
    tight = any(
        row["used_nano"] + row["reserved_nano"] + row["need_nano"] > row["cap_nano"] for row in hard
    )
    verdict, where = levels[0]["verdict"], levels[0]["seq"]
    found.decisions += 1
    found.begun += verdict == BEGUN
    found.busy += verdict == BUSY
    found.over += verdict == OVER
    if (verdict == OVER) != gone:
        found.faults.append(f"{where}: {verdict}, though money was {'gone' if gone else 'left'}")
    if verdict == BEGUN and tight:
        found.faults.append(f"{where}: began, though others had reserved what was left")
    if verdict == BUSY and not tight:
        found.faults.append(f"{where}: waits, though there was money")
