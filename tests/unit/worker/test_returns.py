"""What goes back to the ledger: to its lane, or aside where its run is held; again until the ledger has it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.unit.worker.worker_world import MemoryLedger, MemoryParked, flight, running
from tests.waiting import eventually

from sluice_core.jobs.model import Facts
from sluice_schemas.classes import JobClass
from sluice_worker.holdings import Holdings
from sluice_worker.returns import ReturnStep

HELD_RUN = Facts(tenant="acme", run_id="held", job_class=JobClass.BULK)


async def test_flights_go_back_to_their_lanes_and_those_of_held_runs_stand_aside() -> None:
    ledger, holdings, rewound = MemoryLedger(), Holdings(), Counter[tuple[int, JobClass]]()
    parked = MemoryParked(ledger)
    failures = ["release", "shelve"]

    def fail(name: str, _batch: Sequence[Any]) -> None:
        if name in failures:
            failures.remove(name)
            raise ConnectionResetError

    ledger.before = fail
    step = ReturnStep(
        ledger,  # type: ignore[arg-type]
        parked,  # type: ignore[arg-type]
        holdings,
        run_held=lambda facts: facts.run_id == "held",
        rewind=lambda lane, job_class: rewound.update([(lane, job_class)]),
    )
    back = [flight(lane=lane) for lane in (1, 1, 2)]
    aside = [flight(JobClass.BULK, facts=HELD_RUN, lane=3) for _ in range(2)]
    for one in (*back, *aside):
        holdings.add(one)
    step.add([*back, *aside])
    async with running(step.run()):
        await eventually(lambda: not len(holdings))
    assert not failures
    assert ledger.released == [one.job.row for one in back]
    assert set(parked.shelved) == {one.job.row for one in aside}
    assert rewound == {(1, JobClass.STANDARD): 1, (2, JobClass.STANDARD): 1}
