"""The step that makes records durable: verdicts become rows, a micro-batch at a time, before any offset is committed."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from uuid import UUID

import asyncpg
import structlog

from sluice_core.intake.model import DeadLetter, NewJob, Record, Rejection
from sluice_core.jobs.model import State
from sluice_core.jobs.policy import Admission
from sluice_core.jobs.repository import POISON, JobRepository, is_poison
from sluice_core.jobs.writes import Admitted, DeadLetterEntry
from sluice_core.policies.repository import DenialRepository
from sluice_core.publishing.model import Origin
from sluice_core.publishing.policy import dead_letter_message
from sluice_core.publishing.repository import pack_headers
from sluice_core.publishing.service import Publisher
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.base import UNALLOCATED
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_schemas.identity import id_by_record
from sluice_worker.crowds import Crowds
from sluice_worker.denials import denial_of, is_denial
from sluice_worker.entries import (
    Row,
    conflict,
    crowded,
    distinct,
    flight_of,
    job_entry,
    refusal,
    rejection_entry,
)
from sluice_worker.flight import Flight
from sluice_worker.names import Names

_log = structlog.stdlib.get_logger(__name__)


class AdmitStep:
    """Writes verdicts to the ledger and takes up the jobs that start with this worker."""

    def __init__(
        self,
        jobs: JobRepository,
        names: Names,
        publisher: Publisher,
        origin: Origin,
        *,
        pool_of: Callable[[str], str],
        room_here: Callable[[JobClass, str, int, str, str], int],
        parked: Callable[[int, JobClass, str], None],
        crowds: Crowds,
        known: Callable[[Iterable[UUID]], Awaitable[set[UUID]]],
        hold: Callable[[list[Flight]], None],
        cluster_id: str,
        denials: DenialRepository,
    ) -> None:
        self._jobs = jobs
        self._names = names
        self._publisher = publisher
        self._origin = origin
        self._pool_of = pool_of
        self._room_here = room_here
        self._parked = parked
        self._crowds = crowds
        self._known = known
        self._hold = hold
        self._cluster_id = cluster_id
        self._denials = denials

    async def write(self, verdicts: Sequence[NewJob | Rejection | DeadLetter]) -> None:
        """Make every verdict durable. Raises what the database raises: then nothing may be committed."""
        letters = [v for v in verdicts if isinstance(v, DeadLetter)]
        letters += [
            DeadLetter(record=v.record, code=v.code, message=v.message)
            for v in verdicts
            if isinstance(v, Rejection) and v.dead_letter
        ]
        taken: Counter[tuple[JobClass, str]] = Counter()
        rows = [await self._row(v, taken) for v in verdicts if not isinstance(v, DeadLetter)]
        rows = await self._uncrowded(rows)
        dead = [self._dead_letter(letter) for letter in letters]
        while rows or dead:
            now, rows = distinct(rows)
            again = await self._bisected(now, dead)
            dead = []
            rows = again + rows
        denied = [v for v in verdicts if isinstance(v, Rejection | DeadLetter) and is_denial(v)]
        if denied:
            await self._record_denials(denied)

    async def _record_denials(self, denied: Sequence[Rejection | DeadLetter]) -> None:
        """Record who was refused, once for each record however often it comes. What cannot be stored is logged."""
        entries = []
        for verdict in denied:
            if isinstance(verdict, DeadLetter):
                entries.append(denial_of(verdict, self._nobodys_id(verdict.record), None))
                continue
            user = verdict.user and await self._names.pseudonym(verdict.tenant, verdict.user)
            entries.append(denial_of(verdict, verdict.record_id, user or None))
        try:
            await self._denials.record(entries)
        except asyncpg.PostgresError as exc:
            if not (exc.sqlstate or "").startswith(POISON):
                raise
            # Also where the month's partition is missing: refusing goes on without its record.
            _log.error("denials.not_recorded", count=len(entries), error=str(exc))

    async def _bisected(self, rows: list[Row], dead: list[DeadLetterEntry]) -> list[Row]:
        """One statement; where a row in it cannot be stored, the batch is halved until that row is alone."""
        try:
            admitted = await self._jobs.admit([row.entry for row in rows], dead)
        except asyncpg.PostgresError as exc:
            if not is_poison(exc):
                raise
            if dead and rows:
                return await self._bisected([], dead) + await self._bisected(rows, [])
            if len(rows) > 1:
                middle = len(rows) // 2
                return await self._bisected(rows[:middle], []) + await self._bisected(
                    rows[middle:], []
                )
            if len(dead) > 1:
                middle = len(dead) // 2
                return await self._bisected([], dead[:middle]) + await self._bisected(
                    [], dead[middle:]
                )
            return await self._poison(rows, dead, exc)
        return await self._take_up(rows, admitted)

    async def _poison(
        self, rows: list[Row], dead: list[DeadLetterEntry], error: Exception
    ) -> list[Row]:
        if dead:
            raise error  # a dead letter's fields are bounded and free of NUL: this is no user's mistake
        (row,) = rows
        record = row.verdict.record
        _log.error(
            "admit.poison", topic=record.topic, partition=record.partition, offset=record.offset
        )
        code, message = ErrorCode.INVALID_RECORD, "the ledger cannot store this record"
        letter = DeadLetter(record=record, code=code, message=message)
        await self._bisected([], [self._dead_letter(letter)])
        if isinstance(row.verdict, Rejection):
            return []  # not even its refusal can be stored
        return [await self._row(refusal(row.verdict, code, message))]

    async def _take_up(self, rows: list[Row], admitted: Admitted) -> list[Row]:
        """Act on what the ledger made of the rows; returns those that have to be written again."""
        again: list[Row] = []
        flights: list[Flight] = []
        now = time.time()
        for place, row in enumerate(rows):
            verdict = admitted.verdicts[place]
            if verdict is Admission.AGAIN:
                again.append(row)
            elif verdict is Admission.CONFLICT:
                assert isinstance(row.verdict, NewJob)
                again.append(await self._row(conflict(row.verdict)))
            elif verdict in (Admission.ADMITTED, Admission.CANCELLED):
                if row.entry.state is State.REJECTED:
                    continue
                if row.entry.state is State.PARKED and verdict is Admission.ADMITTED:
                    facts = row.entry.facts
                    self._parked(row.entry.lane, facts.job_class, facts.tenant)
                    continue
                flight = flight_of(row.entry, row.verdict.requester, admitted, place, now)
                flight.cancelled = verdict is Admission.CANCELLED
                flights.append(flight)
        self._hold(flights)
        await self._publish(admitted.outbox)
        return again

    async def _uncrowded(self, rows: list[Row]) -> list[Row]:
        """Refuse new jobs of tenants of whom too many wait; a record that makes no new job is not refused."""
        beyond = {
            place: waiting
            for place, row in enumerate(rows)
            if row.entry.state is State.PARKED
            and (waiting := self._waiting_beyond(row)) is not None
        }
        if not beyond:
            return rows
        known = await self._known(rows[place].entry.id for place in beyond)
        for place, waiting in beyond.items():
            verdict = rows[place].verdict
            if isinstance(verdict, NewJob) and verdict.id not in known:
                rows[place] = await self._row(crowded(verdict, waiting))
        return rows

    def _waiting_beyond(self, row: Row) -> int | None:
        facts = row.entry.facts
        return self._crowds.beyond(facts.job_class, facts.tenant, row.verdict.record.topic)

    async def _publish(self, ids: Sequence[int]) -> None:
        try:
            await self._publisher.publish_rows(ids)
        except DATABASE_ERRORS as exc:
            _log.warning("events.left_to_sweeper", error=repr(exc))

    async def _row(
        self, verdict: NewJob | Rejection, taken: Counter[tuple[JobClass, str]] | None = None
    ) -> Row:
        """A verdict's row. `taken` counts the places here that this poll's jobs have taken."""
        model = verdict.model or ""
        pool = self._pool_of(model)
        lane = await self._names.lane(
            verdict.job_class,
            pool,
            verdict.tenant,
            verdict.project or UNALLOCATED,
            model,
        )
        run = verdict.run_id and await self._names.run(verdict.tenant, verdict.run_id)
        user = verdict.user and await self._names.pseudonym(verdict.tenant, verdict.user)
        if isinstance(verdict, Rejection):
            return Row(verdict, rejection_entry(verdict, lane, run or None, user or None))
        whose = (verdict.job_class, verdict.tenant)
        room = self._room_here(verdict.job_class, pool, lane, verdict.tenant, model)
        starts = room > (0 if taken is None else taken[whose])
        if starts and taken is not None:
            taken[whose] += 1
        state = State.OWNED if starts else State.PARKED
        return Row(verdict, job_entry(verdict, lane, run or None, user or None, state))

    def _dead_letter(self, letter: DeadLetter) -> DeadLetterEntry:
        record = letter.record
        message = dead_letter_message(self._origin, letter)
        return DeadLetterEntry(
            record_id=self._nobodys_id(record),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            code=letter.code,
            message=letter.message.replace("\x00", "")[:2048],
            to_topic=message.topic,
            key=message.key,
            headers=pack_headers(message.headers),
            value=message.value,
        )

    def _nobodys_id(self, record: Record) -> UUID:
        """A record's identity under no tenant: where a record is bad, whose it is may be unknown."""
        return id_by_record(
            "",
            cluster_id=self._cluster_id,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp_ms,
        )
