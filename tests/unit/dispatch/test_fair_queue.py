"""The order of waiting jobs, and what stays at its place while it may not start, against a plain list as oracle."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sluice_core.dispatch.fairness import VirtualTimes
from sluice_core.dispatch.queue import FairQueue
from sluice_schemas.classes import JobClass

BULK = JobClass.BULK


@dataclass(eq=False)
class Item:
    tenant: str
    project: str
    lane: int
    due: float
    arrival: int
    not_before: float = 0.0


def put(queue: FairQueue[Item], item: Item) -> Item:
    queue.add(
        item,
        lane=item.lane,
        tenant=item.tenant,
        project=item.project,
        due=item.due,
        arrival=item.arrival,
        not_before=item.not_before,
    )
    return item


def test_the_earliest_deadline_then_the_first_to_arrive_over_all_lanes_of_a_project() -> None:
    queue: FairQueue[Item] = FairQueue(BULK, VirtualTimes())
    dues = [(1, 30.0), (2, 10.0), (1, 20.0), (3, 10.0), (2, 20.0)]
    items = [put(queue, Item("a", "p", lane, due, n)) for n, (lane, due) in enumerate(dues)]
    assert [queue.pop() for _ in items] == [items[place] for place in (1, 3, 2, 4, 0)]
    assert queue.pop() is None


def test_projects_of_a_tenant_take_turns_by_their_own_tokens() -> None:
    times = VirtualTimes()
    queue: FairQueue[Item] = FairQueue(BULK, times)
    for n in range(40):
        put(queue, Item("a", "large" if n % 2 else "small", n % 2, 1.0, n))
    got = {"large": 0.0, "small": 0.0}
    for _ in range(20):
        item = queue.pop()
        assert item is not None
        tokens = 900.0 if item.project == "large" else 100.0
        times.charge(BULK, "a", item.project, tokens)
        got[item.project] += tokens
    assert abs(got["large"] - got["small"]) <= 900.0


def test_a_blocked_lane_keeps_its_order_and_stops_no_other() -> None:
    queue: FairQueue[Item] = FairQueue(BULK, VirtualTimes())
    first, second = put(queue, Item("a", "p", 1, 1.0, 1)), put(queue, Item("a", "p", 1, 2.0, 2))
    other = put(queue, Item("a", "p", 2, 3.0, 3))
    assert queue.pop() is first
    queue.block(1, 50.0)
    put(queue, first)
    assert (queue.ready, len(queue), queue.held(1)) == (1, 3, 2)
    assert queue.pop() is other
    assert queue.pop() is None
    assert queue.next_wake() == 50.0
    queue.wake(49.9)
    assert queue.pop() is None
    queue.wake(50.0)
    assert (queue.pop(), queue.pop()) == (first, second)


def test_a_longer_block_counts_and_a_lifted_one_does_not() -> None:
    queue: FairQueue[Item] = FairQueue(BULK, VirtualTimes())
    item = put(queue, Item("a", "p", 1, 1.0, 1))
    queue.block(1, 50.0)
    queue.block(1, 90.0)
    queue.block(1, 20.0)
    queue.wake(60.0)
    assert queue.pop() is None
    queue.unblock(1)
    assert queue.pop() is item
    queue.wake(90.0)
    assert not queue.blocked(1)
    assert queue.next_wake() is None


def test_a_lane_that_is_blocked_while_it_is_empty_takes_what_comes() -> None:
    queue: FairQueue[Item] = FairQueue(BULK, VirtualTimes())
    queue.block(7, 10.0)
    item = put(queue, Item("a", "p", 7, 1.0, 1))
    assert queue.pop() is None
    queue.wake(10.0)
    assert queue.pop() is item


def test_the_last_in_order_go_back_and_the_first_stay() -> None:
    queue: FairQueue[Item] = FairQueue(BULK, VirtualTimes())
    items = [put(queue, Item("a", "p", 1, due, n)) for n, due in enumerate((5.0, 1.0, 4.0, 2.0))]
    assert queue.surplus(1, 2) == [items[2], items[0]]
    assert queue.surplus(1, 2) == queue.surplus(99, 0) == []
    assert (queue.pop(), queue.pop(), queue.pop()) == (items[1], items[3], None)
    put(queue, items[0])
    assert queue.surplus(1, 0) == [items[0]]
    assert queue.pop() is None


ITEMS = st.builds(
    Item,
    tenant=st.sampled_from("abc"),
    project=st.sampled_from("pq"),
    lane=st.integers(0, 1),
    due=st.integers(1, 60).map(float),
    arrival=st.just(0),
    not_before=st.one_of(st.just(0.0), st.integers(1, 60).map(float)),
)


@dataclass
class Oracle:
    """What waits, in a list."""

    items: list[Item] = field(default_factory=list)
    blocked: dict[int, float] = field(default_factory=dict)

    def eligible(self, now: float) -> list[Item]:
        return [
            item
            for item in self.items
            if item.not_before <= now and self.blocked.get(item.lane, 0.0) <= now
        ]


class Queueing(RuleBasedStateMachine):
    """Any order of arrivals, picks, blocks, removals and passing time."""

    def __init__(self) -> None:
        super().__init__()
        self.times = VirtualTimes()
        self.queue: FairQueue[Item] = FairQueue(BULK, self.times)
        self.oracle = Oracle()
        self.now = 0.0
        self.count = 0

    @rule(item=ITEMS)
    def arrive(self, item: Item) -> None:
        self.count += 1
        made = Item(
            item.tenant,
            item.project,
            "abc".index(item.tenant) * 4 + "pq".index(item.project) * 2 + item.lane,
            self.now + item.due,
            self.count,
            self.now + item.not_before if item.not_before else 0.0,
        )
        put(self.queue, made)
        self.oracle.items.append(made)

    @rule(tokens=st.integers(1, 500))
    def pick(self, tokens: int) -> None:
        item = self.queue.pop()
        eligible = self.oracle.eligible(self.now)
        if item is None:
            assert not eligible
            return
        least = min(self.times.tenant(BULK, other.tenant).value for other in eligible)
        assert self.times.tenant(BULK, item.tenant).value == least
        mine = [other for other in eligible if other.tenant == item.tenant]
        projects = {o.project: self.times.project(BULK, o.tenant, o.project).value for o in mine}
        assert projects[item.project] == min(projects.values())
        same = [other for other in mine if other.project == item.project]
        assert item is min(same, key=lambda other: (other.due, other.arrival))
        self.oracle.items.remove(item)
        self.times.charge(BULK, item.tenant, item.project, tokens)

    @rule(seconds=st.integers(0, 20), block=st.booleans())
    def refuse(self, seconds: int, block: bool) -> None:
        """What was picked comes back to its place, in a lane that is blocked now or not before a time of its own."""
        item = self.queue.pop()
        if item is None:
            return
        item.not_before = self.now + seconds if seconds and not block else 0.0
        if block and seconds:
            self.block(item.lane, seconds)
        put(self.queue, item)

    @rule(tenant=st.sampled_from("abc"), tokens=st.integers(1, 500))
    def forget(self, tenant: str, tokens: int) -> None:
        self.times.forget(BULK, tenant, "p", tokens)

    @rule(tenant=st.sampled_from("abc"), shared=st.integers(0, 2_000))
    def hear(self, tenant: str, shared: int) -> None:
        self.times.refresh(BULK, tenant, None, shared)
        self.times.refresh(BULK, tenant, "q", shared)

    @rule(lane=st.integers(0, 11), seconds=st.integers(1, 20))
    def block(self, lane: int, seconds: int) -> None:
        self.queue.block(lane, self.now + seconds)
        self.oracle.blocked[lane] = max(self.oracle.blocked.get(lane, 0.0), self.now + seconds)

    @rule(lane=st.integers(0, 11))
    def unblock(self, lane: int) -> None:
        self.queue.unblock(lane)
        self.oracle.blocked.pop(lane, None)

    @precondition(lambda self: self.oracle.items)
    @rule(place=st.integers(0, 1_000))
    def take_out(self, place: int) -> None:
        item = self.oracle.items.pop(place % len(self.oracle.items))
        assert self.queue.remove(item, item.lane)
        assert not self.queue.remove(item, item.lane)

    @rule(lane=st.integers(0, 11), keep=st.integers(0, 3))
    def give_back(self, lane: int, keep: int) -> None:
        awake = [i for i in self.oracle.items if i.lane == lane and i.not_before <= self.now]
        awake.sort(key=lambda item: (item.due, item.arrival))
        assert self.queue.surplus(lane, keep) == awake[keep:]
        for item in awake[keep:]:
            self.oracle.items.remove(item)

    @rule(seconds=st.integers(1, 30), expire=st.booleans())
    def pass_time(self, seconds: int, expire: bool) -> None:
        self.now += seconds
        self.queue.wake(self.now)
        if expire:
            over = [item for item in self.oracle.items if item.due <= self.now]
            assert set(self.queue.due(self.now)) == set(over)
            for item in over:
                self.oracle.items.remove(item)

    @invariant()
    def nothing_is_lost_and_the_counts_are_right(self) -> None:
        assert set(self.queue) == set(self.oracle.items)
        assert len(self.queue) == len(self.oracle.items)
        eligible = self.oracle.eligible(self.now)
        assert self.queue.ready == len(eligible)
        for tenant in "abc":
            mine = [item for item in eligible if item.tenant == tenant]
            turn = self.times.tenant(BULK, tenant)
            assert turn.ready == len(mine)
            assert turn.lanes_ready == len({item.lane for item in mine})
        assert self.times.tenants(BULK).present == len({item.tenant for item in eligible})


TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@settings(max_examples=30, deadline=None)
@given(
    tenants=st.integers(2, 6),
    flood=st.integers(50, 200),
    tokens=st.lists(st.integers(1, 300), min_size=10, max_size=10),
)
def test_nobody_starves(tenants: int, flood: int, tokens: list[int]) -> None:
    """However much one tenant sends, another's next job is picked before everybody else has had a largest job more."""
    times = VirtualTimes()
    queue: FairQueue[Item] = FairQueue(BULK, times)
    count = 0
    for name in range(tenants):
        for _ in range(flood if name == 0 else 4):
            count += 1
            put(queue, Item(f"t{name}", "p", name, float(count), count))
    passed: dict[str, float] = {}
    waits = {f"t{name}" for name in range(tenants)}
    while waits and (item := queue.pop()) is not None:
        cost = float(tokens[item.arrival % len(tokens)])
        times.charge(BULK, item.tenant, "p", cost)
        waits.discard(item.tenant)
        for name in waits:
            passed[name] = passed.get(name, 0.0) + cost
            assert passed[name] <= tenants * max(tokens)
