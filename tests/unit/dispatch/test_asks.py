"""How many jobs of a lane ask at once while a limit refuses some."""

from hypothesis import given
from hypothesis import strategies as st

from sluice_core.dispatch.asks import ENOUGH, FEW, Asks


def ask_all(asks: Asks, lane: int) -> int:
    """Ask until the round is full; how many that were."""
    count = 0
    while True:
        counts, last = asks.ask(lane)
        assert counts
        count += 1
        if last:
            return count


def test_a_lane_that_was_never_refused_asks_with_all_it_has() -> None:
    asks = Asks()
    assert [asks.ask(1) for _ in range(1_000)] == [(False, False)] * 1_000


def test_rounds_double_until_they_bound_nothing() -> None:
    asks = Asks()
    asks.refused(1)
    sizes = []
    while asks.ask(1)[0]:
        sizes.append(1 if asks._rounds[1].full else 1 + ask_all(asks, 1))
        answers = [asks.answered(1, begun=True) for _ in range(sizes[-1])]
        assert answers == [None] * (sizes[-1] - 1) + [0.0]
    assert sizes == [FEW * 2**n for n in range(6)]
    assert sizes[-1] * 2 == ENOUGH


def test_a_round_that_was_not_full_says_nothing_of_more() -> None:
    asks = Asks()
    asks.refused(1)
    for _ in range(5):
        assert asks.ask(1) == (True, False)
        assert asks.answered(1, begun=True) == 0.0
    assert ask_all(asks, 1) == FEW


@given(st.lists(st.integers(0, 40), max_size=20))
def test_a_limit_that_lets_so_many_through_refuses_few(free: list[int]) -> None:
    """Whatever is free each time: no round asks with more than twice what began before, and a few."""
    asks = Asks()
    asks.refused(1)
    before = 0
    for lets_through in free:
        most = ask_all(asks, 1)
        assert FEW <= most <= 2 * before + FEW
        begun = min(most, lets_through)
        for place in range(most):
            ended = asks.answered(1, begun=place < begun, until=0.0 if place < begun else 7.0)
        assert ended == (7.0 if begun < most else 0.0)
        before = most if begun == most else begun
