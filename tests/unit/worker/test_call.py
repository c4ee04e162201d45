"""An early answer is for calls that still run; what our own code fails on costs only what may have been sent."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from tests.unit.worker.worker_world import flight

from sluice_core.jobs.model import State
from sluice_core.settlement.model import Problem, Report
from sluice_providers.credentials import OneKey
from sluice_providers.port import Target
from sluice_schemas.errors import ErrorCode
from sluice_worker.call import CallStep
from sluice_worker.escalate import Escalation


class Paper:
    """Takes note of settlements instead of writing them."""

    def __init__(self) -> None:
        self.ended: list[State] = []
        self.reports: list[Report] = []
        self.problems: list[Problem] = []

    def end(
        self, _flight: object, state: State, *, report: Report, problem: Problem, **_: object
    ) -> None:
        self.ended.append(state)
        self.reports.append(report)
        self.problems.append(problem)


class Mute:
    """Learns nothing."""

    def lost(self, _flight: object) -> None:
        """Nothing to give back."""


async def test_a_call_that_is_over_is_not_settled_a_second_time() -> None:
    paper = Paper()
    step = CallStep(
        cast("Any", None),
        cast("Any", paper),
        cast("Any", None),
        answer_bytes=1,
        finished=print,
        load=cast("Any", Mute()),
        router=cast("Any", None),
        escalation=Escalation(),
        repeatable=lambda *_: None,
        gave_up=lambda _: None,
        hedge=lambda _: None,
        hold=lambda _: None,
    )
    over = flight()
    over.task = asyncio.create_task(asyncio.sleep(0))
    await over.task
    step.end_early(over, State.CANCELLED)
    assert paper.ended == []
    assert not over.answered


class Deaf:
    """Deltas that cannot even be opened."""

    def channel(self, _flight: object) -> None:
        raise RuntimeError("no channel")


async def test_what_fails_before_the_call_costs_nothing() -> None:
    paper = Paper()
    step = CallStep(
        cast("Any", None),
        cast("Any", paper),
        cast("Any", Deaf()),
        answer_bytes=1,
        finished=lambda _flight: None,
        load=cast("Any", Mute()),
        router=cast("Any", None),
        escalation=Escalation(),
        repeatable=lambda *_: None,
        gave_up=lambda _: None,
        hedge=lambda _: None,
        hold=lambda _: None,
    )
    target = Target(
        account="mock",
        kind="openai",
        provider="openai",
        base_url="http://127.0.0.1:1/v1",
        model="gpt",
        model_requested="fast",
    )
    made = flight()
    made.route = cast(
        "Any",
        SimpleNamespace(
            target=target,
            name="smart",
            arm=None,
            region=None,
            tier=None,
            credentials=OneKey(),
            check=None,
            hedge=None,
        ),
    )
    step.start(made, 1)
    assert made.task is not None
    await made.task
    assert paper.ended == [State.FAILED]
    assert (paper.reports[0].money, paper.problems[0].code) == ("none", ErrorCode.INTERNAL)


class Forgetful:
    """A load that fails on every answer."""

    def learn(self, *_: object) -> None:
        raise ZeroDivisionError


class Silent:
    """Deltas that nobody listens to."""

    def channel(self, _flight: object) -> None:
        return None


async def test_an_answer_counts_though_nothing_can_be_learned_from_it() -> None:
    paper = Paper()
    step = CallStep(
        cast("Any", None),
        cast("Any", paper),
        cast("Any", Silent()),
        answer_bytes=1,
        finished=lambda _flight: None,
        load=cast("Any", Forgetful()),
        router=cast("Any", None),
        escalation=Escalation(),
        repeatable=lambda *_: None,
        gave_up=lambda _: None,
        hedge=lambda _: None,
        hold=lambda _: None,
    )
    target = Target(
        account="claude",
        kind="anthropic",
        provider="anthropic",
        base_url="http://127.0.0.1:1/v1",
        model="claude",
        model_requested="smart",
    )
    made = flight()
    made.route = cast(
        "Any",
        SimpleNamespace(
            target=target,
            name="smart",
            arm=None,
            region=None,
            tier=None,
            credentials=OneKey(),
            check=None,
            hedge=None,
        ),
    )
    step.start(made, 1)
    assert made.task is not None
    await made.task
    assert paper.ended == [State.REJECTED]
    assert paper.problems[0].code is ErrorCode.INVALID_RECORD
