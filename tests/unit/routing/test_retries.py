"""The retry budget: a brown-out is repeated by a share, not by a multiple."""

from sluice_core.routing.retries import FLOOR_S, MOST, SHARE, RetryBudget


def test_retries_are_a_share_of_the_calls() -> None:
    budget = RetryBudget()
    retries = 0
    for _ in range(10_000):
        budget.called()
        retries += budget.allows(0.0)
    assert retries <= SHARE * 10_000 + MOST
    assert retries >= SHARE * 10_000 - 1


def test_few_are_allowed_in_any_case() -> None:
    budget = RetryBudget()
    while budget.allows(0.0):
        pass
    assert not budget.allows(0.5 / FLOOR_S)
    assert budget.allows(1.1 / FLOOR_S)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    budget = RetryBudget()
    while budget.allows(1000.0):
        pass
    assert not budget.allows(0.0)
