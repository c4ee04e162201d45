"""Dispatcher and claimer over a ledger that is played, on a clock that is played: who gets the slots, and when."""

import heapq
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from tests.unit.worker.worker_world import MemoryNames, flight, job

from sluice_core.dispatch.fairness import VirtualTimes, Weights
from sluice_core.dispatch.policy import DEFAULT_MINIMUM, HEADROOM
from sluice_core.jobs.model import Facts, Job, Lane
from sluice_core.jobs.repository import JobRepository
from sluice_schemas.classes import JobClass
from sluice_worker.claim import Claimer
from sluice_worker.dispatch import Dispatcher
from sluice_worker.flight import Flight
from sluice_worker.holdings import Holdings

START = 1_000_000.0


@dataclass(eq=False)
class Stock(JobRepository):
    """Parked rows by lane, as many as are said to be there; a row is made when it is claimed."""

    lanes: dict[int, Lane]
    parked: dict[int, int]
    asked: list[int] = field(default_factory=list)
    claimed: int = 0

    async def claim(
        self, cursors: Sequence[tuple[int, float, int, int]], *, limit: int, max_bytes: int
    ) -> list[Job]:
        self.asked.append(len(cursors))
        found = []
        for lane, _, _, most in cursors:
            for _ in range(min(most, self.parked[lane], limit - len(found))):
                self.parked[lane] -= 1
                self.claimed += 1
                found.append(self.made(lane, self.claimed))
        return found

    async def waiting_lanes(self) -> set[int]:
        return {lane for lane, rows in self.parked.items() if rows}

    def made(self, lane: int, number: int) -> Job:
        whose = self.lanes[lane]
        facts = Facts(
            tenant=whose.tenant,
            project=whose.project,
            model=whose.model,
            job_class=whose.job_class,
        )
        due = START + 1e6 + number
        return job(whose.job_class, facts=facts, lane=lane, due_at=due, deadline=due)


class Play:
    """Slots, a service time for each tenant, and events in the order of a played clock."""

    def __init__(
        self,
        *lanes: Lane,
        slots: int,
        service_s: dict[str, float],
        tokens: dict[str, int] | None = None,
        weights: Weights | None = None,
    ) -> None:
        self.now = START
        self.events: list[tuple[float, int, str, object]] = []
        self.serial = 0
        self.service_s = service_s
        self.tokens = tokens or {}
        self.weights = weights or Weights()
        self.waits: dict[str, list[float]] = {}
        self.came: dict[Flight, float] = {}
        self.served: Counter[str] = Counter()
        self.most_running: Counter[JobClass] = Counter()
        self.running: Counter[JobClass] = Counter()
        self.ledger: dict[str, float] = {}
        self.stock = Stock({lane.id: lane for lane in lanes}, {lane.id: 0 for lane in lanes})
        self.dispatcher = Dispatcher(
            slots=slots,
            start=self._start,
            expire=lambda _: pytest.fail("nothing is due"),
            times=VirtualTimes(weights),
            clock=lambda: self.now,
        )
        self.holdings = Holdings()
        self.claimer = Claimer(
            self.stock,
            MemoryNames(list(lanes)),  # type: ignore[arg-type]
            self.stock,  # type: ignore[arg-type]
            self.dispatcher,
            self.holdings,
            pool="default",
            classes=tuple(JobClass),
            usable=lambda: True,
        )

    def at(self, when: float, what: str, whose: object) -> None:
        self.serial += 1
        heapq.heappush(self.events, (when, self.serial, what, whose))

    def park(self, lane: int, rows: int) -> None:
        self.stock.parked[lane] += rows
        self.claimer.parked(lane, self.stock.lanes[lane].job_class)

    def arrive(self, lane: int) -> None:
        """As admission does it: owned where there is room, else parked behind the others."""
        whose = self.stock.lanes[lane]
        room = self.dispatcher.room(whose.job_class, whose.tenant)
        if room <= 0 or self.claimer.has_backlog(lane):
            self.park(lane, 1)
            return
        made = flight(whose.job_class)
        made.job = self.stock.made(lane, 0)
        made.expected_tokens = self.tokens.get(whose.tenant, 100)
        self.came[made] = self.now
        self.holdings.add(made)
        self.dispatcher.add([made])

    async def run(self, until: float) -> None:
        await self.claimer._round()
        while self.events and self.events[0][0] <= START + until:
            self.now, _, what, whose = heapq.heappop(self.events)
            if what == "arrive":
                assert isinstance(whose, int)
                self.arrive(whose)
            else:
                assert isinstance(whose, Flight)
                self._end(whose)
            await self.claimer._round()

    def _start(self, one: Flight) -> None:
        facts = one.job.facts
        tenant, job_class = facts.tenant, facts.job_class
        if one in self.came:
            self.waits.setdefault(tenant, []).append(self.now - self.came.pop(one))
        cost = one.charged / self.weights.tenants.get(tenant, 1.0)
        self.ledger[tenant] = max(self.ledger.get(tenant, 0.0), one.tenant_floor) + cost
        self.dispatcher.learn(one, tenant_vt=self.ledger[tenant], project_vt=0.0)
        self.running[job_class] += 1
        self.most_running[job_class] = max(self.most_running[job_class], self.running[job_class])
        self.at(self.now + self.service_s[tenant], "end", one)

    def _end(self, one: Flight) -> None:
        facts = one.job.facts
        used = self.tokens.get(facts.tenant, 100)
        self.served[facts.tenant] += used
        expected = one.expected_tokens or len(one.job.body) // 4 + 256
        weight = self.weights.tenants.get(facts.tenant, 1.0)
        self.ledger[facts.tenant] += (used - expected) / weight
        self.dispatcher.times.refresh(
            facts.job_class, facts.tenant, None, self.ledger[facts.tenant]
        )
        self.running[facts.job_class] -= 1
        self.holdings.remove(one)
        self.dispatcher.finished(one)


def lane(number: int, tenant: str, job_class: JobClass = JobClass.BULK) -> Lane:
    return Lane(
        id=number, job_class=job_class, pool="default", tenant=tenant, project="p", model="m"
    )


async def trickle(flood: int) -> list[float]:
    """Seconds from arrival to result of a tenant that sends one job a second, beside a backlog of `flood`."""
    play = Play(lane(1, "flood"), lane(2, "drip"), slots=20, service_s={"flood": 1.0, "drip": 1.0})
    if flood:
        play.park(1, flood)
    for step in range(60):
        play.at(START + 2.0 + step * 1.037, "arrive", 2)
    await play.run(66.0)
    waits = play.waits["drip"]
    assert len(waits) == 60
    return [wait + 1.0 for wait in waits]


async def test_a_trickle_beside_a_flood_takes_at_most_twice_as_long_as_alone() -> None:
    alone, beside = await trickle(0), await trickle(100 * 60)
    assert max(beside) <= 2 * max(alone)
    assert statistics.mean(beside) <= 2 * statistics.mean(alone)


@pytest.mark.parametrize("tenants", [2, 7, 30])
async def test_equal_backlogged_tenants_get_equal_tokens(tenants: int) -> None:
    """Jain's index; the jobs of one tenant are nine times as large as those of another."""
    names = [f"t{number:02}" for number in range(tenants)]
    tokens = {name: 100 * (1 + number % 9) for number, name in enumerate(names)}
    play = Play(
        *(lane(1 + number, name) for number, name in enumerate(names)),
        slots=20,
        service_s={name: 0.1 + number % 9 / 10 for number, name in enumerate(names)},
        tokens=tokens,
    )
    for number in range(tenants):
        play.park(1 + number, 100_000)
    await play.run(20.0 * tenants)
    got = [play.served[name] for name in names]
    assert sum(got) ** 2 / (len(got) * sum(x * x for x in got)) >= 0.99


async def test_realtime_waits_for_no_bulk_job_and_bulk_keeps_its_minimum() -> None:
    slots = 20
    play = Play(
        lane(1, "batch"),
        lane(2, "agents", JobClass.REALTIME),
        slots=slots,
        service_s={"batch": 2.0, "agents": 0.5},
    )
    play.park(1, 200_000)
    for step in range(200):
        play.at(START + 5.0 + step * 0.2, "arrive", 2)  # what the headroom carries
    await play.run(46.0)
    assert max(play.waits["agents"]) == 0.0
    assert play.most_running[JobClass.BULK] == HEADROOM[JobClass.BULK] * slots
    served = play.served["batch"]
    for step in range(4_000):
        play.at(play.now + step * 0.01, "arrive", 2)  # far more than all slots carry
    await play.run(80.0)
    assert play.running[JobClass.BULK] >= DEFAULT_MINIMUM[JobClass.BULK] * slots
    assert play.served["batch"] > served


async def test_a_claim_asks_few_of_many_lanes_and_all_get_their_turn() -> None:
    lanes = [lane(number, f"t{number % 300:03}") for number in range(1, 2_001)]
    play = Play(*lanes, slots=50, service_s={one.tenant: 0.2 for one in lanes})
    for one in lanes[:600]:
        play.park(one.id, 5)
    await play.run(60.0)
    assert max(play.stock.asked) <= 64
    assert not any(play.stock.parked.values())
    assert set(play.served.values()) == {1_000}


async def test_weights_divide_the_slots() -> None:
    play = Play(
        lane(1, "one"),
        lane(2, "three"),
        slots=10,
        service_s={"one": 0.3, "three": 0.3},
        weights=Weights(tenants={"three": 3.0}),
    )
    play.park(1, 10_000)
    play.park(2, 10_000)
    await play.run(120.0)
    assert play.served["three"] / play.served["one"] == pytest.approx(3.0, rel=0.1)
