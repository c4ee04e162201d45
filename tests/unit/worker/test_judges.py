"""Judges are somebody else's code: late, broken or missing, they cost no answer."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from sluice_core.config.routing import Check, Judge
from sluice_worker import judges
from sluice_worker.escalate import _look
from sluice_worker.judges import confidence

JUDGE = Judge(name="j", below=0.5, timeout=0.1)


def installed(monkeypatch: pytest.MonkeyPatch, judgement: Any) -> None:
    judges._load.cache_clear()
    found = [] if judgement is None else [SimpleNamespace(load=lambda: judgement)]
    monkeypatch.setattr(judges, "entry_points", lambda **_: found)


async def _late(*_: Any) -> float:
    await asyncio.sleep(10)
    return 0.0


async def _sure(*_: Any) -> float:
    return 0.75


@pytest.mark.parametrize(
    ("judgement", "expected"),
    [
        (lambda request, answer: request["a"] + answer["b"], 0.3),
        (_sure, 0.75),
        (_late, None),
        (lambda *_: 1 / 0, None),
        (lambda *_: "high", None),
        (None, None),
    ],
)
async def test_what_a_judge_says(
    monkeypatch: pytest.MonkeyPatch, judgement: Any, expected: float | None
) -> None:
    installed(monkeypatch, judgement)
    said = await confidence(JUDGE, {"a": 0.1}, {"b": 0.2}, within_s=9)
    assert said == (None if expected is None else pytest.approx(expected))


class _Callable:
    async def __call__(self, *_: Any) -> float:
        return 0.25


async def test_an_object_that_answers_in_its_own_time_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, _Callable())
    assert await confidence(JUDGE, {}, {}, within_s=9) == 0.25


async def test_no_judge_takes_more_time_than_the_job_has(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, _late)
    patient = JUDGE.model_copy(update={"timeout": 60.0})
    async with asyncio.timeout(5):
        assert await confidence(patient, {}, {}, within_s=0.05) is None


async def test_a_slow_function_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, lambda *_: time.sleep(0.3) or 0.0)
    ticks = asyncio.create_task(asyncio.sleep(0.05))
    assert await confidence(JUDGE, {}, {}, within_s=9) is None
    assert ticks.done()


async def test_below_the_mark_an_answer_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, lambda *_: 0.4)
    good = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
    assert (
        await _look(Check(judge=JUDGE), b"{}", good, within_s=9)
        == "j gives it 0.40, 0.5 is asked for"
    )
    lenient = JUDGE.model_copy(update={"below": 0.4})
    assert await _look(Check(judge=lenient), b"{}", good, within_s=9) is None
