"""The cache's step: who asks for all, and who waits for whom."""

from collections.abc import Sequence

from tests.unit.worker.worker_world import flight, running
from tests.waiting import eventually

from sluice_core.caching.model import Found, Keep
from sluice_core.config.model import Config, ModelConfig
from sluice_worker.cache import CacheStep, Ways
from sluice_worker.flight import Flight


class Nothing:
    """A ledger in which no answer is stored, and every look is this worker's to ask."""

    def __init__(self) -> None:
        self.given_up: list[bytes] = []

    async def look(self, keys: Sequence[tuple[bytes, str]], *, lease_s: float) -> list[Found]:
        return [Found(state="mine") for _ in keys]

    async def keep(self, answers: Sequence[Keep], given_up: Sequence[bytes]) -> None:
        self.given_up += given_up


def step_of(ledger: Nothing, asks: list[Flight]) -> CacheStep:
    model = {"targets": [{"account": "a"}], "cache": "exact"}
    config = Config(models={"fast": ModelConfig.model_validate(model)})
    return CacheStep(ledger, config, Ways(hit=lambda *_: None, miss=asks.append))  # type: ignore[arg-type]


async def test_one_asks_for_all_and_none_waits_for_one_that_has_to_wait_itself() -> None:
    ledger, asks = Nothing(), []
    step = step_of(ledger, asks)
    same = [flight(model="fast") for _ in range(4)]
    async with running(step.run_looks(), step.run_keeps()):
        assert all(step.takes(one) for one in same)
        await eventually(lambda: bool(asks), within_s=5)
        assert asks == same[:1]
        assert not step.takes(same[0])  # it goes on to a provider
        assert step.waits(same[0]) == same[1:]
        assert [one.timer for one in same] == [None] * 4
        await eventually(lambda: bool(ledger.given_up), within_s=5)
        # Each looks anew at its next turn, and one of them asks.
        assert all(step.takes(one) for one in reversed(same))
        await eventually(lambda: len(asks) == 2, within_s=5)
        assert asks[1] is same[3]


async def test_one_that_waits_for_anothers_answer_goes_on_when_it_is_let_go() -> None:
    asks: list[Flight] = []
    step = step_of(Nothing(), asks)
    first, second = flight(model="fast"), flight(model="fast")
    async with running(step.run_looks(), step.run_keeps()):
        assert step.takes(first)
        assert step.takes(second)
        await eventually(lambda: bool(asks), within_s=5)
        assert not step.let_go(first)
        assert step.let_go(second)
        assert asks == [first, second]
        assert not step.let_go(second)
        assert step.waits(first) == []
