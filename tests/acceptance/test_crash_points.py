"""Every gap on purpose: the worker kills itself at each named point, for one job and for a batch."""

import asyncio
import itertools
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord
from tests.conftest import Template
from tests.storm.load import TENANT, Load
from tests.storm.verdict import gather, judge, lag
from tests.system import System, database_from
from tests.waiting import eventually

from sluice_devstack.stack import Stack
from sluice_platform.crash import CRASH_POINTS

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("storm"),  # four systems at once: not beside the storm
]

LANES = 4
CASES = list(itertools.product(sorted(CRASH_POINTS), (1, 40)))


async def test_a_crash_at_every_point_loses_and_doubles_nothing(
    stack: Stack, migrated_template: Template, tmp_path: Path
) -> None:
    """Some lanes side by side, each a system of its own that goes through its share of the cases."""

    async def lane(number: int) -> list[str]:
        async with (
            database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
            System(
                stack,
                database_dsn=dsn,
                kafka_prefix=f"crash{number}.",
                workers=0,
                keepers=1,
                config={"worker": {"owned_lease": 3, "calling_lease": 5, "grace": 5}},
            ) as system,
        ):
            await system.mock.rule("latency=30ms")
            moments: list[float] = []
            return [
                fault
                for point, jobs in CASES[number::LANES]
                for fault in await _case(system, point, jobs, tmp_path, moments)
            ]

    faults = await asyncio.gather(*(lane(number) for number in range(LANES)))
    assert not any(faults), "\n".join(itertools.chain.from_iterable(faults))


async def _case(
    system: System, point: str, jobs: int, directory: Path, moments: list[float]
) -> list[str]:
    mark = directory / f"{point}-{jobs}"
    victim = system.start_worker(
        f"victim-{point}-{jobs}",
        environment={"SLUICE_CRASH_AT": point, "SLUICE_CRASH_MARK": str(mark)},
    )
    results = await system.consume(system.topics.results(TENANT))
    usage = await system.consume(system.topics.usage)
    load = Load(
        topics=system.topics,
        bootstrap=system.stack.kafka.bootstrap,
        jobs=jobs,
        rate=10_000,
        seed=hash((point, jobs)) % 1_000_000,
        cancel_share=0.0,
    )
    await load.run()
    await eventually(lambda: victim.returncode is not None, within_s=40.0)
    assert mark.exists(), f"{point}: the worker ended, but not at its crash point"
    heir = system.start_worker(f"heir-{point}-{jobs}")
    wanted = [job.id for job in load.sent]

    async def over() -> bool:
        row = await system.pool.fetchrow(
            "select (select count(*) from sluice.jobs where state < 10) as live,"
            " (select count(*) from sluice.outbox) as due,"
            " (select count(*) from sluice.identities where uuid = any($1)) as known",
            wanted,
        )
        return (row["live"], row["due"], row["known"]) == (0, 0, jobs)

    await eventually(over, within_s=60.0)
    # A duplicate may be read after its job has ended: it is answered too, in its own time. What is
    # still missing after that is named by the verdict.
    with suppress(AssertionError):
        await eventually(lambda: _all_answered(results.records, load), within_s=20.0)
        await eventually(over, within_s=20.0)  # what that sent is marked as sent a moment later
    evidence = await gather(
        system.pool, system.directory / "mock.jsonl", results.records, usage.records
    )
    moments.append(mark.stat().st_mtime)
    verdict = judge(load.sent, evidence, moments=moments)
    behind = await lag(system.stack.kafka.bootstrap, system.topics)
    verdict.expect(behind == 0, f"{behind} records behind")
    # Offsets are committed beside the work: by then the call may be in flight.
    if point in ("after_insert", "after_settle", "after_publish"):
        unknown = verdict.counts["states"].get("unknown", 0)
        verdict.expect(jobs > 1 or unknown == 0, "a job without a call in flight ended unknown")
    heir.terminate()
    await heir.wait(20.0)
    for name in (f"victim-{point}-{jobs}", f"heir-{point}-{jobs}"):
        await system.workers.pop(name).stop()
    return [f"{point} with {jobs} jobs: {fault}" for fault in verdict.faults]


def _all_answered(records: list[ConsumerRecord], load: Load) -> bool:
    """Whether every job has its result, and each of its duplicates another."""
    events: dict[bytes, set[bytes]] = {}
    for record in records:
        events.setdefault(record.key, set()).add(dict(record.headers)["ce_id"])
    return all(len(events.get(str(job.id).encode(), ())) > job.duplicates for job in load.sent)
