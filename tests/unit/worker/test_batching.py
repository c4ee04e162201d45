"""While one batch is written the next one fills; none is larger than its cap, none is lost or reordered."""

import asyncio

from tests.unit.worker.worker_world import running
from tests.waiting import eventually

from sluice_platform.batching import Batcher


async def test_items_gather_while_a_batch_is_written() -> None:
    gate = asyncio.Event()
    batches: list[list[int]] = []

    async def write(batch: list[int]) -> None:
        batches.append(batch)
        await gate.wait()

    batcher = Batcher(write, cap=4)
    async with running(batcher.run()):
        batcher.add(0)
        await eventually(lambda: batches)
        for number in range(1, 10):
            batcher.add(number)
        assert len(batcher) == 10
        assert batches == [[0]]
        gate.set()
        await eventually(lambda: not len(batcher))
    assert batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


async def test_lingering_waits_for_company_but_not_when_the_batch_is_full() -> None:
    batches: list[list[int]] = []

    async def write(batch: list[int]) -> None:
        batches.append(batch)

    lingering = Batcher(write, cap=3, linger_s=0.05)
    async with running(lingering.run()):
        lingering.add(1)
        await asyncio.sleep(0)
        lingering.add(2)
        await eventually(lambda: batches)
    assert batches == [[1, 2]]

    full = Batcher(write, cap=2, linger_s=3600.0)
    async with running(full.run()):
        full.add(3)
        full.add(4)
        await eventually(lambda: len(batches) == 2)
    assert batches[1] == [3, 4]
