"""The circuit breaker against a model of it: it opens when it must, not before, and lets out no more than its probes."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sluice_core.routing.breaker import BUCKETS, Breaker, BreakerRules, Standing

RULES = BreakerRules(
    window_s=10.0, minimum=4, failures=0.5, slow_s=2.0, open_s=5.0, longest_s=20.0, probes=2
)


def end(breaker: Breaker, well: bool, now: float = 0.0, took_s: float = 0.1) -> None:
    breaker.ended(well=well, took_s=took_s, now=now)


def test_it_opens_at_the_share_but_not_below_the_minimum() -> None:
    breaker = Breaker(RULES)
    for well in (False, False, False):
        end(breaker, well)
    assert breaker.standing is Standing.CLOSED
    opening = breaker.ended(well=False, took_s=0.1, now=0.0)
    assert opening is not None
    assert (opening.level, opening.open_s, breaker.open_until) == (1, 5.0, 5.0)
    assert not breaker.passes()


def test_a_busy_target_that_dies_is_shut_before_its_good_past_is_over() -> None:
    breaker = Breaker(RULES)
    for _ in range(1000):
        end(breaker, True)
    for _ in range(3):
        end(breaker, False)
    end(breaker, True)
    for _ in range(3):
        end(breaker, False)
    assert breaker.standing is Standing.CLOSED
    end(breaker, False)
    assert breaker.standing is Standing.OPEN


def test_slow_calls_count_as_failures() -> None:
    breaker = Breaker(RULES)
    for _ in range(4):
        end(breaker, True, took_s=2.5)
    assert breaker.standing is Standing.OPEN


def test_old_failures_pass_out_of_the_window() -> None:
    breaker = Breaker(RULES)
    for _ in range(3):
        end(breaker, False, now=0.0)
    end(breaker, False, now=11.0)
    assert breaker.standing is Standing.CLOSED


def test_each_opening_in_a_row_lasts_longer() -> None:
    breaker = Breaker(RULES)
    lasting = []
    now = 0.0
    for _ in range(5):
        lasting.append(breaker.trip(now).open_s)
        now = breaker.open_until
        breaker.granted()
        opening = breaker.ended(well=False, took_s=0.1, now=now)
        assert opening is not None
        breaker.opened(level=opening.level - 1, until=now)
    assert lasting == [5.0, 10.0, 20.0, 20.0, 20.0]


def test_probes_close_it() -> None:
    breaker = Breaker(RULES)
    breaker.trip(0.0)
    assert not breaker.due(4.9)
    assert breaker.due(5.0)
    breaker.granted()
    assert breaker.passes()
    breaker.started()
    breaker.started()
    assert not breaker.passes()
    end(breaker, True, now=6.0)
    assert breaker.standing is Standing.PROBING
    end(breaker, True, now=6.0)
    assert (breaker.standing, breaker.level) == (Standing.CLOSED, 0)


def test_a_probe_that_never_went_is_another_ones() -> None:
    breaker = Breaker(RULES)
    breaker.trip(0.0)
    breaker.granted()
    breaker.started()
    breaker.started()
    breaker.abandoned()
    assert breaker.passes()


class BreakerMachine(RuleBasedStateMachine):
    """Calls start and end as they like; beside the breaker stands a list of all calls that ended."""

    @initialize(
        minimum=st.integers(1, 6), share=st.sampled_from([0.2, 0.5, 1.0]), probes=st.integers(1, 3)
    )
    def begin(self, minimum: int, share: float, probes: int) -> None:
        self.set = BreakerRules(
            window_s=10.0,
            minimum=minimum,
            failures=share,
            open_s=5.0,
            longest_s=20.0,
            probes=probes,
        )
        self.breaker = Breaker(self.set)
        self.now = 0.0
        self.ended: deque[tuple[float, bool]] = deque()
        self.flying = 0
        self.probes = 0

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 4.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def start(self) -> None:
        if self.breaker.passes():
            if self.breaker.standing is Standing.PROBING:
                self.probes += 1
            self.breaker.started()
            self.flying += 1

    @precondition(lambda self: self.flying > 0)
    @rule(well=st.booleans())
    def finish(self, well: bool) -> None:
        self.flying -= 1
        before = self.breaker.standing
        opening = self.breaker.ended(well=well, took_s=0.1, now=self.now)
        if before is Standing.CLOSED:
            self.ended.append((self.now, well))
            width = self.set.window_s / BUCKETS
            first = int(self.now / width) - BUCKETS + 1
            seen = [w for at, w in self.ended if int(at / width) >= first]
            failed = seen.count(False)
            must = not well and (
                self.in_a_row(width) >= self.set.minimum
                or (len(seen) >= self.set.minimum and failed >= self.set.failures * len(seen))
            )
            assert (opening is not None) == must
        elif before is Standing.PROBING:
            assert (opening is not None) == (not well)
        else:
            assert opening is None
        if self.breaker.standing is not before:
            self.ended.clear()
            self.probes = 0

    def in_a_row(self, width: float) -> int:
        """Failures in a row up to now, none of them a window or more before the next."""
        count, later = 0, int(self.now / width)
        for at, well in reversed(self.ended):
            tick = int(at / width)
            if well or later - tick >= BUCKETS:
                break
            count, later = count + 1, tick
        return count

    @rule()
    def grant(self) -> None:
        if self.breaker.due(self.now):
            self.breaker.granted()
            self.probes = 0

    @invariant()
    def open_lets_nothing_pass(self) -> None:
        if hasattr(self, "breaker"):
            if self.breaker.standing is Standing.OPEN:
                assert not self.breaker.passes()
                assert self.breaker.level >= 1
            assert self.probes <= self.set.probes


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("level", [1, 10, 10_000])
def test_no_level_is_too_high(level: int) -> None:
    assert RULES.open_for(level) <= RULES.longest_s
