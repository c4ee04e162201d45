"""The cache's step: who asks for all, and who waits for whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.worker.worker_world import flight, running
from tests.waiting import eventually

from sluice_core.caching.model import Answer, Found, Keep, Meaning
from sluice_core.config.caching import CacheConfig, Semantic
from sluice_core.config.model import Config, ModelConfig
from sluice_core.usage.model import Usage
from sluice_worker.cache import CacheStep, Ways
from sluice_worker.flight import Flight

MEANING = Meaning(context=b"c" * 32, vector="[1]")
ANSWER = Answer(
    body=b"{}",
    provider="openai",
    account="a",
    provider_model="m",
    usage=Usage(),
    list_nano=1,
    price_version="v",
)


class Nothing:
    """A ledger in which no answer is stored, and every look is this worker's to ask."""

    def __init__(self) -> None:
        self.given_up: list[bytes] = []

    async def look(self, keys: Sequence[tuple[bytes, str]], *, lease_s: float) -> list[Found]:
        return [Found(state="mine") for _ in keys]

    async def keep(self, answers: Sequence[Keep], given_up: Sequence[bytes]) -> None:
        self.given_up += given_up


@dataclass
class Near:
    """Meanings of which one is near, if any."""

    answer: Answer | None = None
    fails: bool = False

    async def look(self, *_: Any) -> tuple[Meaning | None, Any]:
        if self.fails:
            raise ZeroDivisionError
        return MEANING, None if self.answer is None else SimpleNamespace(answer=self.answer)


def step_of(
    ledger: Nothing,
    asks: list[Flight],
    *,
    mode: str = "exact",
    near: Near | None = None,
    hits: list[Flight] | None = None,
) -> CacheStep:
    model = {"targets": [{"account": "a"}], "cache": mode}
    config = Config(
        models={"fast": ModelConfig.model_validate(model)},
        cache=CacheConfig(semantic=Semantic(model="vectors", threshold=0.9)),
    )
    hit: list[Flight] = [] if hits is None else hits
    ways = Ways(hit=lambda one, _: hit.append(one), miss=asks.append)
    return CacheStep(ledger, config, ways, near or Near())  # type: ignore[arg-type]


async def test_one_asks_for_all_and_none_waits_for_one_that_has_to_wait_itself() -> None:
    ledger, asks = Nothing(), []
    step = step_of(ledger, asks)
    same = [flight(model="fast") for _ in range(4)]
    async with running(step.run_looks(), step.run_keeps()):
        assert all(step.takes(one, None, None) for one in same)
        await eventually(lambda: bool(asks), within_s=5)
        assert asks == same[:1]
        assert not step.takes(same[0], None, None)  # it goes on to a provider
        assert step.waits(same[0]) == same[1:]
        assert [one.timer for one in same] == [None] * 4
        await eventually(lambda: bool(ledger.given_up), within_s=5)
        # Each looks anew at its next turn, and one of them asks.
        assert all(step.takes(one, None, None) for one in reversed(same))
        await eventually(lambda: len(asks) == 2, within_s=5)
        assert asks[1] is same[3]


async def test_one_that_waits_for_anothers_answer_goes_on_when_it_is_let_go() -> None:
    asks: list[Flight] = []
    step = step_of(Nothing(), asks)
    first, second = flight(model="fast"), flight(model="fast")
    async with running(step.run_looks(), step.run_keeps()):
        assert step.takes(first, None, None)
        assert step.takes(second, None, None)
        await eventually(lambda: bool(asks), within_s=5)
        assert not step.let_go(first)
        assert step.let_go(second)
        assert asks == [first, second]
        assert not step.let_go(second)
        assert step.waits(first) == []


async def test_where_two_have_failed_all_ask_for_themselves() -> None:
    """One after another, each would wait for the failures of all before it."""
    asks: list[Flight] = []
    step = step_of(Nothing(), asks)

    def fail(one: Flight) -> None:
        assert one.ticket is not None
        one.ticket.failed = True
        step.gave_up(one)

    same = [flight(model="fast") for _ in range(5)]
    async with running(step.run_looks(), step.run_keeps()):
        assert all(step.takes(one, None, None) for one in same)
        await eventually(lambda: bool(asks), within_s=5)
        fail(asks[0])
        assert asks == same[:2]
        assert all(one.timer is not None for one in same[2:]), "who waits on has a deadline still"
        # One that was cancelled says nothing of the provider.
        step.gave_up(asks[1])
        assert asks == same[:3]
        fail(asks[2])
        assert asks == same
        assert all(one.timer is None for one in same)


async def test_what_is_near_answers_all_that_ask_the_same() -> None:
    asks: list[Flight] = []
    hits: list[Flight] = []
    ledger = Nothing()
    step = step_of(ledger, asks, mode="semantic", near=Near(ANSWER), hits=hits)
    same = [flight(model="fast") for _ in range(3)]
    async with running(step.run_looks(), step.run_keeps()):
        assert all(step.takes(one, None, None) for one in same)
        await eventually(lambda: len(hits) == 3, within_s=5)
        assert [one.ticket.mark for one in same if one.ticket is not None] == ["semantic"] * 3
        assert asks == []
        await eventually(lambda: bool(ledger.given_up), within_s=5)


@pytest.mark.parametrize("fails", [False, True])
async def test_where_nothing_is_near_one_asks_for_all(fails: bool) -> None:
    asks: list[Flight] = []
    step = step_of(Nothing(), asks, mode="semantic", near=Near(fails=fails))
    same = [flight(model="fast") for _ in range(3)]
    async with running(step.run_looks(), step.run_keeps()):
        assert all(step.takes(one, None, None) for one in same)
        await eventually(lambda: bool(asks), within_s=5)
        assert asks == same[:1]
        assert asks[0].ticket is not None
        assert asks[0].ticket.meaning == (None if fails else MEANING)


class Shaky(Nothing):
    """A ledger that does not answer the first time it is asked for something."""

    def __init__(self, *fails: str) -> None:
        super().__init__()
        self.fails = list(fails)

    async def look(self, keys: Sequence[tuple[bytes, str]], *, lease_s: float) -> list[Found]:
        self._may_fail("look")
        return await super().look(keys, lease_s=lease_s)

    async def keep(self, answers: Sequence[Keep], given_up: Sequence[bytes]) -> None:
        self._may_fail("keep")
        await super().keep(answers, given_up)

    def _may_fail(self, what: str) -> None:
        if what in self.fails:
            self.fails.remove(what)
            raise OSError(what)


@pytest.mark.parametrize("fails", [("look",), ("keep",), ("look", "keep")])
async def test_no_request_is_left_to_a_worker_that_does_not_ask(fails: tuple[str, ...]) -> None:
    ledger, asks = Shaky(*fails), []
    step = step_of(ledger, asks)
    one = flight(model="fast")
    async with running(step.run_looks(), step.run_keeps()):
        assert step.takes(one, None, None)
        await eventually(lambda: asks == [one])
        step.gave_up(one)
        assert one.ticket is not None
        await eventually(lambda: one.ticket.key in ledger.given_up)
    assert ledger.fails == []
