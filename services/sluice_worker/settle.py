"""The step after a call: one settlement per attempt, in micro-batches, then its events go out."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import asyncpg
import structlog

from sluice_core.caching.model import Answer
from sluice_core.jobs.model import Outcome, State
from sluice_core.jobs.policy import Settle
from sluice_core.jobs.repository import JobRepository, is_poison
from sluice_core.jobs.writes import Settled, Settlement
from sluice_core.publishing.model import Due, Origin, StoredResult
from sluice_core.publishing.policy import result_messages, usage_message
from sluice_core.publishing.repository import DUPLICATE, RESULT, USAGE, OutboxRepository
from sluice_core.publishing.service import Publisher
from sluice_core.settlement.last_resort import last_resort
from sluice_core.settlement.model import Problem, Report
from sluice_core.settlement.policy import cached, ending, reading_ended, retrying
from sluice_platform.batching import Batcher
from sluice_platform.crash import crash_point
from sluice_platform.db import DATABASE_ERRORS
from sluice_platform.ids import uuid7
from sluice_schemas.errors import ErrorCode
from sluice_worker.flight import Flight

CAP = 100
LINGER_S = 0.004
RETRY_S = 0.2
_FAILURES = frozenset({State.FAILED, State.UNKNOWN})
_FINAL = frozenset({State.SUCCEEDED, State.CANCELLED})

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Item:
    """A flight's settlement; `refused`: how often it could not be stored and was made plainer."""

    flight: Flight
    settlement: Settlement
    refused: int = 0


class SettleStep:
    """Settles flights and hands their events to the publisher. A lost connection is asked again, not guessed."""

    def __init__(
        self,
        jobs: JobRepository,
        outbox: OutboxRepository,
        publisher: Publisher,
        origin: Origin,
        *,
        released: Callable[[Flight], None],
        goes_on: Callable[[Flight], None],
        replay: Callable[[Flight, bytes], None],
    ) -> None:
        self._jobs = jobs
        self._outbox = outbox
        self._publisher = publisher
        self._origin = origin
        self._released = released
        self._goes_on = goes_on
        self._replay = replay
        self._prompt: Batcher[_Item] = Batcher(self._write, cap=CAP)
        self._patient: Batcher[_Item] = Batcher(self._write, cap=CAP, linger_s=LINGER_S)

    def __len__(self) -> int:
        """Settlements not yet durable."""
        return len(self._prompt) + len(self._patient)

    async def run_prompt(self) -> None:
        """Settle realtime flights."""
        await self._prompt.run()

    async def run_patient(self) -> None:
        """Settle the others."""
        await self._patient.run()

    def end(
        self,
        flight: Flight,
        state: State,
        *,
        report: Report | None,
        problem: Problem | None,
        instead: Report | None = None,
        read_on: bool = False,
    ) -> None:
        """End a job in a terminal state; one that was answered before, if not well enough, succeeds with that answer.

        `instead`: of another attempt, whose answer is the job's.
        """
        if flight.ticket is not None:
            flight.ticket.failed = state in _FAILURES
        if flight.kept is not None and not flight.deltas and state not in _FINAL:
            self._replay(flight, flight.kept.body or b"")
            instead, state = replace(flight.kept, deltas=flight.deltas), State.SUCCEEDED
        settlement = ending(
            flight.job,
            state=state,
            custom_id=flight.requester.custom_id,
            now=round(time.time(), 6),
            ce_id=uuid7(),
            usage_id=uuid7(),
            report=report,
            problem=problem,
            instead=instead,
            read_on=read_on,
        )
        self._add(flight, settlement)

    def repeat(self, flight: Flight, answer: Answer) -> None:
        """End a job with a stored answer."""
        settlement = cached(
            flight.job,
            answer,
            custom_id=flight.requester.custom_id,
            now=round(time.time(), 6),
            ce_id=uuid7(),
            usage_id=uuid7(),
            deltas=flight.deltas,
            mark="exact" if flight.ticket is None else flight.ticket.mark,
            arm=None if flight.ticket is None else flight.ticket.arm,
        )
        self._add(flight, settlement)

    def refuse(self, flight: Flight, state: State, code: ErrorCode, message: str) -> None:
        """End a job without a call."""
        self.end(flight, state, report=None, problem=Problem(code=code, message=message))

    def retry(self, flight: Flight, report: Report, *, run_at: float) -> None:
        """End an attempt; the job waits for its next one."""
        self._add(flight, retrying(flight.job, report, run_at=run_at, usage_id=uuid7()))

    def again(self, flight: Flight, report: Report) -> None:
        """End an attempt; the job stays this worker's and goes on to another target once that is durable."""
        unknown = report.money == "unknown"
        flight.spent_nano += report.worst_nano if unknown else report.priced.cost_nano
        self._add(flight, retrying(flight.job, report, run_at=None, usage_id=uuid7()))

    def read(self, flight: Flight, report: Report) -> None:
        """End the attempt of a job that was answered before, once that answer is durable."""
        if not flight.answer_durable:
            flight.late_report = report
            return
        self._add(flight, reading_ended(flight.job, report, usage_id=uuid7()))

    def _add(self, flight: Flight, settlement: Settlement) -> None:
        (self._prompt if flight.realtime else self._patient).add(_Item(flight, settlement))

    async def _write(self, items: list[_Item]) -> None:
        first = {item.settlement.row: item for item in reversed(items)}
        if len(first) < len(items):
            # Two attempts of one job: what comes back names the job alone.
            await self._write([item for item in items if first[item.settlement.row] is item])
            await self._write([item for item in items if first[item.settlement.row] is not item])
            return
        settled = await self._settle([item.settlement for item in items])
        if settled is None:
            await self._one_by_one(items)
            return
        crash_point("after_settle")
        await self._events(items, settled)
        for item, verdict in zip(items, settled.verdicts, strict=True):
            if verdict is Settle.FENCED:
                _log.warning("settle.fenced", job_id=str(item.flight.id))
            self._let_go(item, verdict)

    def _let_go(self, item: _Item, verdict: Settle) -> None:
        flight = item.flight
        if item.settlement.state is State.OWNED and verdict is not Settle.FENCED:
            self._goes_on(flight)
            return
        if item.settlement.outcome is not Outcome.READ_ON:
            self._released(flight)
            return
        flight.answer_durable = True
        if flight.late_report is not None:
            self.read(flight, flight.late_report)

    async def _settle(self, settlements: list[Settlement]) -> Settled | None:
        """None: one of them cannot be stored, and the batch has to be split."""
        failing = False
        while True:
            try:
                return await self._jobs.settle(settlements)
            except asyncpg.PostgresError as exc:
                if is_poison(exc):
                    return None
                error: Exception = exc
            except DATABASE_ERRORS as exc:
                error = exc
            if not failing:
                _log.warning("settle.again", jobs=len(settlements), error=repr(error))
            failing = True
            await asyncio.sleep(RETRY_S)

    async def _one_by_one(self, items: list[_Item]) -> None:
        """Bisect a batch in which one settlement cannot be stored; that one ends as `internal`.

        First without the answer, then, where that is refused as well, with hardly more than numbers.
        """
        if len(items) > 1:
            middle = len(items) // 2
            await self._write(items[:middle])
            await self._write(items[middle:])
            return
        (item,) = items
        _log.error("settle.poison", job_id=str(item.flight.id), refused=item.refused + 1)
        if item.refused >= len(_PLAINER):
            # Its row stays as it is until this worker ends; then the keeper judges it.
            _log.error("settle.left_to_keeper", job_id=str(item.flight.id))
            self._released(item.flight)
            return
        plainer = _PLAINER[item.refused](item)
        await self._write([_Item(item.flight, plainer, item.refused + 1)])

    async def _events(self, items: list[_Item], settled: Settled) -> None:
        by_row = {
            item.settlement.row: item
            for item, verdict in zip(items, settled.verdicts, strict=True)
            if verdict is Settle.SETTLED
        }
        from_ledger: list[int] = []
        for outbox_id, kind, row in settled.events:
            item = by_row.get(row)
            if item is None or kind == DUPLICATE:
                from_ledger.append(outbox_id)
            elif kind == RESULT:
                self._publisher.publish(self._result(outbox_id, item, settled.recorded_at))
            elif kind == USAGE:
                self._publisher.publish(self._usage(outbox_id, item, settled.recorded_at))
        before = [
            item.settlement.row
            for item, verdict in zip(items, settled.verdicts, strict=True)
            if verdict is Settle.MINE_BEFORE
        ]
        try:
            if before:
                from_ledger += await self._outbox.of_jobs(self._jobs.incarnation, before)
            await self._publisher.publish_rows(from_ledger)
        except DATABASE_ERRORS as exc:
            _log.warning("events.left_to_sweeper", error=repr(exc))

    def _result(self, outbox_id: int, item: _Item, recorded_at: float) -> Due:
        settlement, flight = item.settlement, item.flight
        assert settlement.ce_id is not None
        assert settlement.result is not None
        stored = StoredResult(
            job_id=flight.id,
            tenant=flight.job.facts.tenant,
            ce_id=settlement.ce_id,
            finished_at=recorded_at,
            value=settlement.result,
        )
        messages = result_messages(self._origin, stored, flight.requester)
        return Due(id=outbox_id, job=settlement.row, messages=tuple(messages))

    def _usage(self, outbox_id: int, item: _Item, recorded_at: float) -> Due:
        usage = item.settlement.usage
        assert usage is not None
        message = usage_message(
            self._origin,
            usage_id=usage.usage_id,
            job_id=usage.job_id,
            recorded_at=recorded_at,
            value=usage.to_event(recorded_at),
        )
        return Due(id=outbox_id, messages=(message,))


def _unstorable(item: _Item) -> Settlement:
    """The same end without what a provider can put in that the ledger cannot store.

    The answer and the provider's own id go; tokens, cost and held money stay what they were. An attempt whose
    job was answered before ends as it would have.
    """
    settlement, usage = item.settlement, item.settlement.usage
    if usage is not None:
        usage = replace(usage, provider_request_id=None, tags="{}", meters="[]")
    bare = replace(
        settlement,
        code=ErrorCode.INTERNAL,
        provider_request_id=None,
        usage=usage,
        pressure=None,
        cool_until=None,
    )
    if settlement.state is None or not settlement.state.terminal:
        return bare
    plain = ending(
        item.flight.job,
        state=State.FAILED,
        custom_id=item.flight.requester.custom_id,
        now=round(time.time(), 6),
        ce_id=uuid7(),
        problem=Problem(code=ErrorCode.INTERNAL, message="the answer could not be stored"),
    )
    return replace(bare, state=State.FAILED, ce_id=plain.ce_id, result=plain.result)


def _bare(item: _Item) -> Settlement:
    return last_resort(
        item.settlement,
        item.flight.job,
        custom_id=item.flight.requester.custom_id,
        now=round(time.time(), 6),
        ce_id=uuid7(),
    )


_PLAINER = (_unstorable, _bare)
"""What a settlement that cannot be stored becomes, one after the other."""
