"""Which held flight starts next, and what never starts."""

import time
from dataclasses import dataclass, field

import pytest
from tests.unit.worker.worker_world import flight

from sluice_schemas.classes import JobClass
from sluice_worker.dispatch import Dispatcher
from sluice_worker.flight import Flight
from sluice_worker.memory import MAX_HELD_BYTES


@dataclass
class Floor:
    """A dispatcher, and what it started and ended."""

    slots: int = 1
    started: list[Flight] = field(default_factory=list)
    ended: list[Flight] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(
            slots=self.slots, start=self.started.append, expire=self.ended.append
        )


def test_the_earliest_due_starts_first_then_the_first_to_arrive() -> None:
    now = time.time()
    floor = Floor()
    floor.dispatcher.held_back = True
    due = [now + 300, now + 100, now + 200, now + 100]
    flights = [flight(due_at=at) for at in due]
    floor.dispatcher.add(flights)
    floor.dispatcher.held_back = False
    floor.dispatcher.fill()
    while len(floor.started) < 4:
        floor.dispatcher.finished(floor.started[-1])
    assert floor.started == [flights[1], flights[3], flights[2], flights[0]]


def test_past_due_and_cancelled_flights_end_and_take_no_slot() -> None:
    now = time.time()
    floor = Floor()
    late, cancelled, fresh = flight(due_at=now - 1), flight(), flight()
    cancelled.cancelled = True
    floor.dispatcher.add([late, cancelled, fresh])
    assert floor.started == [fresh]
    assert floor.ended == [late, cancelled]
    assert floor.dispatcher.running == 1
    assert floor.dispatcher.waiting(JobClass.STANDARD) == 0


def test_waiting_flights_end_when_their_time_comes() -> None:
    now = time.time()
    floor = Floor()
    busy, soon, later = flight(), flight(due_at=now + 10), flight(due_at=now + 20)
    floor.dispatcher.add([busy])
    floor.dispatcher.add([later, soon])
    floor.dispatcher.expire_due(now + 15)
    assert floor.ended == [soon]
    assert floor.dispatcher.waiting(JobClass.STANDARD) == 1


def test_a_waiting_flight_is_taken_out_once_and_the_order_of_the_rest_stands() -> None:
    now = time.time()
    floor = Floor()
    floor.dispatcher.held_back = True
    flights = [flight(due_at=now + 100 + step) for step in (5, 1, 4, 2, 3, 6)]
    floor.dispatcher.add(flights)
    assert floor.dispatcher.take_out(flights[1])
    assert not floor.dispatcher.take_out(flights[1])
    assert not floor.dispatcher.take_out(flight())
    left = floor.dispatcher.empty()
    assert left == [flights[place] for place in (3, 4, 2, 0, 5)]
    assert floor.dispatcher.empty() == []


def test_room_is_half_the_slots_or_all_that_are_free() -> None:
    floor = Floor(slots=8)
    assert floor.dispatcher.room(JobClass.BULK) == 8
    floor.dispatcher.add(flight(JobClass.REALTIME) for _ in range(8))
    assert floor.dispatcher.room(JobClass.BULK) == 4
    floor.dispatcher.add(flight(JobClass.BULK) for _ in range(6))
    assert floor.dispatcher.room(JobClass.BULK) == 0
    assert floor.dispatcher.room(JobClass.REALTIME) == 4


def test_there_is_no_room_while_waiting_requests_fill_the_memory() -> None:
    floor = Floor()
    busy, large = flight(), flight(size=MAX_HELD_BYTES)
    floor.dispatcher.add([busy, large])
    assert [floor.dispatcher.room(c) for c in JobClass] == [0, 0, 0]
    floor.dispatcher.finished(busy)
    assert floor.started == [busy, large]
    floor.dispatcher.finished(large)
    assert floor.dispatcher.room(JobClass.REALTIME) == 1


def test_nothing_starts_while_held_back() -> None:
    floor = Floor(slots=4)
    floor.dispatcher.held_back = True
    floor.dispatcher.add([flight(), flight()])
    assert floor.started == []
    floor.dispatcher.held_back = False
    floor.dispatcher.feel(0.0)
    assert len(floor.started) == 2


@pytest.mark.parametrize("waiting", [1, 40])
def test_a_bulk_backlog_leaves_a_slot_for_the_first_realtime_job(waiting: int) -> None:
    floor = Floor(slots=10)
    floor.dispatcher.add(flight(JobClass.BULK) for _ in range(waiting))
    urgent = flight(JobClass.REALTIME)
    floor.dispatcher.add([urgent])
    assert floor.started[-1] is urgent
    assert floor.dispatcher.running == min(waiting, 8) + 1


def test_bulk_gives_way_while_the_loop_comes_late_and_comes_back() -> None:
    floor = Floor(slots=100)
    for _ in range(40):
        floor.dispatcher.feel(0.5)
    floor.dispatcher.add(flight(JobClass.BULK) for _ in range(100))
    assert floor.dispatcher.running == 10
    floor.dispatcher.add(flight(JobClass.STANDARD) for _ in range(20))
    assert floor.dispatcher.running == 30
    for _ in range(60):
        floor.dispatcher.feel(0.0)
    assert floor.dispatcher.running == 80


def test_a_flood_that_is_refused_as_it_starts_needs_no_stack() -> None:
    refused: list[Flight] = []

    def refuse(one: Flight) -> None:
        refused.append(one)
        dispatcher.finished(one)

    dispatcher = Dispatcher(slots=10, start=refuse, expire=refused.append)
    dispatcher.add([flight(row=row) for row in range(5_000)])
    assert len(refused) == 5_000
    assert dispatcher.running == 0
