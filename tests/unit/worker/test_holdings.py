"""What a worker holds, and how many bytes of requests that is."""

from dataclasses import replace

from tests.unit.worker.worker_world import flight

from sluice_worker.flight import Flight
from sluice_worker.holdings import Holdings


def test_bytes_follow_what_is_held_and_a_second_removal_counts_nothing() -> None:
    holdings = Holdings()
    first, second = flight(size=10), flight(size=5)
    holdings.add(first)
    holdings.add(second)
    assert (len(holdings), holdings.bytes) == (2, 15)
    holdings.remove(first)
    holdings.remove(first)
    assert (len(holdings), holdings.bytes) == (1, 5)
    assert holdings.get(second.job.row) is second
    assert first.job.row not in holdings
    assert holdings.missing([first.job.row, second.job.row]) == {first.job.row}


def test_a_row_claimed_again_before_its_old_flight_let_go_stays_held() -> None:
    holdings = Holdings()
    old = flight(size=10)
    new = Flight(job=replace(old.job, attempt=1), requester=old.requester, size=4)
    holdings.add(old)
    holdings.add(new)
    assert holdings.bytes == 4
    holdings.remove(old)
    assert holdings.get(old.job.row) is new
    assert holdings.bytes == 4
    holdings.remove(new)
    assert (len(holdings), holdings.bytes) == (0, 0)


def test_a_walk_survives_removals() -> None:
    holdings = Holdings()
    for _ in range(3):
        holdings.add(flight())
    for held in holdings:
        holdings.remove(held)
    assert not len(holdings)
