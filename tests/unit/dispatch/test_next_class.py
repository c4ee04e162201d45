"""Properties of the choice of the next class, for any mixture of waiting and running jobs."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from sluice_core.dispatch.policy import LEAST_BULK, Shares, bulk_share, next_class
from sluice_schemas.classes import JobClass

R, S, B = JobClass.REALTIME, JobClass.STANDARD, JobClass.BULK
SHARES = Shares()
SLOTS = st.integers(1, 400)
COUNTS = st.fixed_dictionaries({c: st.integers(0, 500) for c in JobClass})


def reserved(job_class: JobClass, slots: int) -> float:
    return max(1.0, SHARES.minimum[job_class] * slots)


def choose(
    waiting: Mapping[JobClass, int], running: Mapping[JobClass, int], slots: int
) -> JobClass | None:
    return next_class(waiting, running, slots=slots, shares=SHARES)


def filled(waiting: dict[JobClass, int], running: dict[JobClass, int], slots: int) -> None:
    """Start jobs until nobody may start."""
    while (chosen := choose(waiting, running, slots)) is not None:
        waiting[chosen] -= 1
        running[chosen] += 1


@given(waiting=COUNTS, running=COUNTS, slots=SLOTS)
def test_only_a_waiting_class_starts_and_only_while_a_slot_is_free(
    waiting: dict[JobClass, int], running: dict[JobClass, int], slots: int
) -> None:
    chosen = choose(waiting, running, slots)
    if sum(running.values()) >= slots:
        assert chosen is None
    if chosen is not None:
        assert waiting[chosen] > 0


@given(waiting=COUNTS, running=COUNTS, slots=SLOTS)
def test_a_class_below_its_minimum_comes_before_any_that_has_its_own(
    waiting: dict[JobClass, int], running: dict[JobClass, int], slots: int
) -> None:
    chosen = choose(waiting, running, slots)
    below = [c for c in JobClass if waiting[c] and running[c] < reserved(c, slots)]
    if below and sum(running.values()) < slots:
        assert chosen in below


@given(waiting=COUNTS, running=COUNTS, slots=SLOTS)
def test_no_slot_within_the_headroom_of_a_waiting_class_stays_idle(
    waiting: dict[JobClass, int], running: dict[JobClass, int], slots: int
) -> None:
    filled(waiting, running, slots)
    total = sum(running.values())
    for job_class in JobClass:
        if waiting[job_class]:
            assert total >= min(slots, SHARES.headroom[job_class] * slots)


@given(slots=st.integers(5, 400), waiting=st.integers(400, 10_000))
def test_bulk_alone_leaves_a_fifth_free(slots: int, waiting: int) -> None:
    running = dict.fromkeys(JobClass, 0)
    filled({R: 0, S: 0, B: waiting}, running, slots)
    assert running[B] == -(-slots * 4 // 5)
    assert choose({R: 1, S: 0, B: waiting}, running, slots) is (R if running[B] < slots else None)


@given(slots=st.integers(10, 300))
def test_everybody_waiting_gets_at_least_the_reserved_minimum(slots: int) -> None:
    running = dict.fromkeys(JobClass, 0)
    filled(dict.fromkeys(JobClass, 1_000), running, slots)
    assert sum(running.values()) == slots
    for job_class in (S, B):
        assert running[job_class] >= int(reserved(job_class, slots))
    assert running[R] >= slots // 2


@given(
    slots=st.integers(3, 60),
    arrivals=st.lists(COUNTS, min_size=1, max_size=12),
    ends=st.lists(st.sampled_from(JobClass), min_size=60, max_size=200),
)
def test_no_class_starves_whatever_arrives_and_ends(
    slots: int, arrivals: list[dict[JobClass, int]], ends: list[JobClass]
) -> None:
    """A waiting class gets a slot before as many jobs have ended as there are slots, thrice over."""
    waiting = dict.fromkeys(JobClass, 0)
    running = dict.fromkeys(JobClass, 0)
    passed_over = dict.fromkeys(JobClass, 0)
    for step, ending in enumerate(ends):
        for job_class, count in arrivals[step % len(arrivals)].items():
            waiting[job_class] += count
        while (chosen := choose(waiting, running, slots)) is not None:
            waiting[chosen] -= 1
            running[chosen] += 1
            passed_over[chosen] = 0
        assert sum(running.values()) <= slots
        done = ending if running[ending] else max(JobClass, key=lambda c: running[c])
        if not running[done]:
            continue
        running[done] -= 1
        for job_class in JobClass:
            starving = waiting[job_class] and not running[job_class]
            passed_over[job_class] = passed_over[job_class] + 1 if starving else 0
            assert passed_over[job_class] <= 3 * slots


@given(share=st.floats(0.1, 1.0), lags=st.lists(st.floats(0.0, 1.0), max_size=50))
def test_bulk_gives_way_to_a_late_loop_but_keeps_its_tenth(share: float, lags: list[float]) -> None:
    for lag in lags:
        after = bulk_share(share, lag_s=lag)
        assert LEAST_BULK <= after <= 1.0
        assert after <= share or lag <= 0.010
        share = after
    for _ in range(60):
        share = bulk_share(share, lag_s=0.0)
    assert share == 1.0


def test_bulk_stays_within_what_a_late_loop_leaves_it() -> None:
    running = {R: 0, S: 0, B: 10}
    assert next_class({R: 0, S: 0, B: 5}, running, slots=100, shares=SHARES, bulk=0.1) is None
    assert next_class({R: 0, S: 0, B: 5}, running, slots=100, shares=SHARES, bulk=0.11) is B
