"""Virtual token time: who is next, and how far two waiting tenants can be apart, for any sequence of events."""

from collections import Counter, deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_core.dispatch.fairness import VirtualTimes, Weights
from sluice_core.dispatch.queue import FairQueue
from sluice_schemas.classes import JobClass

BULK = JobClass.BULK
WEIGHTS = {"f": 1.0, "g": 2.0, "h": 0.5}


@dataclass(frozen=True)
class Cost:
    """What a job is expected to use, and does."""

    expected: float
    actual: float


@dataclass
class Served:
    """Slots that serve what waits; the ledger's part is played here: charged at begin, corrected at the end."""

    slots: int
    weights: dict[str, float]
    tokens: dict[str, float] = field(default_factory=dict)
    picked: list[str] = field(default_factory=list)
    running: list[tuple[str, Cost]] = field(default_factory=list)
    ledger: dict[str, float] = field(default_factory=dict)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.times = VirtualTimes(Weights(tenants=self.weights))
        self.queue: FairQueue[tuple[str, int, Cost]] = FairQueue(BULK, self.times)

    def add(self, tenant: str, cost: Cost, *, due: float = 1e9) -> None:
        self.numbers += 1
        self.queue.add(
            (tenant, self.numbers, cost),
            lane=sorted(self.weights).index(tenant),
            tenant=tenant,
            project="p",
            due=due,
            arrival=self.numbers,
        )

    def fill(self) -> None:
        while len(self.running) < self.slots and (item := self.queue.pop()) is not None:
            tenant, _, cost = item
            self.times.charge(BULK, tenant, "p", cost.expected)
            lift = self.times.tenant(BULK, tenant).lift
            self.ledger[tenant] = max(self.ledger.get(tenant, 0.0), lift)
            self.ledger[tenant] += cost.expected / self.weights[tenant]
            self.times.learn(
                BULK,
                tenant,
                "p",
                tenant_vt=self.ledger[tenant],
                project_vt=None,
                tokens=cost.expected,
            )
            self.picked.append(tenant)
            self.running.append((tenant, cost))

    def end(self, place: int) -> None:
        tenant, cost = self.running.pop(place % len(self.running))
        self.tokens[tenant] = self.tokens.get(tenant, 0.0) + cost.actual
        self.ledger[tenant] += (cost.actual - cost.expected) / self.weights[tenant]
        self.times.refresh(BULK, tenant, None, self.ledger[tenant])

    def open_tokens(self, tenant: str) -> float:
        """What the running jobs of a tenant were charged."""
        return sum(cost.expected for name, cost in self.running if name == tenant)


COSTS = st.builds(
    Cost,
    expected=st.integers(1, 2_000).map(float),
    actual=st.integers(0, 4_000).map(float),
)


@settings(max_examples=60, deadline=None)
@given(
    slots=st.integers(1, 12),
    costs=st.lists(st.tuples(st.sampled_from("fgh"), COSTS), min_size=20, max_size=150),
    ends=st.lists(st.integers(0, 11), min_size=10, max_size=120),
    start=st.integers(0, 40),
)
def test_two_backlogged_tenants_are_never_further_apart_than_the_bound(
    slots: int, costs: list[tuple[str, Cost]], ends: list[int], start: int
) -> None:
    """arXiv 2401.00588, theorem 4.4: 2 U over any interval in which both wait; U as `fairness` derives it."""
    served = Served(slots, WEIGHTS)
    for tenant, cost in costs:
        served.add(tenant, cost)
    for name in WEIGHTS:  # nobody runs dry before the end
        for _ in range(len(ends) + slots):
            served.add(name, Cost(500.0, 500.0), due=2e9)
    largest = max([500.0 / 0.5, *(cost.expected / WEIGHTS[name] for name, cost in costs)])
    wrong = max([0.0, *(abs(cost.actual - cost.expected) / WEIGHTS[name] for name, cost in costs)])
    bound = largest + slots * wrong
    before: dict[str, float] = {}
    served.fill()
    for step, place in enumerate(ends):
        if step == min(start, len(ends) - 1):
            before = {name: _service(served, name) for name in WEIGHTS}
        served.end(place)
        served.fill()
        values = [served.times.tenant(BULK, name).value for name in WEIGHTS]
        assert max(values) - min(values) <= bound + 1e-6
        if before:
            gained = [_service(served, name) - before[name] for name in WEIGHTS]
            assert max(gained) - min(gained) <= 2 * bound + 1e-6


def _service(served: Served, tenant: str) -> float:
    """Weighted tokens that a tenant was served: of ended jobs what they used, of running ones what is expected."""
    return (served.tokens.get(tenant, 0.0) + served.open_tokens(tenant)) / WEIGHTS[tenant]


@pytest.mark.parametrize("tenants", [2, 5, 40])
def test_equal_backlogged_tenants_get_equal_tokens(tenants: int) -> None:
    """Jain's index over tokens (R. Jain et al., DEC-TR-301, 1984), with very unequal jobs."""
    weights = {f"t{number}": 1.0 for number in range(tenants)}
    served = Served(16, weights)
    for place, name in enumerate(sorted(weights)):
        tokens = 100.0 * (1 + place % 9)
        for _ in range(40_000 // int(tokens)):
            served.add(name, Cost(tokens, tokens * 1.7 if place % 2 else tokens * 0.6))
    served.fill()
    while all(served.times.tenant(BULK, name).lanes_ready for name in weights):
        served.end(0)
        served.fill()
    got = [served.tokens.get(name, 0.0) for name in weights]
    assert sum(got) ** 2 / (len(got) * sum(x * x for x in got)) >= 0.99


def test_weights_divide_what_is_served() -> None:
    served = Served(4, {"f": 1.0, "g": 3.0})
    for _ in range(400):
        served.add("f", Cost(100.0, 100.0))
        served.add("g", Cost(100.0, 100.0))
    served.fill()
    for _ in range(400):
        served.end(0)
        served.fill()
    assert served.tokens["g"] / served.tokens["f"] == pytest.approx(3.0, rel=0.05)


def test_a_newly_active_tenant_starts_at_the_active_minimum() -> None:
    served = Served(1, {"f": 1.0, "g": 1.0, "h": 1.0})
    for _ in range(100):
        served.add("f", Cost(100.0, 100.0))
        served.add("g", Cost(100.0, 100.0))
    served.fill()
    for _ in range(60):
        served.end(0)
        served.fill()
    least = served.times.floor(BULK)
    assert least >= 2_000.0
    for _ in range(100):
        served.add("h", Cost(100.0, 100.0))
    assert served.times.tenant(BULK, "h").value == least
    served.picked.clear()
    for _ in range(30):
        served.end(0)
        served.fill()
    assert 9 <= served.picked.count("h") <= 11


def test_who_idled_while_nobody_waited_starts_where_the_last_one_stopped() -> None:
    served = Served(1, {"f": 1.0, "g": 1.0})
    served.add("f", Cost(5_000.0, 5_000.0))
    served.fill()
    served.end(0)
    for _ in range(20):
        served.add("g", Cost(100.0, 100.0))
    assert served.times.tenant(BULK, "g").value == 5_000.0
    served.add("f", Cost(100.0, 100.0))
    served.fill()
    served.end(0)
    served.fill()
    assert served.picked == ["f", "g", "f"]


def test_rows_that_wait_in_the_ledger_keep_their_tenants_place() -> None:
    times = VirtualTimes()
    for name, shared in (("owed", 100.0), ("ahead", 900.0)):
        times.park(BULK, name, "p", parked=True)
        times.refresh(BULK, name, None, shared)
    queue: FairQueue[str] = FairQueue(BULK, times)
    queue.add("b", lane=2, tenant="ahead", project="p", due=1.0, arrival=1)
    queue.add("a", lane=1, tenant="owed", project="p", due=9.0, arrival=2)
    assert times.floor(BULK) == 100.0
    assert (queue.pop(), queue.pop()) == ("a", "b")
    times.park(BULK, "owed", "p", parked=False)
    times.park(BULK, "ahead", "p", parked=False)
    assert times.tenants(BULK).present == 0


def test_a_pick_that_does_not_begin_costs_nothing() -> None:
    times = VirtualTimes()
    times.charge(BULK, "f", "p", 700.0)
    assert times.tenant(BULK, "f").value == 700.0
    times.forget(BULK, "f", "p", 700.0)
    assert times.tenant(BULK, "f").value == times.project(BULK, "f", "p").value == 0.0


@given(
    tokens=st.lists(st.integers(1, 10_000), min_size=1, max_size=40),
    told=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_nothing_stays_pending(tokens: list[int], told: list[bool]) -> None:
    times = VirtualTimes(Weights(tenants={"f": 0.3}))
    for number in tokens:
        times.charge(BULK, "f", "p", number)
    total = 0.0
    for number, begun in zip(tokens, told, strict=False):
        if begun:
            total += number
            times.learn(BULK, "f", "p", tenant_vt=total, project_vt=total, tokens=number)
        else:
            times.forget(BULK, "f", "p", number)
    assert times.tenant(BULK, "f").pending == pytest.approx(0.0, abs=1e-6)
    assert times.tenant(BULK, "f").value == pytest.approx(total, abs=1e-6)


class Shared:
    """Two workers on one ledger: each has its own counters, the ledger's are charged at begin, corrected at the end."""

    def __init__(self, names: str, *, slots: int, guessed: float, used: float) -> None:
        self.names, self.slots, self.guessed, self.used = names, slots, guessed, used
        self.workers = [VirtualTimes(), VirtualTimes()]
        self.queues: list[FairQueue[str]] = [FairQueue(BULK, times) for times in self.workers]
        for times in self.workers:
            times.crew.size = 2
        self.ledger: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.running: list[deque[tuple[str, float, float]]] = [deque(), deque()]
        self.seen: set[int] = set()
        self.number = 0

    def arrive(self, name: str, jobs: int) -> None:
        for queue in self.queues:
            for _ in range(jobs):
                self.number += 1
                lane = self.names.index(name)
                queue.add(
                    str(name), lane=lane, tenant=name, project="p", due=1e9, arrival=self.number
                )

    def fill(self, place: int) -> None:
        times, running = self.workers[place], self.running[place]
        while len(running) < self.slots and (name := self.queues[place].pop()) is not None:
            known = place in self.seen
            tokens, guess = (self.used, 0.0) if known else (self.guessed, self.guessed)
            times.charge(BULK, name, "p", tokens, guess=guess)
            lift = times.tenant(BULK, name).lift
            self.ledger[name] = max(self.ledger[name], lift) + tokens  # type: ignore[assignment]
            vt = float(self.ledger[name])
            times.learn(BULK, name, "p", tenant_vt=vt, project_vt=None, tokens=tokens)
            running.append((name, tokens, guess))

    def end(self, place: int) -> None:
        name, tokens, guess = self.running[place].popleft()
        self.seen.add(place)
        self.ledger[name] += self.used - tokens  # type: ignore[assignment]
        self.served[name] += int(self.used)
        if guess:
            self.workers[place].booked(BULK, name, "p", guess=guess, used=self.used)


@pytest.mark.parametrize("after", [0, 1, 7, 20, 33])
def test_who_comes_while_others_run_on_a_wrong_guess_is_not_lifted_by_it(after: int) -> None:
    """The first jobs of a model are charged eight times what they use; so the first tenant's counter stands far
    too high for a moment, and whoever was lifted to that had to wait until the others had caught up."""
    shared = Shared("abcd", slots=20, guessed=290.0, used=35.0)
    shared.arrive("a", 3_000)
    for place in (0, 1):
        shared.fill(place)
    for step in range(2_000):
        if step == after:
            for name in "bcd":
                shared.arrive(name, 3_000)
        shared.end(step % 2)
        shared.fill(step % 2)
    got = [shared.served[name] for name in "abcd"]
    assert sum(got) ** 2 / (4 * sum(x * x for x in got)) >= 0.99
    assert max(got[1:]) - min(got[1:]) <= 20 * 35


def test_a_guess_that_did_not_begin_is_none() -> None:
    times = VirtualTimes()
    times.park(BULK, "a", "p", parked=True)
    times.charge(BULK, "a", "p", 300.0, guess=256.0)
    assert times.tenant(BULK, "a").guess == 256.0
    assert times.floor(BULK) == 300.0 - 256.0
    times.forget(BULK, "a", "p", 300.0, guess=256.0)
    assert times.tenant(BULK, "a").guess == 0.0
    assert times.floor(BULK) == 0.0
