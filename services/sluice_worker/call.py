"""The step that calls the provider and decides what its answer means for the job."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import cast

import structlog

from sluice_core.jobs.fates import BACKOFF_CAP_S, Retry, next_step
from sluice_core.jobs.model import Outcome, State
from sluice_core.routing.health import failure_class
from sluice_core.routing.retries import RetryBudget
from sluice_core.settlement.model import Problem, Report
from sluice_platform.crash import crash_point
from sluice_providers.calls import OnChunks, call, uncalled
from sluice_providers.credentials import NoSecretError
from sluice_providers.http import Transport
from sluice_providers.port import Answer, Call
from sluice_schemas.errors import ErrorCode
from sluice_schemas.jobs import Operation
from sluice_worker.escalate import Escalation
from sluice_worker.flight import Flight
from sluice_worker.hedge import READ_ON_S, End, Hedging
from sluice_worker.load import Load
from sluice_worker.reports import answered, bare, defect, failed, fate_of, moment, read_on
from sluice_worker.route import Router
from sluice_worker.settle import SettleStep
from sluice_worker.stream import Deltas

LAST_TRY_S = 5.0
"""What is left of a job's time, at least, for a retry that had to wait for its account's share of retries."""

_log = structlog.stdlib.get_logger(__name__)

_STATES = {
    "failed": State.FAILED,
    "rejected": State.REJECTED,
    "expired": State.EXPIRED,
    "cancelled": State.CANCELLED,
    "unknown": State.UNKNOWN,
}


class CallStep:
    """Calls providers; one task per flight, none outlives its answer."""

    def __init__(
        self,
        transport: Transport,
        settle: SettleStep,
        deltas: Deltas,
        *,
        answer_bytes: int,
        finished: Callable[[Flight], None],
        load: Load,
        router: Router,
        escalation: Escalation,
        repeatable: Callable[[Flight, Report], None],
        gave_up: Callable[[Flight], None],
        hedge: Callable[[Flight], None],
        hold: Callable[[Flight], None],
    ) -> None:
        self._transport = transport
        self._settle = settle
        self._deltas = deltas
        self._answer_bytes = answer_bytes
        self._finished = finished
        self._load = load
        self._router = router
        self._escalation = escalation
        self.repeatable = repeatable
        self._gave_up = gave_up
        self.hedges = Hedging(router, settle, self, begin=hedge, hold=hold)
        self._retries: dict[str, RetryBudget] = {}
        self.flights: set[Flight] = set()

    def start(self, flight: Flight, attempt: int) -> bool:
        """Call the provider for an attempt that is durable; False where nobody waits for it any more."""
        assert flight.route is not None
        if attempt == flight.job.first_attempt + 1:
            account = flight.route.target.account
            self._retries.setdefault(account, RetryBudget()).called()
        flight.job = flight.job.begun(attempt)
        flight.started_at = moment()
        flight.deltas = 0
        flight.falls_short = None
        if flight.race is not None and not self.hedges.begun(flight):
            return False
        self.flights.add(flight)
        flight.task = asyncio.create_task(self._run(flight))
        if flight.route.hedge is not None:
            self.hedges.called(flight)
        return True

    def end_early(self, flight: Flight, state: State) -> None:
        """Answer the requester now (CANCELLED or EXPIRED); the provider is read on, bounded.

        A call that is over has its settlement on the way: a second one beside it would be one too many. A cancel's
        flag stays in the ledger, for whoever holds the job next.
        """
        if flight.answered or flight.task is None or flight not in self.flights:
            return
        code, message = (
            (ErrorCode.CANCELLED, "cancelled while the provider was being called")
            if state is State.CANCELLED
            else (ErrorCode.DEADLINE_EXCEEDED, "the deadline passed during the call")
        )
        problem = Problem(code=code, message=message)
        # Who waits for the same answer has more time than this one had.
        race = flight.race
        for one in (flight,) if race is None else (race.first, race.second):
            self._gave_up(one)
        if flight.race is not None:
            self.hedges.end_early(flight.race, state, problem)
        else:
            self.give_early(flight, state, problem)

    def give_early(self, flight: Flight, state: State, problem: Problem) -> None:
        """Answer the requester of a job with one attempt, which is read on if it is still under way."""
        flight.answered = True
        report = bare(flight, outcome=Outcome.READ_ON, money="unknown", now=moment())
        self._settle.end(flight, state, report=report, problem=problem, read_on=True)
        if flight.task is not None:
            asyncio.get_running_loop().call_later(READ_ON_S, flight.task.cancel)

    async def _run(self, flight: Flight) -> None:
        answer: Answer | None = None
        sent = False
        try:
            assert flight.route is not None
            flight.secret = ""
            credentials = flight.route.credentials
            flight.secret = credentials.take(flight.started_at) or await credentials.first()
            made, on_chunks = self._prepare(flight)
            sent = True  # from here on, `call` knows better and says it in its answer
            answer = await call(made, transport=self._transport, on_chunks=on_chunks)
            if flight.route.check is not None:
                flight.falls_short = await self._escalation.shortcoming(flight, answer)
        except NoSecretError as exc:
            answer = uncalled(exc.kind, str(exc))
        except asyncio.CancelledError:
            if not flight.answered:
                raise  # the process ends: the ledger's lease says the rest
        except Exception:  # noqa: BLE001 - whatever it is, the job must not hang
            # A defect of ours. Once the request may have left, what the provider did is not known.
            _log.exception("call.defect", job_id=str(flight.id))
        finally:
            self._leave(flight)
        crash_point("after_call")
        try:
            self._learn(flight, answer)
            self._at_its_tier(flight, answer)
            if flight.answered:
                self._settle.read(flight, read_on(flight, answer))
            elif flight.race is not None:
                self.hedges.ended(flight, End(answer, sent))
            else:
                self.finish(flight, End(answer, sent))
        except Exception:  # noqa: BLE001 - as above
            _log.exception("call.defect", job_id=str(flight.id))
            self._give_up(flight, sent=answer is None or answer.sent)

    def finish(self, flight: Flight, end: End) -> None:
        """End the job's own attempt, and the job as that says."""
        if end.answer is None:
            self._give_up(flight, sent=end.sent)
        else:
            self._conclude(flight, end.answer)

    @staticmethod
    def end_of(flight: Flight, end: End) -> State:  # noqa: ARG004
        """In which state a job ends whose attempt failed for good."""
        if end.answer is None:
            return State.UNKNOWN if end.sent else State.FAILED
        return _STATES[fate_of(end.answer).state]

    def _at_its_tier(self, flight: Flight, answer: Answer | None) -> None:
        """A provider may serve a call at another service tier than was asked for, and bills that one."""
        if answer is not None and answer.tier is not None and flight.route is not None:
            name = flight.job.facts.model or ""
            flight.route = self._router.served_at(name, flight.route, answer.tier, time.time())

    def _learn(self, flight: Flight, answer: Answer | None) -> None:
        """What the answer says of load; where nothing can be learned from it, it is an answer all the same."""
        try:
            if answer is None:
                self._load.lost(flight)
            else:
                self._load.learn(flight, answer)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("call.not_learned", job_id=str(flight.id))

    def _leave(self, flight: Flight) -> None:
        self.flights.discard(flight)
        if flight.timer is not None:
            flight.timer.cancel()
        if flight.flush is not None:
            flight.flush()
        self._finished(flight)

    def _give_up(self, flight: Flight, *, sent: bool) -> None:
        """End a flight that our own code failed on."""
        report = defect(flight, sent=sent)
        state = State.UNKNOWN if sent else State.FAILED
        self._settle.end(flight, state, report=report, problem=report.problem)

    def _prepare(self, flight: Flight) -> tuple[Call, OnChunks | None]:
        """The call and where its chunks go; its deadline's timer runs from here on."""
        job, route = flight.job, flight.route
        assert route is not None
        left = job.deadline - moment()
        if left < route.target.total_timeout_s:
            flight.timer = asyncio.get_running_loop().call_later(
                max(0.0, left), self.end_early, flight, State.EXPIRED
            )
        made = Call(
            job_id=job.id,
            attempt=job.attempt,
            operation=cast("Operation", job.facts.operation),
            body=job.body,
            stream=job.streams,
            target=route.target,
            deadline=min(left, route.target.total_timeout_s) + READ_ON_S,
            answer_bytes_limit=self._answer_bytes,
            api_key=flight.secret,
            traceparent=flight.requester.traceparent,
        )
        # Nothing goes out of an answer that may not pass its check; if it does, all of it goes then.
        if route.check is not None:
            return made, None
        return made, self.hedges.listens(flight, self._deltas.channel(flight))

    def _conclude(self, flight: Flight, answer: Answer) -> None:
        now = moment()
        if answer.failure is None:
            self._succeeded(flight, answer, now)
            return
        what = fate_of(answer)
        report = failed(flight, answer, what, now)
        if self._other_secret(flight, now) or self._falls_back(flight, answer, now):
            self._settle.again(flight, report)
            return
        step = next_step(
            what,
            attempt=flight.job.attempts_made,
            max_attempts=flight.job.max_attempts,
            now=now,
            deadline=flight.job.deadline,
            retry_after_s=answer.retry_after_s,
            jitter=random.random(),
            retry_unknown=flight.job.retry_unknown and not flight.deltas,
        )
        if not isinstance(step, Retry):
            self._settle.end(flight, _STATES[step.state], report=report, problem=report.problem)
        elif flight.kept is not None:
            # There is an answer, if not the best: it waits for no retry.
            self._settle.end(flight, State.FAILED, report=report, problem=report.problem)
        else:
            run_at = self._within_budget(flight, step.run_at, now)
            self._settle.retry(flight, report, run_at=run_at)

    def _succeeded(self, flight: Flight, answer: Answer, now: float) -> None:
        assert flight.route is not None
        if flight.falls_short is not None and now < flight.job.deadline:
            report = answered(flight, answer, outcome=Outcome.SUCCEEDED, now=now)
            report = self._escalation.goes_up(flight, report, flight.falls_short)
            self._settle.again(flight, report)
            return
        if flight.route.check is not None:
            self._deltas.replay(flight, answer.body or b"")
        report = answered(flight, answer, outcome=Outcome.SUCCEEDED, now=now)
        self._settle.end(flight, State.SUCCEEDED, report=report, problem=None)
        if flight.told is not None:
            flight.told(answer.body)
        if flight.ticket is not None and flight.ticket.asks:
            self.repeatable(flight, report)

    @staticmethod
    def _other_secret(flight: Flight, now: float) -> bool:
        """Whether the same target is asked at once with another key, since the last one was at fault."""
        job = flight.job
        may = not flight.deltas and job.attempts_made < job.max_attempts
        return flight.spared and may and now < job.deadline

    def _falls_back(self, flight: Flight, answer: Answer, now: float) -> bool:
        """Whether another target is asked at once: never after the first delta has gone out."""
        job, route = flight.job, flight.route
        assert route is not None
        assert answer.failure is not None
        if flight.deltas or job.attempts_made >= job.max_attempts or now >= job.deadline:
            return False
        failure = failure_class(answer.failure, answer.status, retry_unknown=job.retry_unknown)
        tried = flight.tried | {route.name}
        if failure is None or not self._router.alternative(job, failure, tried, flight.level, now):
            return False
        flight.tried, flight.fell_back = tried, failure
        return True

    def _within_budget(self, flight: Flight, run_at: float, now: float) -> float:
        """When a retry may go: one that its account's share of retries has no place for waits long."""
        assert flight.route is not None
        budget = self._retries.setdefault(flight.route.target.account, RetryBudget())
        if budget.allows(now):
            return run_at
        later = now + BACKOFF_CAP_S * (0.5 + random.random() / 2)
        return min(max(run_at, later), max(run_at, flight.job.deadline - LAST_TRY_S))
