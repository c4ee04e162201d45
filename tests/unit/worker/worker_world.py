"""Flights, and a ledger and a publisher in memory, for the worker's steps without servers."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import uuid4

from sluice_core.admission.expectations import Expectations
from sluice_core.config.model import Config
from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Facts, Job, Lane, State
from sluice_core.jobs.policy import Begin, Settle
from sluice_core.jobs.writes import Begun, Intent, Settled, Settlement
from sluice_core.pricing.book import PriceBook
from sluice_core.publishing.model import Due, Message, Origin
from sluice_core.publishing.repository import RESULT, USAGE
from sluice_schemas.classes import JobClass
from sluice_schemas.topics import Topics
from sluice_worker.flight import Flight
from sluice_worker.resolve import Resolver, Route
from sluice_worker.route import Router
from sluice_worker.targets import Targets

ORIGIN = Origin(cell="main", topics=Topics(), record_bytes=64 * 1024)
DAY = date(2026, 11, 23)
RESULT_ID, USAGE_ID = 1_000_000_000, 2_000_000_000
"""What the outbox rows of a job add to its own row's number."""
_numbers = iter(range(1, 1_000_000))


def requester(**given: Any) -> Requester:
    record = uuid4()
    plain: dict[str, Any] = {
        "custom_id": "row-1",
        "correlation_id": b"\x00corr",
        "echo": (),
        "cause": "cause-1",
        "reply_to": "llm.replies.acme.v1",
        "reply_partition": None,
        "reply_only": False,
        "traceparent": None,
        "tracestate": None,
        "record_key": None,
        "record_id": record,
    }
    return Requester(**plain | given)


def router_of(config: Config, prices: PriceBook, *, pool: str = "default") -> Router:
    """A router that knows nothing of its targets yet."""
    return Router(Resolver(config, prices, pool=pool), Targets(lambda: None), Expectations())


def way_of(router: Router, asked: Job, now: float | None = None) -> Route:
    """Where a job goes at once."""
    route = router.choose(asked, time.time() if now is None else now)
    assert isinstance(route, Route)
    return route


def job(
    job_class: JobClass = JobClass.STANDARD,
    *,
    body: bytes = b'{"model":"fast","messages":[]}',
    model: str = "fast",
    key_id: str | None = None,
    **given: Any,
) -> Job:
    now = time.time()
    row = next(_numbers)
    plain: dict[str, Any] = {
        "row": row,
        "id": uuid4(),
        "day": DAY,
        "lane": 1,
        "run": None,
        "attempt": 0,
        "first_attempt": 0,
        "max_attempts": 5,
        "deaths": 0,
        "execution": 1,
        "retry_unknown": False,
        "streams": False,
        "cancel": False,
        "due_at": now + 60,
        "deadline": now + 60,
        "admitted_at": now,
        "facts": Facts(tenant="acme", model=model, job_class=job_class, key_id=key_id),
        "body": body,
        "requester": requester().to_bytes(),
    }
    return Job(**plain | given)


def flight(job_class: JobClass = JobClass.STANDARD, *, size: int | None = None, **given: Any):
    made = job(job_class, **given)
    return Flight(
        job=made,
        requester=Requester.from_bytes(made.requester),
        size=len(made.body) if size is None else size,
    )


@asynccontextmanager
async def running(*loops: Any):
    """Run endless loops beside the block; one that fails fails the test."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class MemoryLedger:
    """The statements on jobs that the steps make; `before` and `after` may raise around a statement."""

    incarnation: int = 7
    rows: dict[int, tuple[State, int]] = field(default_factory=dict)
    parked: dict[int, Job] = field(default_factory=dict)
    claims: list[list[tuple[int, float, int, int]]] = field(default_factory=list)
    begun: list[list[Intent]] = field(default_factory=list)
    settled: list[list[Settlement]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    deferred: list[tuple[int, float, int, int]] = field(default_factory=list)
    looks: int = 0
    before: Callable[[str, Sequence[Any]], None] = lambda name, batch: None
    after: Callable[[str, Sequence[Any]], None] = lambda name, batch: None

    async def mine(self) -> dict[int, tuple[State, int]]:
        self.before("mine", ())
        self.looks += 1
        return dict(self.rows)

    async def release(self, rows: Sequence[int]) -> int:
        self.before("release", rows)
        self.released += rows
        return len(rows)

    async def claim(
        self,
        cursors: Sequence[tuple[int, float, int, int]],
        *,
        limit: int,
        max_bytes: int,
    ) -> list[Job]:
        self.before("claim", cursors)
        self.claims.append(list(cursors))
        turns: list[tuple[int, int, Job]] = []
        for nth, (lane, due_at, row, most) in enumerate(cursors):
            behind = sorted(
                (j for j in self.parked.values() if j.lane == lane), key=lambda j: (j.due_at, j.row)
            )
            some = [j for j in behind if (j.due_at, j.row) > (due_at, row)][:most]
            turns += [(place, nth, j) for place, j in enumerate(some)]
        turns.sort(key=lambda turn: turn[:2])
        found = [j for _, _, j in turns[:limit]]
        for taken in found:
            del self.parked[taken.row]
        return found

    async def begin(self, intents: Sequence[Intent]) -> list[Begun]:
        self.before("begin", intents)
        self.begun.append(list(intents))
        answers = []
        for intent in intents:
            state, attempt = self.rows.get(intent.row, (State.PARKED, 0))
            if state is State.OWNED:
                self.rows[intent.row] = (State.CALLING, attempt + 1)
                answers.append(Begun(verdict=Begin.BEGUN, attempt=attempt + 1))
            else:
                answers.append(Begun(verdict=Begin.LOST))
        self.after("begin", intents)
        return answers

    async def defer(self, waits: Sequence[tuple[int, float, int, int]]) -> int:
        self.before("defer", waits)
        self.deferred += waits
        return len(waits)

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        self.before("settle", settlements)
        self.settled.append(list(settlements))
        verdicts, events = [], []
        for s in settlements:
            held = self.rows.get(s.row)
            if held is None:
                verdicts.append(Settle.FENCED)
                continue
            if s.state is not None and held[0] is s.state:
                verdicts.append(Settle.MINE_BEFORE)
                continue
            if s.state is not None:
                self.rows[s.row] = (s.state, s.attempt)
            verdicts.append(Settle.SETTLED)
            if s.result is not None:
                events.append((RESULT_ID + s.row, RESULT, s.row))
            if s.usage is not None:
                events.append((USAGE_ID + s.row, USAGE, s.row))
        self.after("settle", settlements)
        return Settled(verdicts=verdicts, events=events, recorded_at=1_795_435_200.5)


@dataclass
class MemoryNames:
    lanes_known: list[Lane]

    async def lanes(self, after: int = 0) -> list[Lane]:
        return [lane for lane in self.lanes_known if lane.id > after]


@dataclass
class MemoryParked:
    """What the worker asks of rows that are parked, of a ledger in memory."""

    ledger: MemoryLedger
    shelved: list[int] = field(default_factory=list)
    counts: dict[tuple[JobClass, str], int] = field(default_factory=dict)
    looks: list[tuple[JobClass, dict[str, int]]] = field(default_factory=list)

    async def waiting_lanes(self) -> set[int]:
        return {parked.lane for parked in self.ledger.parked.values()}

    async def shelve(self, owner: int, rows: Sequence[int]) -> int:
        self.ledger.before("shelve", rows)
        self.shelved += rows
        return len(rows)

    async def of_tenants(self, job_class: JobClass, limits: Mapping[str, int]) -> dict[str, int]:
        self.looks.append((job_class, dict(limits)))
        return {
            name: min(limit, self.counts.get((job_class, name), 0))
            for name, limit in limits.items()
        }


@dataclass
class MemoryOutbox:
    """Which rows stand for which jobs; what is asked for is written down."""

    asked: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    async def of_jobs(self, owner: int, jobs: Sequence[int]) -> list[int]:
        self.asked.append((owner, tuple(jobs)))
        return self.rows


@dataclass
class Paper:
    """A publisher that writes down, in order."""

    due: list[Due] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)

    def publish(self, due: Due) -> None:
        self.due.append(due)

    def send(self, message: Message) -> None:
        self.sent.append(message)

    async def publish_rows(self, ids: Sequence[int]) -> None:
        self.rows += ids
