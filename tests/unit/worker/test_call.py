"""An early answer is for calls that still run."""

import asyncio
from typing import Any, cast

from tests.unit.worker.worker_world import flight

from sluice_core.jobs.model import State
from sluice_worker.call import CallStep


class Paper:
    """Takes note of settlements instead of writing them."""

    def __init__(self) -> None:
        self.ended: list[State] = []

    def end(self, _flight: object, state: State, **_: object) -> None:
        self.ended.append(state)


async def test_a_call_that_is_over_is_not_settled_a_second_time() -> None:
    paper = Paper()
    step = CallStep(
        cast("Any", None),
        cast("Any", paper),
        cast("Any", None),
        answer_bytes=1,
        finished=print,
        load=cast("Any", None),
    )
    over = flight()
    over.task = asyncio.create_task(asyncio.sleep(0))
    await over.task
    step.end_early(over, State.CANCELLED)
    assert paper.ended == []
    assert not over.answered
