"""Begin: what starts a call, what ends before one, and a statement whose answer was lost."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import pytest
from tests.unit.worker.worker_world import MemoryLedger, flight, router_of, running
from tests.waiting import eventually

from sluice_core.admission.directory import Place
from sluice_core.admission.expectations import Expectations
from sluice_core.admission.model import Draw, ScopeKind
from sluice_core.config.load import parse_config
from sluice_core.jobs.model import State
from sluice_core.jobs.policy import Begin
from sluice_core.jobs.writes import Begun, Intent
from sluice_core.keys.model import Key
from sluice_core.policies.policy import Permissions
from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.bounds import DEFAULT_MAX_OUTPUT
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_worker.begin import BeginStep, Ways
from sluice_worker.flight import Flight
from sluice_worker.permits import Permits

CONFIG = parse_config(
    """
providers:
  mock: {kind: openai, base_url: "http://mock/v1", provider: openai}
models:
  fast: {targets: [{account: mock, model: gpt-4o-mini}], prices: {input: "1", output: "2"}}
tenants:
  acme: {}
  strict:
    policy: {models: {deny: [fast]}}
    users: {anna: {policy: {models: {allow: [fast]}, max_tokens: 50, max_cost_usd: "0.001"}}}
""",
    {},
)
PRICES = PriceBook()


async def _pseudonym(_tenant: str, user: str) -> str:
    return f"u_{user}"


PERMITS = Permits(Permissions.from_config(CONFIG), _pseudonym)


@dataclass
class MemoryLedgers:
    """Every attempt draws on the same; refusals are named by what was said of their number."""

    draw: Draw = field(default_factory=lambda: Draw((11, 12, 13)))
    names: dict[int, tuple[ScopeKind, str]] = field(default_factory=dict)
    asked: list[Sequence[Place]] = field(default_factory=list)

    async def draws(self, places: Sequence[Place]) -> list[Draw]:
        self.asked.append(places)
        return [self.draw for _ in places]

    def cause(self, number: int) -> tuple[ScopeKind, str] | None:
        return self.names.get(number)


@dataclass
class Stage:
    """A begin step on a ledger in memory, and what came out of it."""

    ledger: MemoryLedger
    key: Key | None = None
    ledgers: MemoryLedgers = field(default_factory=MemoryLedgers)
    called: list[tuple[Flight, int]] = field(default_factory=list)
    refused: list[tuple[Flight, State, ErrorCode]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    lost: list[Flight] = field(default_factory=list)
    waits: list[tuple[Flight, float, bool]] = field(default_factory=list)
    deferred: list[Flight] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.step = BeginStep(
            self.ledger,  # type: ignore[arg-type]
            router_of(CONFIG, PRICES),
            key_of=lambda _name: self.key,
            permits=PERMITS,
            ledgers=self.ledgers,
            expectations=Expectations(),
            ways=Ways(
                called=lambda flight, begun: self.called.append((flight, begun.attempt)),
                refused=self._refused,
                lost=self.lost.append,
                waits=lambda flight, until, lane: self.waits.append((flight, until, lane)),
                deferred=self.deferred.append,
            ),
        )

    def _refused(self, flight: Flight, state: State, code: ErrorCode, message: str) -> None:
        self.refused.append((flight, state, code))
        self.messages.append(message)

    def owned(self, count: int, **given: Any) -> list[Flight]:
        flights = [flight(**given) for _ in range(count)]
        for owned in flights:
            self.ledger.rows[owned.job.row] = (State.OWNED, owned.job.attempt)
        return flights

    async def through(self, flights: Sequence[Flight]) -> None:
        async with running(self.step.run_prompt(), self.step.run_patient()):
            ways = (self.called, self.refused, self.lost, self.waits, self.deferred)
            before = sum(map(len, ways))
            for each in flights:
                self.step.add(each)
            await eventually(lambda: sum(map(len, ways)) == before + len(flights))


def once(name: str, error: Exception) -> Any:
    """Raises at the first statement of that name."""
    left = [error]

    def strike(statement: str, _batch: Sequence[Any]) -> None:
        if statement == name and left:
            raise left.pop()

    return strike


@pytest.mark.parametrize("first", [None, ConnectionResetError()])
async def test_an_attempt_that_cannot_be_stored_fails_alone(first: Exception | None) -> None:
    begun = Stage(MemoryLedger())
    flights = begun.owned(5)
    lost = [] if first is None else [first]

    def strike(statement: str, batch: Sequence[Any]) -> None:
        if statement == "begin":
            if lost:
                raise lost.pop()
            if any(intent.row == flights[3].job.row for intent in batch):
                raise asyncpg.DataError("value out of int64 range")

    begun.ledger.before = strike
    await begun.through(flights)
    assert [f for f, _ in begun.called] == [*flights[:3], flights[4]]
    assert begun.refused == [(flights[3], State.FAILED, ErrorCode.INTERNAL)]


@pytest.mark.parametrize(
    "asked", ['"max_tokens":9223372036854775807', '"max_tokens":1,"n":9223372036854775807']
)
async def test_what_is_too_much_to_be_counted_is_refused(asked: str) -> None:
    begun = Stage(MemoryLedger())
    body = b'{"model":"fast","messages":[],%s}' % asked.encode()
    (asking,) = begun.owned(1, body=body)
    await begun.through([asking])
    assert begun.refused == [(asking, State.REJECTED, ErrorCode.TOO_LARGE)]


async def test_owned_flights_are_called_with_their_next_attempt_and_its_worst_case() -> None:
    begun = Stage(MemoryLedger())
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
        job_class=JobClass.STANDARD,
        tokens=flights[0].expected_tokens,
        bound=flights[0].bound_tokens,
        scopes=(11, 12, 13),
        route="only target",
    )
    assert 0 < batch[0].tokens < batch[0].bound
    assert 0 < batch[0].input_nano < batch[0].worst_nano


async def test_realtime_does_not_wait_behind_a_patient_batch() -> None:
    begun = Stage(MemoryLedger())
    (urgent,) = begun.owned(1, job_class=JobClass.REALTIME)
    patient = begun.owned(2, job_class=JobClass.BULK)
    await begun.through([*patient, urgent])
    assert [len(batch) for batch in begun.ledger.begun] == [1, 2]
    assert begun.ledger.begun[0][0].row == urgent.job.row


async def test_what_is_not_this_workers_is_lost_and_not_called() -> None:
    begun = Stage(MemoryLedger())
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
        async def begin(self, intents: Sequence[Intent]) -> list[Begun]:
            return [Begun(verdict=verdict) for _ in intents]

    begun = Stage(Refusing())
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
    begun = Stage(MemoryLedger(), key=revoked)
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
    begun = Stage(ledger)
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
    begun = Stage(ledger)
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
    begun = Stage(ledger)
    flights = begun.owned(1)
    await begun.through(flights)
    assert begun.called == [(flights[0], 1)]
    assert not lost


async def test_a_first_statement_that_was_still_under_way_is_not_taken_for_lost() -> None:
    """The answer is lost, the row still looks owned, and the first statement commits only then."""

    class Slow(MemoryLedger):
        late: Sequence[Intent] = ()

        async def begin(self, intents: Sequence[Intent]) -> list[Begun]:
            if not self.begun:
                self.begun.append(list(intents))
                self.late = intents
                raise TimeoutError
            for intent in self.late:
                self.rows[intent.row] = (State.CALLING, 1)
            return await super().begin(intents)

    begun = Stage(Slow())
    flights = begun.owned(2)
    await begun.through(flights)
    assert begun.called == [(f, 1) for f in flights]
    assert begun.lost == []


class Answering(MemoryLedger):
    """A ledger that answers every intent alike."""

    answer = Begun(verdict=Begin.LOST)

    async def begin(self, intents: Sequence[Intent]) -> list[Begun]:
        self.begun.append(list(intents))
        return [self.answer for _ in intents]


UNTIL = 4_000_000_000.0


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Begin.RATE_LIMITED, ErrorCode.RATE_LIMITED),
        (Begin.COOLING, ErrorCode.RATE_LIMITED),
        (Begin.AT_CAPACITY, ErrorCode.CONCURRENCY_EXCEEDED),
        (Begin.BUDGET_BUSY, ErrorCode.BUDGET_BUSY),
    ],
)
@pytest.mark.parametrize(
    ("kind", "whole_lane"),
    [
        (ScopeKind.TENANT, True),
        (ScopeKind.ACCOUNT, True),
        (ScopeKind.USER, False),
        (ScopeKind.RUN, False),
    ],
)
async def test_what_is_refused_for_now_waits_with_its_lane_or_alone(
    verdict: Begin, code: ErrorCode, kind: ScopeKind, whole_lane: bool
) -> None:
    stage = Stage(Answering())
    stage.ledger.answer = Begun(verdict=verdict, until=UNTIL, cause=11)  # type: ignore[attr-defined]
    stage.ledgers.names[11] = (kind, "acme")
    (waiting,) = stage.owned(1)
    await stage.through([waiting])
    assert stage.waits == [(waiting, UNTIL, whole_lane)]
    assert waiting.waits_for is not None
    assert waiting.waits_for[0] is code
    assert "acme" in waiting.waits_for[1]
    assert waiting.retry_after_s is not None
    assert waiting.retry_after_s > 0


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Begin.OVER_BUDGET, ErrorCode.BUDGET_EXCEEDED),
        (Begin.TOO_LARGE, ErrorCode.TOO_LARGE),
    ],
)
async def test_what_can_never_begin_is_rejected_and_told_why(
    verdict: Begin, code: ErrorCode
) -> None:
    stage = Stage(Answering())
    stage.ledger.answer = Begun(verdict=verdict, until=UNTIL, cause=-5)  # type: ignore[attr-defined]
    stage.ledgers.names[-5] = (ScopeKind.PROJECT, "acme/search")
    (refused,) = stage.owned(1)
    await stage.through([refused])
    assert stage.refused == [(refused, State.REJECTED, code)]
    assert "project acme/search" in stage.messages[0]


async def test_a_job_that_would_rather_wait_for_money_goes_back_until_there_is_some() -> None:
    stage = Stage(Answering())
    stage.ledger.answer = Begun(verdict=Begin.OVER_BUDGET, until=UNTIL, cause=-5)  # type: ignore[attr-defined]
    (patient,) = stage.owned(1)
    patient.job = replace(patient.job, facts=replace(patient.job.facts, wait_for_budget=True))
    await stage.through([patient])
    assert stage.deferred == [patient]
    assert stage.ledger.deferred == [(patient.job.row, UNTIL, 5, patient.worst_nano)]


async def test_a_job_dearer_than_it_may_be_is_not_begun() -> None:
    stage = Stage(MemoryLedger())
    (dear,) = stage.owned(1)
    dear.job = replace(dear.job, facts=replace(dear.job.facts, max_cost_nano=1))
    await stage.through([dear])
    assert stage.refused == [(dear, State.REJECTED, ErrorCode.BUDGET_EXCEEDED)]
    assert stage.ledger.begun == []


async def test_what_a_jobs_other_attempts_cost_counts_towards_its_most() -> None:
    stage = Stage(MemoryLedger())
    within, beyond = stage.owned(2)
    most = 10**9
    for one, spent in ((within, 0), (beyond, most)):
        one.job = replace(one.job, facts=replace(one.job.facts, max_cost_nano=most))
        one.spent_nano = spent
    await stage.through([within, beyond])
    assert stage.refused == [(beyond, State.REJECTED, ErrorCode.BUDGET_EXCEEDED)]


async def test_under_a_hard_budget_a_cost_without_a_bound_is_refused_and_an_answer_is_cut() -> None:
    stage = Stage(MemoryLedger())
    stage.ledgers.draw = Draw((11, 12), (7,), hard=True)
    remote = (
        b'{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://a/b.png"}}]}]}'
    )
    (image,) = stage.owned(1, body=remote)
    (plain,) = stage.owned(1)
    await stage.through([image, plain])
    assert stage.refused == [(image, State.REJECTED, ErrorCode.BUDGET_EXCEEDED)]
    assert "remote image" in stage.messages[0]
    assert [f for f, _ in stage.called] == [plain]
    assert plain.route is not None
    assert plain.route.target.default_max_tokens == DEFAULT_MAX_OUTPUT
    stage.ledgers.draw = Draw((11, 12))
    (free,) = stage.owned(1)
    await stage.through([free])
    assert free.route is not None
    assert free.route.target.default_max_tokens is None


async def test_policies_are_asked_again_before_the_call() -> None:
    await PERMITS.prepare(["acme", "strict"])
    stage = Stage(MemoryLedger())
    flights = stage.owned(3)
    for each, user in zip(flights, (None, "u_anna", "u_anna"), strict=True):
        facts = replace(each.job.facts, tenant="strict", user_id=user)
        each.job = replace(each.job, facts=facts)
    nobody, anna, dear = flights
    dear.job = replace(dear.job, body=b'{"messages":["' + b"x" * 2_000 + b'"]}')
    await stage.through(flights)
    assert stage.refused == [
        (nobody, State.REJECTED, ErrorCode.FORBIDDEN),
        (dear, State.REJECTED, ErrorCode.FORBIDDEN),
    ]
    assert nobody.rule is not None
    assert "deny" in nobody.rule
    assert "deny" not in stage.messages[0]
    assert [f for f, _ in stage.called] == [anna]
    assert anna.route is not None
    assert anna.route.target.default_max_tokens == 50
