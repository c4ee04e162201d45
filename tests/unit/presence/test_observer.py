"""Who is silent: only whom the observer itself has watched long enough."""

from hypothesis import given
from hypothesis import strategies as st

from sluice_core.presence.policy import LONGEST_GAP_S, READINGS, Observer

LEASE_S = 6.0


def watch(observer: Observer, readings: list[tuple[float, dict[int, int]]], server: float = 1.0):
    for now, beats in readings:
        observer.read(beats, server_started_at=server, now=now)
    return observer.silent(LEASE_S)


def test_a_counter_that_stands_still_for_the_lease_is_silent() -> None:
    observer = Observer()
    assert watch(observer, [(t / 2, {7: 1, 8: t}) for t in range(12)]) == []
    assert watch(observer, [(6.0, {7: 1, 8: 12})]) == [7]


def test_a_beat_ends_the_silence() -> None:
    observer = Observer()
    watch(observer, [(t / 2, {7: 1}) for t in range(30)])
    assert watch(observer, [(15.0, {7: 2})]) == []


def test_an_observer_that_slept_counts_almost_nothing_of_it() -> None:
    observer = Observer()
    readings = [(t / 2, {7: 1}) for t in range(READINGS + 1)]
    assert watch(observer, [*readings, (600.0, {7: 1})]) == []


def test_a_restart_of_the_database_starts_afresh() -> None:
    observer = Observer()
    watch(observer, [(t / 2, {7: 1}) for t in range(13)])
    assert watch(observer, [(6.5, {7: 1})], server=2.0) == []
    assert watch(observer, [(6.5 + t / 2, {7: 1}) for t in range(1, 13)], server=2.0) == [7]


def test_who_is_not_registered_is_not_silent() -> None:
    observer = Observer()
    watch(observer, [(t / 2, {7: 1}) for t in range(13)])
    assert watch(observer, [(7.0, {})]) == []
    assert watch(observer, [(7.5, {7: 1})]) == []


@given(st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 3)), max_size=60))
def test_nobody_is_silent_without_six_readings_over_the_lease(
    steps: list[tuple[float, int]],
) -> None:
    observer = Observer()
    now, since, readings, last = 0.0, 0.0, 0, None
    for gap, beat in steps:
        now += gap
        observer.read({7: beat}, server_started_at=1.0, now=now)
        if beat != last:
            since, readings, last = now, 0, beat
        readings += 1
        if observer.silent(LEASE_S):
            assert readings >= READINGS
            assert now - since >= LEASE_S
            assert (readings - 1) * LONGEST_GAP_S >= LEASE_S - 1e-6
