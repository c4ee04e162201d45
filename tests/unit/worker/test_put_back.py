"""Flights that could not begin: where they wait, what their lane holds meanwhile, and when they start again."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from tests.unit.worker.worker_world import flight

from sluice_core.admission.expectations import Expectations
from sluice_core.dispatch.lines import NARROW_ASKS
from sluice_core.jobs.model import Facts, Job
from sluice_schemas.classes import JobClass
from sluice_worker.dispatch import LEAST_ROOM, Dispatcher
from sluice_worker.flight import Flight
from sluice_worker.memory import MAX_HELD_BYTES, MOST_SET_ASIDE_BYTES

NOW = 1_000_000.0


@dataclass
class Alarm:
    at: float
    what: Callable[[], None]

    def cancel(self) -> None:
        self.what = lambda: None


@dataclass
class Bench:
    """A dispatcher on a clock that the test sets, and all that leaves it."""

    slots: int = 2
    now: float = NOW
    started: list[Flight] = field(default_factory=list)
    ended: list[Flight] = field(default_factory=list)
    returned: list[Flight] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    timers: list["Alarm"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.expectations = Expectations()
        self.chance = 0.0
        self.dispatcher = Dispatcher(
            slots=self.slots,
            start=self.started.append,
            expire=self.ended.append,
            give_back=self.returned.extend,
            held=self._held,
            later=self._later,
            expectations=self.expectations,
            chance=lambda: self.chance,
            clock=lambda: self.now,
        )

    def _held(self, job: Job) -> bool:
        return job.facts.tenant in self.held

    def _later(self, delay_s: float, what: Callable[[], None]) -> "Alarm":
        alarm = Alarm(self.now + delay_s, what)
        self.timers.append(alarm)
        return alarm

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.at <= self.now]
        self.timers = [timer for timer in self.timers if timer.at > self.now]
        for timer in due:
            timer.what()

    def refuse(self, one: Flight, *, for_s: float, whole_lane: bool = True) -> None:
        self.started.remove(one)
        self.dispatcher.put_back(one, until=self.now + for_s, whole_lane=whole_lane)
        self.dispatcher.finished(one)

    def begin(self, one: Flight, **told: float) -> None:
        self.started.remove(one)
        self.dispatcher.learn(one, **told)


def of(
    tenant: str = "acme",
    lane: int = 1,
    job_class: JobClass = JobClass.STANDARD,
    *,
    due_in: float = 100.0,
    **given: object,
) -> Flight:
    facts = Facts(tenant=tenant, project=f"{tenant}-p", model=f"m{lane}", job_class=job_class)
    return flight(
        job_class, facts=facts, lane=lane, due_at=NOW + due_in, deadline=NOW + due_in, **given
    )


def test_a_refused_head_blocks_its_lane_and_starts_first_when_the_block_ends() -> None:
    bench = Bench(slots=1)
    head, second, third, other = of(), of(), of(), of(lane=2, due_in=200.0)
    bench.dispatcher.add([head, second, third, other])
    assert bench.started == [head]
    bench.refuse(head, for_s=5.0)
    assert bench.started == [other]
    bench.begin(other)
    bench.dispatcher.finished(other)
    assert bench.started == []
    assert bench.dispatcher.blocked(JobClass.STANDARD, 1)
    bench.pass_time(4.9)
    assert bench.started == []
    bench.pass_time(0.1)
    assert bench.started == [head]
    assert bench.returned == [second, third]


def test_either_order_of_putting_back_and_giving_the_slot_back() -> None:
    for slot_first in (False, True):
        bench = Bench(slots=1)
        head = of()
        bench.dispatcher.add([head])
        if slot_first:
            bench.dispatcher.finished(head)
        bench.dispatcher.put_back(head, until=NOW + 1.0, whole_lane=True)
        if not slot_first:
            bench.dispatcher.finished(head)
        bench.started.clear()
        assert bench.dispatcher.running == 0
        assert bench.dispatcher.times.tenant(JobClass.STANDARD, "acme").pending == 0.0
        bench.pass_time(1.0)
        assert bench.started == [head]
        assert bench.dispatcher.running == 1


def test_a_narrow_wait_stops_one_flight_and_not_its_lane() -> None:
    bench = Bench(slots=1)
    narrow, next_one = of(), of()
    bench.dispatcher.add([narrow, next_one])
    bench.refuse(narrow, for_s=3.0, whole_lane=False)
    assert bench.started == [next_one]
    bench.begin(next_one)
    bench.dispatcher.finished(next_one)
    assert bench.started == []
    bench.pass_time(3.0)
    assert bench.started == [narrow]
    assert bench.returned == []


def test_narrow_waits_of_one_caller_ask_one_after_another() -> None:
    bench = Bench(slots=NARROW_ASKS)
    crowd = [of() for _ in range(NARROW_ASKS // 2)]
    bench.dispatcher.add(crowd)
    for one in crowd:
        bench.refuse(one, for_s=0.05, whole_lane=False)
    bench.pass_time(0.06)
    assert bench.started == crowd[:1]
    for _ in range(NARROW_ASKS):
        bench.pass_time(1.0 / NARROW_ASKS)
    assert bench.started == crowd


def test_narrow_waits_of_one_tenant_leave_room_for_others() -> None:
    bench = Bench(slots=4)
    large = of()
    large.size = MOST_SET_ASIDE_BYTES
    bench.dispatcher.add([large])
    bench.refuse(large, for_s=1.0, whole_lane=False)
    assert bench.dispatcher.room(JobClass.STANDARD, "acme") == 0
    assert bench.dispatcher.room(JobClass.STANDARD, "other") > 0
    bench.pass_time(1.0)
    assert bench.started == [large]
    assert bench.dispatcher.room(JobClass.STANDARD, "acme") > 0


def test_what_a_blocked_lane_holds_beyond_its_window_goes_back_and_counts_for_no_room() -> None:
    bench = Bench(slots=4)
    flights = [of() for _ in range(12)]
    bench.dispatcher.add(flights)
    for one in flights[:2]:
        bench.begin(one)
        bench.dispatcher.finished(one)
    assert bench.started == flights[2:6]
    bench.refuse(flights[2], for_s=60.0)
    assert bench.returned == flights[7:]
    assert bench.dispatcher.waiting(JobClass.STANDARD) == 2
    assert bench.dispatcher.most(JobClass.STANDARD, 1) == 0
    assert bench.dispatcher.most(JobClass.STANDARD, 2) is None
    assert bench.dispatcher.room(JobClass.STANDARD) == 2
    for one in (flights[3], flights[4], flights[5]):
        bench.refuse(one, for_s=60.0)
    assert bench.dispatcher.waiting(JobClass.STANDARD) == 2
    assert bench.dispatcher.running == 0


def test_a_window_opens_again_when_what_begins_is_not_refused() -> None:
    bench = Bench(slots=1)
    head = of()
    bench.dispatcher.add([head])
    bench.refuse(head, for_s=1.0)
    sizes = []
    bench.pass_time(1.0)
    for _ in range(4):
        one = bench.started[0]
        bench.begin(one)
        sizes.append(bench.dispatcher.most(JobClass.STANDARD, 1))
        bench.dispatcher.finished(one)
        bench.dispatcher.add([of()])
    assert sizes == [2, 2, 4, 4]


def test_what_is_blocked_still_ends_when_its_time_comes() -> None:
    bench = Bench(slots=1)
    head, narrow = of(due_in=10.0), of(lane=2, due_in=20.0)
    bench.dispatcher.add([head])
    bench.refuse(head, for_s=500.0)
    bench.dispatcher.add([narrow])
    bench.refuse(narrow, for_s=500.0, whole_lane=False)
    bench.dispatcher.expire_due(NOW + 15.0)
    assert bench.ended == [head]
    bench.dispatcher.expire_due(NOW + 25.0)
    assert bench.ended == [head, narrow]
    assert bench.dispatcher.waiting(JobClass.STANDARD) == 0


def test_a_cancelled_flight_does_not_come_back() -> None:
    bench = Bench(slots=1)
    one = of()
    bench.dispatcher.add([one])
    one.cancelled = True
    bench.refuse(one, for_s=1.0)
    assert bench.ended == [one]
    assert bench.dispatcher.waiting(JobClass.STANDARD) == bench.dispatcher.running == 0


def test_one_tenants_wait_holds_no_other_back() -> None:
    bench = Bench(slots=1)
    stuck, free = of("stuck", 1), [of("free", 2) for _ in range(3)]
    bench.dispatcher.add([stuck])
    bench.refuse(stuck, for_s=60.0)
    bench.dispatcher.add(free)
    for one in free:
        assert bench.started == [one]
        bench.begin(one)
        bench.dispatcher.finished(one)


def test_a_lifted_block_lets_the_lane_go_on_at_once() -> None:
    bench = Bench(slots=1)
    head = of()
    bench.dispatcher.add([head])
    bench.refuse(head, for_s=60.0)
    bench.dispatcher.unblock(1)
    assert bench.started == [head]


def test_a_refused_lane_asks_with_a_few_and_again_when_all_are_answered() -> None:
    bench = Bench(slots=64)
    flights = [of() for _ in range(40)]
    bench.dispatcher.add(flights)
    assert len(bench.started) == 40
    for one in list(bench.started)[:20]:
        bench.begin(one)
    for one in list(bench.started):
        bench.refuse(one, for_s=1.0)
    assert bench.started == []
    bench.pass_time(1.0)
    assert bench.started == flights[20:24]  # not all that it holds
    bench.begin(flights[20])
    for one in flights[21:24]:
        assert bench.started[0] is one
        bench.refuse(one, for_s=1.0)
    assert bench.started == []
    bench.pass_time(1.0)
    assert bench.started == flights[21:26]  # those that began, and a few more
    for one in flights[21:26]:
        bench.begin(one)
    assert bench.started == flights[26:36]  # none was refused: twice as many


def test_who_waits_for_a_moment_asks_ahead_of_it() -> None:
    bench = Bench(slots=2)
    one = of()
    bench.dispatcher.add([one])
    for _ in range(200):
        bench.dispatcher.answered_in(0.2)
    bench.refuse(one, for_s=1.0)
    bench.pass_time(0.89)
    assert bench.started == []
    bench.pass_time(0.02)  # what is asked now is decided in a tenth of a second
    assert bench.started == [one]
    bench.refuse(one, for_s=0.05)
    assert bench.started == [one]  # at once, with the next batch


def test_what_an_operator_holds_is_given_back_and_the_rest_starts() -> None:
    bench = Bench(slots=1)
    first, waiting, other = of("acme"), of("acme"), of("other", 2)
    bench.dispatcher.add([first, waiting])
    bench.held.add("acme")
    bench.dispatcher.stop_held()
    assert bench.returned == [waiting]
    bench.dispatcher.add([of("acme"), other])
    assert len(bench.returned) == 2
    bench.refuse(first, for_s=1.0)
    assert bench.returned[-1] is first
    assert bench.started == [other]
    over = of("acme", due_in=-1.0)
    bench.dispatcher.add([over])
    bench.begin(other)
    bench.dispatcher.finished(other)
    assert bench.ended == [over]


def test_a_flood_leaves_every_other_tenant_its_room() -> None:
    bench = Bench(slots=64)
    dispatcher = bench.dispatcher
    assert dispatcher.room(JobClass.BULK, "flood") == 64
    dispatcher.add(of("flood", 1, JobClass.BULK) for _ in range(200))
    assert dispatcher.room(JobClass.BULK, "flood") == 0
    assert dispatcher.room(JobClass.BULK) == 0
    assert dispatcher.room(JobClass.BULK, "small") == 16
    dispatcher.add(of("small", 2, JobClass.BULK) for _ in range(10))
    assert dispatcher.room(JobClass.BULK, "small") == 6
    for place in range(40):
        dispatcher.add([of(f"t{place}", 10 + place, JobClass.BULK)])
    assert dispatcher.room(JobClass.BULK, "small") == 0
    assert dispatcher.room(JobClass.BULK, "fresh") == LEAST_ROOM


def test_a_pick_is_charged_once_and_what_does_not_begin_is_not() -> None:
    bench = Bench(slots=2)
    turn = bench.dispatcher.times.tenant(JobClass.STANDARD, "acme")
    known, guessed = of(), of(body=b"x" * 400)
    known.expected_tokens = 70
    bench.dispatcher.add([known, guessed])
    assert turn.pending == 70 + 357
    bench.begin(known, tenant_vt=5_070.0, project_vt=70.0)
    assert turn.value == 5_070.0 + 357
    bench.dispatcher.finished(known)
    bench.dispatcher.finished(guessed)
    assert turn.value == 5_070.0


def test_a_newly_active_tenants_floor_goes_with_its_flights() -> None:
    bench = Bench(slots=1)
    bench.expectations.learn("old", "m1", 250)
    old = [of("old", 1) for _ in range(3)]
    bench.dispatcher.add(old)
    bench.begin(old[0], tenant_vt=9_000.0, project_vt=9_000.0)
    fresh = of("new", 2)
    bench.dispatcher.add([fresh])
    bench.dispatcher.finished(old[0])
    bench.begin(old[1], tenant_vt=9_300.0, project_vt=9_300.0)
    bench.dispatcher.finished(old[1])
    assert bench.started == [fresh]
    assert fresh.tenant_floor == 9_000.0
    assert old[1].tenant_floor == 0.0


def test_what_is_only_guessed_of_others_lifts_nobody() -> None:
    bench = Bench(slots=1)
    old = of("old", 1)
    bench.dispatcher.add([old, of("old", 1)])
    bench.begin(old, tenant_vt=300.0, project_vt=300.0)
    assert old.guess == 256.0
    fresh = of("new", 2)
    bench.dispatcher.add([fresh])
    assert bench.dispatcher.times.tenant(JobClass.STANDARD, "new").lift == 300.0 - 256.0
    bench.expectations.learn("old", "m1", 6)
    bench.dispatcher.turns.booked(old)
    bench.dispatcher.turns.booked(old)
    assert bench.dispatcher.times.tenant(JobClass.STANDARD, "old").value == 300.0 - 250.0


def test_who_asks_in_vain_beside_other_workers_comes_a_little_later_each_time() -> None:
    """All at the moment when something is free, and nobody in between, is what loses a limit's slots."""
    bench = Bench(slots=8)
    bench.chance = 1.0
    bench.dispatcher.times.crew.size = 2
    bench.dispatcher.add([of(due_in=100.0 + place) for place in range(8)])
    waits = []
    for _ in range(5):
        for one in list(bench.started):
            bench.refuse(one, for_s=0.02)
        waits.append(round(bench.dispatcher.blocked_for(JobClass.STANDARD, 1) - 0.02, 3))
        bench.now += 0.02 + waits[-1] + 0.001
        bench.dispatcher.fill()
    assert waits == [0.0, 0.01, 0.02, 0.04, 0.04]  # the first time it asked with all it had


def test_who_is_alone_asks_when_it_was_told() -> None:
    bench = Bench(slots=8)
    bench.chance = 1.0
    bench.dispatcher.add([of(due_in=100.0 + place) for place in range(8)])
    for _ in range(3):
        for one in list(bench.started):
            bench.refuse(one, for_s=0.02)
        assert bench.dispatcher.blocked_for(JobClass.STANDARD, 1) <= 0.02 + 1e-6
        bench.now += 0.021
        bench.dispatcher.fill()


def test_where_begins_queue_for_locks_and_for_each_other_it_is_asked_that_much_ahead() -> None:
    bench = Bench(slots=1)
    for _ in range(60):
        bench.dispatcher.answered_in(0.004)
    quick = bench.dispatcher._lead.seconds
    assert quick == pytest.approx(0.002, abs=0.0005)
    for _ in range(40):
        bench.dispatcher.answered_in(0.040, 0.010)
    assert bench.dispatcher._lead.seconds == pytest.approx(0.048, abs=0.003)


def test_many_tenants_whose_users_wait_leave_memory_to_others() -> None:
    """Eight with an eighth each would be all of it."""
    bench = Bench(slots=12)
    for place in range(12):
        tenant = f"t{place:02}"
        for number in range(10):
            one = of(tenant, 1 + place, size=1024 * 1024, due_in=100.0 + number)
            bench.dispatcher.add([one])
            assert bench.started == [one]
            bench.refuse(one, for_s=50.0, whole_lane=False)
    dispatcher = bench.dispatcher
    assert dispatcher._memory._bytes <= MAX_HELD_BYTES // 2
    assert bench.returned
    for place in range(12):
        held = sum(
            1
            for queue in dispatcher._queues.values()
            for one in queue
            if one.job.facts.tenant == f"t{place:02}"
        )
        assert held >= 1
    assert dispatcher.room(JobClass.STANDARD, "other") > 0
    other = of("other", 50)
    dispatcher.add([other])
    assert bench.started == [other]


def test_lanes_of_large_jobs_that_wait_for_limits_leave_memory_to_others() -> None:
    """Each lane may hold as many as a second carries; but a hundred lanes of megabytes are all of the memory."""
    bench = Bench(slots=100)
    for lane in range(1, 81):
        one, next_one = (of(f"t{lane}", lane, size=1024 * 1024, due_in=n) for n in (50.0, 60.0))
        bench.dispatcher.add([one, next_one])
        assert bench.started == [one, next_one]
        bench.refuse(next_one, for_s=50.0)
        bench.refuse(one, for_s=50.0)
    assert bench.dispatcher.room(JobClass.STANDARD, "other") > 0
    held = [one for queue in bench.dispatcher._queues.values() for one in queue]
    assert 16 <= len(held) <= 64
    assert len(held) + len(bench.returned) == 160
    # Of a lane the first in turn stay.
    gone = {one.job.lane for one in bench.returned if one.job.due_at == NOW + 50.0}
    assert not gone & {one.job.lane for one in held if one.job.due_at == NOW + 60.0}
    other = of("other", 500)
    bench.dispatcher.add([other])
    assert bench.started == [other]
