"""Begin: what starts a call, what ends before one, and a statement whose answer was lost."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.unit.worker.worker_world import MemoryLedger, flight, running
from tests.waiting import eventually

from sluice_core.config.load import parse_config
from sluice_core.jobs.model import State
from sluice_core.jobs.policy import Begin
from sluice_core.jobs.writes import Intent
from sluice_core.keys.model import Key
from sluice_core.pricing.book import PriceBook
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_worker.begin import BeginStep
from sluice_worker.flight import Flight
from sluice_worker.route import Router

CONFIG = parse_config(
    """
providers:
  mock: {kind: openai, base_url: "http://mock/v1", provider: openai}
models:
  fast: {targets: [{account: mock, model: gpt-4o-mini}], prices: {input: "1", output: "2"}}
""",
    {},
)
PRICES = PriceBook()


@dataclass
class Begun:
    """A begin step on a ledger in memory, and what came out of it."""

    ledger: MemoryLedger
    key: Key | None = None
    called: list[tuple[Flight, int]] = field(default_factory=list)
    refused: list[tuple[Flight, State, ErrorCode]] = field(default_factory=list)
    lost: list[Flight] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.step = BeginStep(
            self.ledger,  # type: ignore[arg-type]
            Router(CONFIG, PRICES, pool="default"),
            lambda _name: self.key,
            called=lambda flight, attempt: self.called.append((flight, attempt)),
            refused=lambda flight, state, code, _message: self.refused.append(
                (flight, state, code)
            ),
            lost=self.lost.append,
        )

    def owned(self, count: int, **given: Any) -> list[Flight]:
        flights = [flight(**given) for _ in range(count)]
        for owned in flights:
            self.ledger.rows[owned.job.row] = (State.OWNED, owned.job.attempt)
        return flights

    async def through(self, flights: Sequence[Flight]) -> None:
        async with running(self.step.run_prompt(), self.step.run_patient()):
            for each in flights:
                self.step.add(each)
            done = len(flights)
            await eventually(lambda: len(self.called) + len(self.refused) + len(self.lost) == done)


def once(name: str, error: Exception) -> Any:
    """Raises at the first statement of that name."""
    left = [error]

    def strike(statement: str, _batch: Sequence[Any]) -> None:
        if statement == name and left:
            raise left.pop()

    return strike


async def test_owned_flights_are_called_with_their_next_attempt_and_its_worst_case() -> None:
    begun = Begun(MemoryLedger())
    flights = begun.owned(3, attempt=2)
    await begun.through(flights)
    assert [(f, attempt) for f, attempt in begun.called] == [(f, 3) for f in flights]
    (batch,) = begun.ledger.begun
    assert batch[0] == Intent(
        row=flights[0].job.row,
        day=flights[0].job.day,
        account="mock",
        provider_model="gpt-4o-mini",
        worst_nano=flights[0].worst_nano,
        input_nano=flights[0].input_nano,
    )
    assert 0 < batch[0].input_nano < batch[0].worst_nano


async def test_realtime_does_not_wait_behind_a_patient_batch() -> None:
    begun = Begun(MemoryLedger())
    (urgent,) = begun.owned(1, job_class=JobClass.REALTIME)
    patient = begun.owned(2, job_class=JobClass.BULK)
    await begun.through([*patient, urgent])
    assert [len(batch) for batch in begun.ledger.begun] == [1, 2]
    assert begun.ledger.begun[0][0].row == urgent.job.row


async def test_what_is_not_this_workers_is_lost_and_not_called() -> None:
    begun = Begun(MemoryLedger())
    (mine,) = begun.owned(1)
    stranger = flight()
    await begun.through([mine, stranger])
    assert begun.lost == [stranger]
    assert [f for f, _ in begun.called] == [mine]


@pytest.mark.parametrize(
    ("verdict", "state", "code"),
    [
        (Begin.CANCELLED, State.CANCELLED, ErrorCode.CANCELLED),
        (Begin.EXPIRED, State.EXPIRED, ErrorCode.DEADLINE_EXCEEDED),
    ],
)
async def test_the_ledgers_refusal_ends_the_job(
    verdict: Begin, state: State, code: ErrorCode
) -> None:
    class Refusing(MemoryLedger):
        async def begin(self, intents: Sequence[Intent]) -> list[tuple[Begin, int]]:
            return [(verdict, 0) for _ in intents]

    begun = Begun(Refusing())
    (refused,) = begun.owned(1)
    await begun.through([refused])
    assert begun.refused == [(refused, state, code)]


async def test_a_revoked_key_and_a_model_that_is_gone_end_before_the_ledger_is_asked() -> None:
    revoked = Key(
        id="sgk_a",
        tenant="acme",
        team=None,
        project=None,
        app=None,
        grants=frozenset(),
        hmac_key=b"k" * 32,
        reply_topics=(),
        expires_at=None,
        revoked_at=1.0,
    )
    begun = Begun(MemoryLedger(), key=revoked)
    (signed,) = begun.owned(1, key_id="sgk_a")
    (homeless,) = begun.owned(1, model="gone")
    await begun.through([signed, homeless])
    assert begun.refused == [
        (signed, State.REJECTED, ErrorCode.UNAUTHORIZED),
        (homeless, State.REJECTED, ErrorCode.UNKNOWN_MODEL),
    ]
    assert begun.ledger.begun == []
    begun.key = replace(revoked, revoked_at=None)
    (valid,) = begun.owned(1, key_id="sgk_a")
    begun.refused.clear()
    await begun.through([valid])
    assert [f for f, _ in begun.called] == [valid]


async def test_a_connection_lost_after_the_commit_calls_once() -> None:
    ledger = MemoryLedger()
    ledger.after = once("begin", ConnectionResetError())
    begun = Begun(ledger)
    flights = begun.owned(3)
    stranger = flight()
    await begun.through([*flights, stranger])
    assert begun.called == [(f, 1) for f in flights]
    assert begun.lost == [stranger]
    assert [ledger.rows[f.job.row] for f in flights] == [(State.CALLING, 1)] * 3
    assert [len(batch) for batch in ledger.begun] == [4, 0]


async def test_a_connection_lost_before_the_commit_begins_again() -> None:
    ledger = MemoryLedger()
    ledger.before = once("begin", ConnectionResetError())
    begun = Begun(ledger)
    flights = begun.owned(2)
    await begun.through(flights)
    assert begun.called == [(f, 1) for f in flights]
    assert [len(batch) for batch in ledger.begun] == [2]


async def test_the_ledger_is_asked_until_it_answers() -> None:
    ledger = MemoryLedger()
    lost = [ConnectionResetError(), ConnectionResetError(), TimeoutError()]

    def fail(name: str, _batch: Sequence[Any]) -> None:
        if name in ("begin", "mine") and lost:
            raise lost.pop(0)

    ledger.before = fail
    begun = Begun(ledger)
    flights = begun.owned(1)
    await begun.through(flights)
    assert begun.called == [(flights[0], 1)]
    assert not lost


async def test_a_first_statement_that_was_still_under_way_is_not_taken_for_lost() -> None:
    """The answer is lost, the row still looks owned, and the first statement commits only then."""

    class Slow(MemoryLedger):
        late: Sequence[Intent] = ()

        async def begin(self, intents: Sequence[Intent]) -> list[tuple[Begin, int]]:
            if not self.begun:
                self.begun.append(list(intents))
                self.late = intents
                raise TimeoutError
            for intent in self.late:
                self.rows[intent.row] = (State.CALLING, 1)
            return await super().begin(intents)

    begun = Begun(Slow())
    flights = begun.owned(2)
    await begun.through(flights)
    assert begun.called == [(f, 1) for f in flights]
    assert begun.lost == []
