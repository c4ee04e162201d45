"""A tenant at its bound of parked jobs: its own topic pauses, elsewhere its new jobs are refused; others notice nothing."""

import pytest
from tests.unit.worker.worker_world import MemoryLedger, MemoryParked

from sluice_core.config.model import Config
from sluice_schemas.classes import JobClass
from sluice_worker.crowds import Crowds

CONFIG = Config.model_validate(
    {
        "tenants": {"acme": {"max_parked": 100}, "own": {"max_parked": 50}, "big": {}},
        "intake": {
            "topics": [
                {"name": "own.bulk", "class": "bulk", "tenant": "own"},
                {"name": "own.control", "class": "control", "tenant": "own"},
            ]
        },
    }
)
BULK = JobClass.BULK


@pytest.fixture
def parked() -> MemoryParked:
    return MemoryParked(MemoryLedger())


def crowds(parked: MemoryParked) -> Crowds:
    return Crowds(parked, CONFIG)  # type: ignore[arg-type]


async def test_only_tenants_with_rows_of_this_worker_or_a_topic_of_their_own_are_counted(
    parked: MemoryParked,
) -> None:
    crowd = crowds(parked)
    crowd.parked(JobClass.STANDARD, "acme")
    await crowd.count()
    assert parked.looks == [(JobClass.STANDARD, {"acme": 101}), (BULK, {"own": 51})]


async def test_a_tenant_at_its_bound_is_told_how_many_wait_until_fewer_do(
    parked: MemoryParked,
) -> None:
    crowd = crowds(parked)
    crowd.parked(BULK, "acme")
    parked.counts[BULK, "acme"] = 99
    await crowd.count()
    assert crowd.beyond(BULK, "acme", "llm.jobs.bulk.v1") is None
    crowd.parked(BULK, "acme")
    assert crowd.beyond(BULK, "acme", "llm.jobs.bulk.v1") == 100
    assert crowd.beyond(JobClass.STANDARD, "acme", "llm.jobs.standard.v1") is None
    assert crowd.beyond(BULK, "big", "llm.jobs.bulk.v1") is None
    await crowd.count()  # counted again at once; still nearly as many: there is hysteresis
    assert crowd.beyond(BULK, "acme", "llm.jobs.bulk.v1") == 99


async def test_a_topic_of_its_own_pauses_instead(parked: MemoryParked) -> None:
    crowd = crowds(parked)
    parked.counts[BULK, "own"] = 70
    assert crowd.full_topics(BULK) == frozenset()
    await crowd.count()
    assert crowd.full_topics(BULK) == {"own.bulk"}
    assert crowd.full_topics(JobClass.STANDARD) == frozenset()
    assert crowd.beyond(BULK, "own", "own.bulk") is None
    assert crowd.beyond(BULK, "own", "llm.jobs.bulk.v1") == 51


async def test_far_from_the_bound_it_is_counted_rarely(parked: MemoryParked) -> None:
    crowd = crowds(parked)
    crowd.parked(BULK, "big")
    await crowd.count()
    parked.looks.clear()
    await crowd.count()
    assert parked.looks == []
