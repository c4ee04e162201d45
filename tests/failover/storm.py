"""Full load over three accounts while one of them dies in one way after another, and what became of the jobs.

All figures are the ledger's: which attempts began where and when, and how jobs ended.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from tests.bench.drive import Driver, percentile
from tests.forwarder import Forwarder
from tests.system import System, prices
from tests.waiting import eventually

from sluice_core.jobs.model import State
from sluice_schemas.classes import JobClass

UPSTREAM: Final = "latency=60ms"
AGAIN_S: Final = 0.25
"""What it may take to book a failed attempt and begin the next one, under this load."""
FIRST_BYTE_S: Final = 2.0
"""The only timeout that an attempt at the dead account runs into."""
SLOW_S: Final = 1.0
OPEN_S: Final = 2.0
PROBES: Final = 3
SHARED_S: Final = 1.0
"""Within this time every worker knows what one has found."""
WINDOW: Final = 300
"""Jobs sent and not answered, at any time."""
ACCOUNTS: Final = ("ill", "well", "fit")
CLASSES: Final = (JobClass.REALTIME, JobClass.STANDARD, JobClass.BULK)
WAYS: Final = {
    "refuses": None,
    "hangs": "fault=hang",
    "500s": "status=500",
    "429s": "status=429",
    "garbage": "fault=malformed",
    "slow": "latency=1300ms",
    "cut streams": "fault=cut_stream,after=4",
}
"""What the mock provider is told; None: its port is closed."""


def configuration(mock_url: str, gate: Forwarder) -> dict[str, Any]:
    """Three accounts at the same provider; `ill` is reached through the gate."""
    account = {
        "kind": "openai",
        "provider": "openai",
        "timeouts": {"first_byte": FIRST_BYTE_S},
        "breaker": {
            "window": 10,
            "minimum": 20,
            "slow": SLOW_S,
            "open": OPEN_S,
            "longest": OPEN_S,
            "probes": PROBES,
        },
    }
    gate.behind = urlsplit(mock_url).port or 80
    urls = {"ill": f"http://127.0.0.1:{gate.port}"}
    failures = ["unavailable", "rate_limited", "timeout", "auth", "invalid_response"]
    return {
        "providers": {
            name: {**account, "base_url": f"{urls.get(name, mock_url)}/v1"} for name in ACCOUNTS
        },
        "models": {
            "spread": {
                "strategy": "weighted",
                "targets": [{"account": name, "model": name} for name in ACCOUNTS],
                "fallback": {"on": failures},
                "prices": prices("0.15", "0.60"),
            }
        },
    }


@dataclass(slots=True)
class Death:
    """One way to die, and what it cost. Times in milliseconds or seconds, as named.

    `interrupted`: streams that were cut after their first delta, which is the only end that a job may have for it.
    `late_calls`: calls to the dead account after every worker knew, of which `probes_allowed` were probes.
    """

    way: str
    jobs: int
    states: dict[str, int]
    interrupted: int
    p99_ms_before: float
    p99_ms_during: float
    opened_after_s: float | None
    calls: int
    late_calls: int
    probes_allowed: int
    recovered_after_s: float
    faults: list[str] = field(default_factory=list)


async def storm(
    system: System,
    gate: Forwarder,
    *,
    seconds: float,
    ways: Sequence[str],
    say: Callable[[str], None],
) -> list[Death]:
    """Each way for `seconds`, after as many in health; the account is mended in between."""
    for account in ACCOUNTS[1:]:
        await system.mock.rule(UPSTREAM, match={"model": account})
    return [await _die(system, gate, way, seconds, say) for way in ways]


async def _die(
    system: System, gate: Forwarder, way: str, seconds: float, say: Callable[[str], None]
) -> Death:
    streams = way == "cut streams"
    async with Driver(system, model="spread", options={"on_unknown": "retry"}) as driver:
        healthy = await system.mock.rule(UPSTREAM, match={"model": "ill"})
        flood = asyncio.create_task(_flood(driver, streams=streams))
        await asyncio.sleep(2.0)
        before = await _p99_ms(driver, seconds)
        rule = await _kill(system, gate, way)
        await system.mock.forget_rule(healthy)
        since = time.time()
        opening = asyncio.create_task(_opened(system))
        during = await _p99_ms(driver, seconds)
        until = time.time()
        healthy = await system.mock.rule(UPSTREAM, match={"model": "ill"})
        await _mend(system, gate, rule)
        recovered = await _recovered(system, until)
        for task in (flood, opening):
            task.cancel()
        opened, _ = await asyncio.gather(opening, flood, return_exceptions=True)
        await driver.idle(60.0)
    await system.mock.forget_rule(healthy)
    states, interrupted = await _ends(system, since)
    calls = await _calls(system, since, until)
    opened_at = opened if isinstance(opened, float) else None
    known = (since if opened_at is None else opened_at) + SHARED_S
    death = Death(
        way=way,
        jobs=sum(states.values()),
        states=states,
        interrupted=interrupted,
        p99_ms_before=before,
        p99_ms_during=during,
        opened_after_s=None if opened_at is None else round(opened_at - since, 2),
        calls=len(calls),
        late_calls=sum(at >= known for at in calls),
        probes_allowed=PROBES * (int((until - known + SHARED_S) / OPEN_S) + 1),
        recovered_after_s=round(recovered, 2),
    )
    death.faults = _faults(death)
    say(f"{way}: {death.jobs} jobs, {death.states}; {'held' if not death.faults else death.faults}")
    return death


def _faults(death: Death) -> list[str]:
    """What did not hold."""
    faults = []
    lost = death.jobs - death.states.get("succeeded", 0) - death.interrupted
    if lost:
        faults.append(f"{lost} jobs did not succeed: {death.states}")
    if death.interrupted and death.way != "cut streams":
        faults.append(f"{death.interrupted} streams were interrupted")
    extra = death.p99_ms_during - death.p99_ms_before
    if extra > (FIRST_BYTE_S + AGAIN_S) * 1000:
        faults.append(f"99 of 100 jobs took up to {extra:.0f} ms longer than in health")
    if death.late_calls > death.probes_allowed:
        faults.append(f"{death.late_calls} calls, of which {death.probes_allowed} may be probes")
    if death.recovered_after_s > OPEN_S + 2 * SHARED_S:
        faults.append(f"it was back after {death.recovered_after_s} s only")
    return faults


async def _flood(driver: Driver, *, streams: bool) -> None:
    for job_class in itertools.cycle(CLASSES):
        while driver.outstanding >= WINDOW:
            await asyncio.sleep(0.001)
        await driver.send(job_class, model="spread" if streams else None)


async def _p99_ms(driver: Driver, seconds: float) -> float:
    driver.latencies.clear()
    await asyncio.sleep(seconds)
    return percentile(driver.latencies, 0.99)


async def _kill(system: System, gate: Forwarder, way: str) -> int | None:
    behaviour = WAYS[way]
    if behaviour is None:
        gate.shut()
        return None
    return await system.mock.rule(behaviour, match={"model": "ill"})


async def _mend(system: System, gate: Forwarder, rule: int | None) -> None:
    if rule is None:
        await gate.open()
    else:
        await system.mock.forget_rule(rule)


async def _opened(system: System) -> float:
    """When its breaker opened, in epoch seconds."""
    while True:
        at: float | None = await system.pool.fetchval(
            "select extract(epoch from opened_at)::float8 from sluice.breakers where account = 'ill'"
        )
        if at is not None:
            return at
        await asyncio.sleep(0.05)


async def _recovered(system: System, mended: float) -> float:
    """Seconds until a call to the account that began after it was mended has ended well, and no breaker is open."""

    async def well() -> bool:
        found: bool = await system.pool.fetchval(
            "select not exists (select from sluice.breakers where account = 'ill') and exists (select from sluice.attempts"
            " where account = 'ill' and started_at > to_timestamp($1) and outcome = 1)",
            mended,
        )
        return found

    await eventually(well, within_s=60.0)
    return time.time() - mended


async def _ends(system: System, since: float) -> tuple[dict[str, int], int]:
    """How jobs ended that ended since then, and how many of them as streams cut after their first delta."""
    rows = await system.pool.fetch(
        """
        select j.state, coalesce(a.code = 'stream_interrupted', false) as cut, count(*) as jobs
          from sluice.jobs j left join sluice.attempts a on a.job = j.id and a.day = j.day and a.attempt = j.attempt
         where j.finished_at >= to_timestamp($1) group by 1, 2
        """,
        since,
    )
    states: Counter[str] = Counter()
    for row in rows:
        states[State(row["state"]).label] += row["jobs"]
    return dict(states), sum(row["jobs"] for row in rows if row["cut"])


async def _calls(system: System, since: float, until: float) -> list[float]:
    """When calls to the dead account began, in epoch seconds."""
    rows = await system.pool.fetch(
        "select extract(epoch from started_at)::float8 as at from sluice.attempts"
        " where account = 'ill' and started_at >= to_timestamp($1) and started_at < to_timestamp($2)",
        since,
        until,
    )
    return [row["at"] for row in rows]
