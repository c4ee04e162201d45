"""Settlement: one statement a batch, a bad one found alone, events only for what was settled, answers in order."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest
from tests.unit.worker.worker_world import (
    ORIGIN,
    RESULT_ID,
    USAGE_ID,
    MemoryLedger,
    MemoryOutbox,
    Paper,
    flight,
    running,
)
from tests.waiting import eventually

from sluice_core.jobs.model import Outcome, State
from sluice_core.jobs.writes import Settled, Settlement
from sluice_core.publishing.repository import DUPLICATE
from sluice_core.settlement.last_resort import last_resort
from sluice_core.settlement.model import Priced, Problem, Report
from sluice_core.settlement.policy import ending
from sluice_core.usage.model import Usage
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_schemas.money import MAX_NANO
from sluice_schemas.results import Result
from sluice_worker.flight import Flight
from sluice_worker.settle import SettleStep


def report(**given: Any) -> Report:
    plain: dict[str, Any] = {
        "account": "mock",
        "provider": "openai",
        "provider_model": "gpt",
        "started_at": 1_795_435_199.0,
        "ended_at": 1_795_435_200.0,
        "worst_nano": 900,
        "input_nano": 300,
        "outcome": Outcome.SUCCEEDED,
        "money": "estimated",
        "status": 200,
        "body": b'{"choices":[]}',
        "usage": Usage(input_tokens=3, output_tokens=5),
        "priced": Priced(cost_nano=15, price_version="test"),
    }
    return Report(**plain | given)


@dataclass
class Desk:
    """A settle step on a ledger in memory, and what it let go."""

    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    outbox: MemoryOutbox = field(default_factory=MemoryOutbox)
    paper: Paper = field(default_factory=Paper)
    released: list[Flight] = field(default_factory=list)
    gone_on: list[Flight] = field(default_factory=list)
    replayed: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.step = SettleStep(
            self.ledger,  # type: ignore[arg-type]
            self.outbox,  # type: ignore[arg-type]
            self.paper,  # type: ignore[arg-type]
            ORIGIN,
            released=self.released.append,
            goes_on=self.gone_on.append,
            replay=lambda flight, body: self.replayed.append(body),
        )

    def calling(self, count: int = 1, **given: Any) -> list[Flight]:
        flights = [flight(attempt=1, **given) for _ in range(count)]
        for called in flights:
            self.ledger.rows[called.job.row] = (State.CALLING, 1)
        return flights

    def succeed(self, called: Flight, body: bytes = b'{"choices":[]}') -> None:
        self.step.end(called, State.SUCCEEDED, report=report(body=body), problem=None)

    def run(self) -> Any:
        return running(self.step.run_prompt(), self.step.run_patient())

    def results(self) -> dict[str, Result]:
        """Every result published to the results topic, by job."""
        found = {}
        for due in self.paper.due:
            for message in due.messages:
                if message.topic.endswith("results.acme.v1"):
                    value = Result.model_validate_json(message.value or b"")
                    assert value.id not in found
                    found[value.id] = value
        return found


def poisoned(rows: set[int]) -> Any:
    """A ledger that cannot store the answers of these rows."""

    def check(name: str, batch: Sequence[Settlement]) -> None:
        for s in batch:
            if name == "settle" and s.row in rows and s.code != ErrorCode.INTERNAL:
                error = asyncpg.PostgresError("untranslatable")
                error.sqlstate = "22P05"
                raise error

    return check


async def test_result_and_usage_go_out_with_what_was_settled() -> None:
    desk = Desk()
    flights = desk.calling(3)
    for called in flights:
        desk.succeed(called)
    assert len(desk.step) == 3
    async with desk.run():
        await eventually(lambda: len(desk.released) == 3)
    assert len(desk.step) == 0
    assert [len(batch) for batch in desk.ledger.settled] == [3]
    assert set(desk.results()) == {str(f.id) for f in flights}
    usage = [d for d in desk.paper.due if d.messages[0].topic == "llm.usage.v1"]
    assert sorted(d.id for d in usage) == sorted(USAGE_ID + f.job.row for f in flights)
    results = [d for d in desk.paper.due if d not in usage]
    assert {d.job for d in results} == {f.job.row for f in flights}


async def test_a_lost_answer_is_asked_again_and_the_events_come_from_the_ledger() -> None:
    desk = Desk(outbox=MemoryOutbox(rows=[71, 72]))
    lost = [ConnectionResetError()]

    def lose(name: str, _batch: object) -> None:
        if name == "settle" and lost:
            raise lost.pop()

    desk.ledger.after = lose
    (called,) = desk.calling()
    desk.succeed(called)
    async with desk.run():
        await eventually(lambda: desk.released)
    assert len(desk.ledger.settled) == 2
    assert desk.outbox.asked == [(desk.ledger.incarnation, (called.job.row,))]
    assert desk.paper.rows == [71, 72]
    assert desk.paper.due == []


async def test_a_fenced_settlement_publishes_nothing_and_lets_go() -> None:
    desk = Desk()
    (mine,) = desk.calling()
    stranger = flight(attempt=1)
    desk.succeed(mine)
    desk.succeed(stranger)
    async with desk.run():
        await eventually(lambda: len(desk.released) == 2)
    assert set(desk.results()) == {str(mine.id)}
    assert desk.paper.rows == []


async def test_waiters_are_answered_from_the_ledger() -> None:
    class WithWaiter(MemoryLedger):
        async def settle(self, settlements: Sequence[Settlement]) -> Settled:
            settled = await super().settle(settlements)
            return replace(settled, events=[*settled.events, (5, DUPLICATE, settlements[0].row)])

    desk = Desk(ledger=WithWaiter())
    (called,) = desk.calling()
    desk.succeed(called)
    async with desk.run():
        await eventually(lambda: desk.released)
    assert desk.paper.rows == [5]
    assert len(desk.results()) == 1


@pytest.mark.parametrize("bad", [{0}, {6}, {2, 3}, {0, 1, 2, 3, 4, 5, 6}])
async def test_what_cannot_be_stored_ends_alone_as_internal_with_its_money(bad: set[int]) -> None:
    desk = Desk()
    flights = desk.calling(7)
    desk.ledger.before = poisoned({flights[place].job.row for place in bad})
    for called in flights:
        desk.succeed(called)
    async with desk.run():
        await eventually(lambda: len(desk.released) == 7)
    results = desk.results()
    for place, called in enumerate(flights):
        told = results[str(called.id)].job
        if place in bad:
            assert told.state == "failed"
            assert told.error is not None
            assert told.error.code is ErrorCode.INTERNAL
        else:
            assert told.state == "succeeded"
    booked = [s.usage.cost_nano for batch in desk.ledger.settled for s in batch if s.usage]
    assert booked == [15] * 7


async def test_poison_keeps_the_money_of_an_unknown_outcome() -> None:
    desk = Desk()
    (called,) = desk.calling()
    desk.ledger.before = poisoned({called.job.row})
    unknown = report(outcome=Outcome.UNKNOWN, money="unknown", status=None, body=None)
    problem = Problem(code=ErrorCode.OUTCOME_UNKNOWN, message="nothing came")
    desk.step.end(called, State.UNKNOWN, report=unknown, problem=problem)
    async with desk.run():
        await eventually(lambda: desk.released)
    ((settled,),) = desk.ledger.settled
    assert (settled.code, settled.outcome) == (ErrorCode.INTERNAL, Outcome.UNKNOWN)
    assert (settled.held_nano, settled.input_nano) == (900, 300)
    assert settled.usage is not None
    assert settled.usage.outcome == "unknown"


def no_nul(name: str, batch: Sequence[Settlement]) -> None:
    """A ledger that takes no NUL in any text, as Postgres does not."""
    for s in batch:
        if name == "settle" and s.usage is not None and "\0" in str(s.usage.to_row(s.row)[3]):
            error = asyncpg.PostgresError("untranslatable")
            error.sqlstate = "22P05"
            raise error


@pytest.mark.parametrize("ends", ["at once", "for a retry", "internal"])
async def test_poison_that_stays_ends_with_hardly_more_than_numbers(ends: str) -> None:
    desk = Desk()
    bad, good = desk.calling(2)
    bad.job = replace(bad.job, facts=replace(bad.job.facts, run_id="night\0run", tags={"a": "b"}))
    desk.ledger.before = no_nul
    unknown = report(outcome=Outcome.UNKNOWN, money="unknown", status=None, body=None)
    code = ErrorCode.INTERNAL if ends == "internal" else ErrorCode.OUTCOME_UNKNOWN
    if ends == "for a retry":
        desk.step.retry(bad, unknown, run_at=1_795_435_260.0)
    else:
        problem = Problem(code=code, message="nothing came")
        desk.step.end(bad, State.UNKNOWN, report=unknown, problem=problem)
    desk.succeed(good)
    async with desk.run():
        await eventually(lambda: len(desk.released) == 2)
    (stored,) = [s for b in desk.ledger.settled for s in b if s.row == bad.job.row]
    assert (stored.state, stored.code, stored.outcome) == (
        State.FAILED,
        ErrorCode.INTERNAL,
        Outcome.UNKNOWN,
    )
    assert (stored.held_nano, stored.input_nano) == (900, 300)
    assert stored.usage is not None
    assert (stored.usage.run_id, stored.usage.tenant) == ("nightrun", "acme")
    assert (stored.usage.tags, stored.usage.outcome) == ("{}", "unknown")
    told = desk.results()[str(bad.id)]
    assert (told.custom_id, told.job.state) == ("row-1", "failed")
    assert told.error is not None
    assert told.error.code is ErrorCode.INTERNAL
    assert desk.results()[str(good.id)].job.state == "succeeded"


async def test_the_last_resort_of_a_job_answered_before_ends_its_attempt_alone() -> None:
    desk = Desk()
    (called,) = desk.calling()
    called.job = replace(called.job, facts=replace(called.job.facts, run_id="\0"))
    early(desk, called)
    desk.step.read(called, LATE)
    desk.ledger.before = no_nul
    async with desk.run():
        await eventually(lambda: desk.released == [called])
    last = desk.ledger.settled[-1][0]
    assert (last.state, last.outcome, last.result) == (None, Outcome.CANCELLED, None)
    assert last.usage is not None
    assert last.usage.cost_nano == 15


def test_the_last_resort_holds_no_number_that_a_column_cannot() -> None:
    desk = Desk()
    (called,) = desk.calling()
    absurd = report(
        usage=Usage(input_tokens=10**18, output_tokens=-1), priced=Priced(cost_nano=10**30)
    )
    plain = ending(
        called.job,
        state=State.SUCCEEDED,
        custom_id=None,
        now=1_795_435_200.0,
        ce_id=uuid4(),
        usage_id=uuid4(),
        report=absurd,
    )
    bare = last_resort(plain, called.job, custom_id=None, now=1_795_435_200.0, ce_id=uuid4())
    assert bare.usage is not None
    numbers = [value for value in bare.usage.to_row(1) if isinstance(value, int)]
    assert all(0 <= number < 2**63 for number in numbers)
    assert bare.usage.cost_nano == MAX_NANO


async def test_what_cannot_even_be_refused_is_let_go_and_holds_up_nobody() -> None:
    desk = Desk()
    bad, good = desk.calling(2)

    def check(name: str, batch: Sequence[Settlement]) -> None:
        if name == "settle" and any(s.row == bad.job.row for s in batch):
            error = asyncpg.PostgresError("no")
            error.sqlstate = "23514"
            raise error

    desk.ledger.before = check
    desk.succeed(bad)
    desk.succeed(good)
    async with desk.run():
        await eventually(lambda: len(desk.released) == 2)
    assert set(desk.results()) == {str(good.id)}


async def test_a_missing_partition_and_an_outage_are_waited_for() -> None:
    desk = Desk()
    missing = asyncpg.PostgresError('no partition of relation "responses" found for row')
    missing.sqlstate = "23514"
    troubles: list[Exception] = [missing, ConnectionResetError(), TimeoutError()]

    def fail(name: str, _batch: object) -> None:
        if troubles:
            raise troubles.pop(0)

    desk.ledger.before = fail
    (called,) = desk.calling()
    desk.succeed(called)
    async with desk.run():
        await eventually(lambda: desk.released)
    assert [r.job.state for r in desk.results().values()] == ["succeeded"]


def early(desk: Desk, called: Flight) -> None:
    called.answered = True
    desk.step.end(
        called,
        State.CANCELLED,
        report=report(outcome=Outcome.READ_ON, money="unknown", status=None, body=None),
        problem=Problem(code=ErrorCode.CANCELLED, message="cancelled"),
        read_on=True,
    )


LATE = report(outcome=Outcome.CANCELLED)


@pytest.mark.parametrize("report_first", [True, False])
async def test_an_early_answer_is_durable_before_its_late_report_whichever_came_first(
    report_first: bool,
) -> None:
    desk = Desk()
    (called,) = desk.calling()
    early(desk, called)
    if report_first:
        desk.step.read(called, LATE)
        assert len(desk.step) == 1
    async with desk.run():
        await eventually(lambda: called.answer_durable)
        if not report_first:
            assert desk.released == []
            desk.step.read(called, LATE)
        await eventually(lambda: desk.released == [called])
    first, second = (batch[0] for batch in desk.ledger.settled)
    assert (first.state, first.outcome, first.usage) == (State.CANCELLED, Outcome.READ_ON, None)
    assert first.held_nano is None
    assert (second.state, second.outcome, second.result) == (None, Outcome.CANCELLED, None)
    assert second.usage is not None
    assert (second.usage.outcome, second.usage.cost_nano) == ("cancelled", 15)
    assert len(desk.results()) == 1


async def test_a_retry_publishes_its_usage_alone() -> None:
    desk = Desk()
    (called,) = desk.calling()
    unknown = report(outcome=Outcome.UNKNOWN, money="unknown", status=None, body=None)
    desk.step.retry(called, unknown, run_at=1_795_435_260.0)
    async with desk.run():
        await eventually(lambda: desk.released)
    ((settled,),) = desk.ledger.settled
    assert (settled.state, settled.run_at, settled.result) == (
        State.RETRY_WAIT,
        1_795_435_260.0,
        None,
    )
    ((message,),) = [d.messages for d in desk.paper.due]
    assert orjson.loads(message.value or b"")["cost_usd"] == "0.000000000"


async def test_realtime_is_not_settled_behind_a_patient_batch() -> None:
    desk = Desk()
    (bulk,) = desk.calling(job_class=JobClass.BULK)
    (urgent,) = desk.calling(job_class=JobClass.REALTIME)
    desk.succeed(bulk)
    desk.step.refuse(urgent, State.EXPIRED, ErrorCode.DEADLINE_EXCEEDED, "late")
    async with desk.run():
        await eventually(lambda: len(desk.released) == 2)
    assert desk.released == [urgent, bulk]
    assert desk.paper.due[0].id == RESULT_ID + urgent.job.row


@pytest.mark.parametrize("state", [State.FAILED, State.REJECTED, State.EXPIRED, State.UNKNOWN])
async def test_who_has_an_answer_that_did_not_pass_succeeds_with_it(state: State) -> None:
    desk = Desk()
    (called,) = desk.calling()
    called.kept = report(body=b'{"choices":[1]}')
    problem = Problem(code=ErrorCode.PROVIDER_ERROR, message="no")
    async with running(desk.step.run_patient()):
        desk.step.end(called, state, report=report(outcome=Outcome.FAILED), problem=problem)
        await eventually(lambda: desk.released)
    (settlement,) = desk.ledger.settled[0]
    assert (settlement.state, settlement.outcome) == (State.SUCCEEDED, Outcome.FAILED)
    assert settlement.code == "provider_error"
    result = orjson.loads(settlement.result or b"")
    assert (result["response"]["body"], result["error"]) == ({"choices": [1]}, None)
    assert desk.replayed == [b'{"choices":[1]}']


async def test_a_cancelled_job_is_cancelled_whatever_there_is() -> None:
    desk = Desk()
    (called,) = desk.calling()
    called.kept = report(body=b"{}")
    problem = Problem(code=ErrorCode.CANCELLED, message="no")
    async with running(desk.step.run_patient()):
        desk.step.end(called, State.CANCELLED, report=report(), problem=problem)
        await eventually(lambda: desk.released)
    assert desk.ledger.settled[0][0].state is State.CANCELLED
    assert desk.replayed == []
