"""Where flights go between the steps: of those that have more than one way."""

from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.worker.worker_world import flight

from sluice_core.jobs.model import State
from sluice_core.jobs.policy import Begin
from sluice_core.jobs.writes import Begun
from sluice_schemas.errors import ErrorCode
from sluice_worker.flight import Flight
from sluice_worker.handover import Handover


class Desk(Handover):
    """Steps that write down what they are given."""

    def __init__(self, *, stopping: bool = False, starts: bool = True) -> None:
        super().__init__()
        self.told: list[tuple[Any, ...]] = []

        def note(name: str, answer: Any = None) -> Any:
            return lambda *given, **_: self.told.append((name, *given)) or answer

        self.dispatcher: Any = SimpleNamespace(
            resume=note("resume"),
            add=note("waits"),
            finished=note("slot"),
            take_out=lambda _: False,
            learn=lambda *_, **__: None,
            put_back=lambda *_, **__: self.told.append(("put_back",)),
        )
        self.begin: Any = SimpleNamespace(add=note("begins"))
        self.calls: Any = SimpleNamespace(
            end_early=note("ends early"),
            start=note("starts", starts),
            hedges=SimpleNamespace(not_begun=note("no hedge")),
        )
        self.settle: Any = SimpleNamespace(refuse=note("refused"))
        self.cache: Any = SimpleNamespace(let_go=note("let go"), waits=lambda _: [])
        self.denials: Any = SimpleNamespace(note=lambda *_: None)
        self._readiness: Any = SimpleNamespace(stopping=stopping, trusted=lambda: True)

    def names(self) -> list[str]:
        return [name for name, *_ in self.told]


def called() -> Flight:
    """A flight whose call has just failed."""
    one = flight(attempt=1)
    one.task = object()  # type: ignore[assignment]
    return one


def test_a_cancel_between_two_targets_ends_the_job_before_the_second() -> None:
    desk, one = Desk(), called()
    desk._goes_on(one)
    assert desk.names() == ["resume", "begins"]
    desk._cancel(one)
    # No call is under way that could be ended early: `begin` is told by the ledger's flag.
    assert desk.names()[2:] == ["let go"]
    assert one.cancelled
    desk._refused_at_begin(one, State.CANCELLED, ErrorCode.CANCELLED, "cancelled")
    assert desk.told[-1] == ("refused", one, State.CANCELLED, ErrorCode.CANCELLED, "cancelled")


def test_a_worker_that_stops_gives_the_job_back_or_the_answer_that_there_is() -> None:
    desk, one = Desk(stopping=True), called()
    desk._goes_on(one)
    assert desk.names() == ["waits"]
    kept = called()
    kept.kept = object()  # type: ignore[assignment]
    desk._goes_on(kept)
    assert desk.names() == ["waits", "refused"]


@pytest.mark.parametrize("what", ["kept", "told"])
def test_who_has_an_answer_or_is_waited_for_waits_for_no_limit(what: str) -> None:
    desk, one = Desk(), flight()
    setattr(one, what, object())
    desk._waits(one, 1.0, whole_lane=True)
    assert desk.names() == ["slot", "refused"]


def test_a_hedge_that_does_not_begin_ends_no_job() -> None:
    for way in ("waits", "refused", "lost"):
        desk, second = Desk(), flight()
        second.hedges = True
        if way == "waits":
            desk._waits(second, 1.0, whole_lane=True)
        elif way == "refused":
            desk._refused_at_begin(second, State.REJECTED, ErrorCode.BUDGET_EXCEEDED, "no")
        else:
            desk._lost(second)
        assert desk.names() == ["slot", "no hedge"], way


def test_an_attempt_that_nobody_waits_for_gives_its_slot_back() -> None:
    desk, second = Desk(starts=False), flight()
    desk._begun(second, Begun(verdict=Begin.BEGUN, attempt=2))
    assert desk.names() == ["starts", "slot"]
