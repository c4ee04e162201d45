"""Where a flight goes from each step: from one to the next, back to the queue or the ledger, or to its end."""

import time

import structlog

from sluice_core.caching.model import Answer
from sluice_core.holds.service import HeldNow
from sluice_core.jobs.model import State
from sluice_core.jobs.writes import Begun
from sluice_core.settlement.model import Report
from sluice_core.settlement.policy import answer_of
from sluice_core.settlement.waiting import not_begun, wait_for
from sluice_schemas.errors import ErrorCode
from sluice_worker.begin import BeginStep
from sluice_worker.cache import CacheStep
from sluice_worker.call import CallStep
from sluice_worker.denials import DenialLog
from sluice_worker.dispatch import Dispatcher
from sluice_worker.escalate import Escalation
from sluice_worker.flight import Flight
from sluice_worker.holdings import Holdings
from sluice_worker.readiness import Readiness
from sluice_worker.reasons import Reasons
from sluice_worker.returns import ReturnStep
from sluice_worker.settle import SettleStep
from sluice_worker.stream import Deltas

_log = structlog.stdlib.get_logger(__name__)
_FREED_BY_ANY_END = frozenset({ErrorCode.CONCURRENCY_EXCEEDED, ErrorCode.BUDGET_BUSY})
"""Waits that end when another call does: then they need not wait for the time they were told."""


class Handover:
    """Hands flights from step to step; the worker that puts the steps together sets them. Nothing here decides anything."""

    dispatcher: Dispatcher
    begin: BeginStep
    calls: CallStep
    settle: SettleStep
    cache: CacheStep
    holdings: Holdings
    denials: DenialLog
    _deltas: Deltas
    _escalation: Escalation
    _held: HeldNow
    _readiness: Readiness
    _reasons: Reasons
    _returns: ReturnStep

    def __init__(self) -> None:
        self._crowded: dict[int, None] = {}

    def _hold(self, flights: list[Flight]) -> None:
        for flight in flights:
            self.holdings.add(flight)
        self.dispatcher.add(flights)

    def _cancel(self, flight: Flight) -> None:
        flight.cancelled = True
        if flight.task is not None:
            self.calls.end_early(flight, State.CANCELLED)
        elif self.dispatcher.take_out(flight):
            self._expired(flight)
        else:
            self.cache.let_go(flight)  # `begin` ends it

    def _expired(self, flight: Flight) -> None:
        """A waiting flight ends without a call: cancelled, past its deadline, or past max_wait_s."""
        state, problem = not_begun(
            flight.job,
            now=time.time(),
            cancelled=flight.cancelled,
            held=self._held.job(flight.job.facts),
            waits_for=flight.waits_for or wait_for(self._reasons.why(flight.job.lane)),
            retry_after_s=flight.retry_after_s,
        )
        self.settle.end(flight, state, report=None, problem=problem)

    def _begun(self, flight: Flight, begun: Begun) -> None:
        tenant_vt, project_vt = begun.virtuals or (None, None)
        self.dispatcher.learn(flight, tenant_vt=tenant_vt, project_vt=project_vt)
        if not self.calls.start(flight, begun.attempt):
            self.dispatcher.finished(flight)

    def _waits(self, flight: Flight, until: float, whole_lane: bool) -> None:
        if flight.hedges:
            self._no_hedge(flight)
            return
        if flight.kept is not None or flight.told is not None:
            self.dispatcher.finished(flight)
            self._settle_for_less(flight)
            return
        same = self.cache.waits(flight)
        # Its lane is blocked before its slot is free: else the next of the lane would take it.
        self.dispatcher.put_back(flight, until=until, whole_lane=whole_lane)
        self.dispatcher.finished(flight)
        for other in same:
            # Who waits for its answer would keep a slot as long as it waits for its turn.
            if whole_lane and other.job.lane == flight.job.lane:
                other.waits_for, other.retry_after_s = flight.waits_for, flight.retry_after_s
                self.dispatcher.put_back(other, until=until, whole_lane=True)
                self.dispatcher.finished(other)
            else:
                self.begin.add(other)
        if whole_lane and flight.waits_for is not None and flight.waits_for[0] in _FREED_BY_ANY_END:
            self._crowded[flight.job.lane] = None

    def _answered_in(self, seconds: float, waited_s: float) -> None:
        self.dispatcher.answered_in(seconds, waited_s)

    def _repeatable(self, flight: Flight, report: Report) -> None:
        try:
            self.cache.answered(flight, answer_of(report))
        except Exception:  # noqa: BLE001 - the call is settled; what fails here is no second end of it
            _log.exception("cache.not_answered", job_id=str(flight.id))

    def _gave_up(self, flight: Flight) -> None:
        self.cache.gave_up(flight)

    def _repeated(self, flight: Flight, answer: Answer) -> None:
        """A stored answer is a job's: its stream, if it has one, then its result; no call, no attempt."""
        self._replay(flight, answer.body)
        self.dispatcher.finished(flight)
        self.settle.repeat(flight, answer)

    def _replay(self, flight: Flight, body: bytes) -> None:
        try:
            self._deltas.replay(flight, body)
        except Exception:  # noqa: BLE001 - one answer that is no stream keeps nobody from its result
            _log.exception("stream.not_replayed", job_id=str(flight.id))

    def _asks(self, flight: Flight) -> None:
        self.begin.add(flight)

    def _runs_errand(self, flight: Flight) -> None:
        self.holdings.add(flight)
        self.dispatcher.resume(flight)
        self.begin.add(flight)

    def _gone(self, flight: Flight) -> None:
        if flight.told is not None:
            flight.told(None)
        self._escalation.let_go(flight)
        self.cache.gave_up(flight)
        self.dispatcher.finished(flight)
        self.holdings.remove(flight)

    def _return(self, flights: list[Flight]) -> None:
        for flight in flights:
            self.cache.gave_up(flight)
        self._returns.add(flights)

    def _refused_at_begin(
        self, flight: Flight, state: State, code: ErrorCode, message: str
    ) -> None:
        if flight.hedges:
            self._no_hedge(flight)
            return
        self.denials.note(flight.job, code, flight.rule)
        self.dispatcher.finished(flight)
        self.settle.refuse(flight, state, code, message)

    def _lost(self, flight: Flight) -> None:
        if flight.hedges:
            self._no_hedge(flight)
            return
        _log.warning("begin.fenced", job_id=str(flight.id))
        self._gone(flight)

    def _hedges(self, second: Flight) -> None:
        """A second attempt begins beside one that is slow, if anything may begin here."""
        self.dispatcher.resume(second)
        if self._readiness.stopping or not self._readiness.trusted():
            self._no_hedge(second)
        else:
            self.begin.add(second)

    def _no_hedge(self, second: Flight) -> None:
        self.dispatcher.finished(second)
        self.calls.hedges.not_begun(second)

    def _goes_on(self, flight: Flight) -> None:
        """A call failed whose job another target may take: at once, unless this worker starts nothing now."""
        flight.task = None  # it is over: a cancel finds the job among those that wait
        if self._readiness.stopping or not self._readiness.trusted():
            if flight.kept is not None or flight.told is not None:
                self._settle_for_less(flight)
            else:
                self.dispatcher.add([flight])
            return
        self.dispatcher.resume(flight)
        self.begin.add(flight)

    def _settle_for_less(self, flight: Flight) -> None:
        """No better target can be asked now: the answer that there is goes out."""
        message = "no better target could be asked"
        self.settle.refuse(flight, State.REJECTED, ErrorCode.PROVIDER_UNAVAILABLE, message)

    def _call_ended(self, flight: Flight) -> None:
        self.dispatcher.finished(flight)

    def _released(self, flight: Flight) -> None:
        """What a flight had drawn is free again: of the lanes that wait for such, one asks at once."""
        if flight.told is not None:
            flight.told(None)
        self.dispatcher.turns.booked(flight)
        self._escalation.let_go(flight)
        self.cache.gave_up(flight)
        self.holdings.remove(flight)
        if self._crowded:
            lane = next(iter(self._crowded))
            del self._crowded[lane]
            self.dispatcher.unblock(lane)
