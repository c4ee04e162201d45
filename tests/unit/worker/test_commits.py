"""Commits: beside the reading, one at a time, the newest offset of each partition, never of what is somebody else's."""

import asyncio
from collections.abc import Mapping

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError
from tests.waiting import eventually

from sluice_core.intake.model import Record
from sluice_worker.commits import Commits

ONE, TWO = TopicPartition("jobs", 0), TopicPartition("jobs", 1)


class Group:
    """A consumer that takes note of what it commits, once it is let."""

    def __init__(self) -> None:
        self.mine = {ONE, TWO}
        self.committed: list[dict[TopicPartition, int]] = []
        self.asked = 0
        self.let = asyncio.Event()
        self.let.set()
        self.fails: Exception | None = None

    def assignment(self) -> set[TopicPartition]:
        return self.mine

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.asked += 1
        await self.let.wait()
        if self.fails is not None:
            raise self.fails
        self.committed.append(dict(offsets))


def records(partition: TopicPartition, *offsets: int) -> list[Record]:
    return [
        Record(
            topic=partition.topic,
            partition=partition.partition,
            offset=offset,
            timestamp_ms=0,
            key=None,
            value=b"",
            headers=(),
        )
        for offset in offsets
    ]


async def test_one_commit_tells_of_many_polls() -> None:
    group = Group()
    commits = Commits("g", lambda: group)
    commits.durable(records(ONE, 3, 4))
    commits.durable(records(TWO, 9))
    commits.durable(records(ONE, 5))
    assert group.committed == []
    await eventually(lambda: group.committed == [{ONE: 6, TWO: 10}])
    await commits.flush()
    assert group.asked == 1


async def test_the_next_waits_for_the_one_that_is_on_its_way() -> None:
    group = Group()
    group.let.clear()
    commits = Commits("g", lambda: group)
    commits.durable(records(ONE, 1))
    await eventually(lambda: group.asked == 1)
    commits.durable(records(ONE, 2))
    commits.durable(records(ONE, 3))
    group.let.set()
    await commits.flush()
    assert group.committed == [{ONE: 2}, {ONE: 4}]


async def test_what_is_somebody_elses_is_not_committed() -> None:
    group = Group()
    group.mine = {TWO}
    commits = Commits("g", lambda: group)
    commits.durable(records(ONE, 1) + records(TWO, 1))
    await commits.flush()
    assert group.committed == [{TWO: 2}]
    group.mine = {ONE, TWO}
    commits.durable(records(ONE, 2) + records(TWO, 2))
    commits.forget([TWO])
    await commits.flush()
    assert group.committed == [{TWO: 2}, {ONE: 3}]


async def test_a_commit_that_is_lost_ends_nothing() -> None:
    group = Group()
    commits = Commits("g", lambda: group)
    with structlog.testing.capture_logs() as logs:
        for error in (CommitFailedError(), RuntimeError("a defect")):
            group.fails = error
            commits.durable(records(ONE, 1))
            await commits.flush()
    assert [entry["event"] for entry in logs] == ["intake.commit_lost", "intake.commit_defect"]
    group.fails = None
    commits.durable(records(ONE, 2))
    await commits.flush()
    assert group.committed == [{ONE: 3}]


async def test_without_a_consumer_nothing_is_committed() -> None:
    commits = Commits("g", lambda: None)
    commits.durable(records(ONE, 1))
    await commits.flush()


async def test_a_commit_that_is_lost_is_made_again_though_no_record_comes() -> None:
    group = Group()
    group.fails = CommitFailedError()
    commits = Commits("g", lambda: group)
    commits.durable(records(ONE, 1))
    commits.durable(records(TWO, 4))
    await eventually(lambda: group.asked > 0, within_s=5)
    group.fails = None
    group.mine = {ONE}  # the other has become somebody else's meanwhile
    await eventually(lambda: group.committed == [{ONE: 2}], within_s=5)
    await commits.flush()
    assert group.committed == [{ONE: 2}]
