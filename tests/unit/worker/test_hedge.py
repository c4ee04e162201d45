"""What the end of either of two attempts means, at the moments that a real provider seldom meets."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.worker.worker_world import flight, job, router_of, way_of

from sluice_core.config.load import parse_config
from sluice_core.jobs.fates import FailureKind
from sluice_core.jobs.model import State
from sluice_core.pricing.book import PriceBook
from sluice_core.settlement.model import Problem
from sluice_providers.calls import uncalled
from sluice_schemas.errors import ErrorCode
from sluice_worker.flight import Flight
from sluice_worker.hedge import End, Hedging, Race

FAILED = End(uncalled(FailureKind.DEFECT, "it failed"), sent=True)
WELL = End(replace(uncalled(FailureKind.DEFECT, ""), failure=None, body=b"{}"), sent=True)
CONFIG = parse_config(
    "providers: {a: {kind: openai, base_url: 'http://a'}}\nmodels: {fast: {targets: [{account: a}]}}",
    {},
)
ROUTE = way_of(router_of(CONFIG, PriceBook()), job())
LATE = (State.CANCELLED, Problem(code=ErrorCode.CANCELLED, message="late"))


class Track:
    """A race of two flights, and all that is done with them, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Flight]] = []

        def note(name: str) -> Any:
            return lambda one, *_, **__: self.told.append((name, one))

        self.hedging = Hedging(
            SimpleNamespace(never_went=lambda *_: None),  # type: ignore[arg-type]
            SimpleNamespace(end=note("ends"), read=note("reads")),  # type: ignore[arg-type]
            SimpleNamespace(  # type: ignore[arg-type]
                finish=note("finishes"),
                give_early=note("early"),
                end_of=lambda *_: State.FAILED,
                repeatable=note("repeatable"),
            ),
            begin=note("begins"),
            hold=note("holds"),
        )
        self.first, self.second = flight(), flight()
        self.first.route = self.second.route = ROUTE
        self.second.hedges = True
        self.first.race = self.second.race = Race(self.first, self.second)

    def names(self) -> list[tuple[str, str]]:
        return [(name, "first" if one is self.first else "second") for name, one in self.told]


def test_a_first_that_streams_by_the_time_its_second_has_begun_is_alone() -> None:
    track = Track()
    track.first.deltas = 1
    assert not track.hedging.begun(track.second), "nobody waits for a second call"
    assert track.names() == []
    track.hedging.ended(track.first, WELL)
    assert track.names() == [("ends", "second"), ("reads", "first")]


def test_its_stream_broke_while_the_second_began() -> None:
    track = Track()
    track.first.deltas = 1
    track.hedging.ended(track.first, FAILED)
    assert track.names() == []
    assert not track.hedging.begun(track.second)
    assert track.names() == [("ends", "second"), ("reads", "first")]


@pytest.mark.parametrize(
    ("held", "called", "expected"),
    [
        (None, True, []),
        (WELL, False, [("ends", "second"), ("reads", "first")]),
        (FAILED, True, [("holds", "second"), ("reads", "first")]),
    ],
)
def test_how_the_first_ended_while_the_second_began(
    held: End | None,
    called: bool,
    expected: list[tuple[str, str]],
) -> None:
    track = Track()
    if held is not None:
        track.hedging.ended(track.first, held)
    assert track.hedging.begun(track.second) is called
    assert track.names() == expected


@pytest.mark.parametrize("held", [None, WELL, FAILED])
def test_a_cancel_while_the_second_began_calls_nobody(held: End | None) -> None:
    track = Track()
    race = track.first.race
    assert race is not None
    track.hedging.end_early(race, *LATE)
    if held is not None:
        track.hedging.ended(track.first, held)
    assert not track.hedging.begun(track.second)
    reads = [] if held is None else [("reads", "first")]
    assert track.names() == [("ends", "second"), *reads]


@pytest.mark.parametrize("held", [None, FAILED])
def test_without_a_second_the_first_is_as_it_was(held: End | None) -> None:
    track = Track()
    if held is not None:
        track.hedging.ended(track.first, held)
    track.hedging.not_begun(track.second)
    assert track.names() == ([] if held is None else [("finishes", "first")])
    assert track.first.race is None
