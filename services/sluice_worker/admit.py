"""The step that makes records durable: verdicts become rows, a micro-batch at a time, before any offset is committed."""

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import structlog

from sluice_core.intake.model import DeadLetter, NewJob, Rejection
from sluice_core.jobs.model import Facts, Job, State
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.policy import Admission
from sluice_core.jobs.repository import JobRepository, is_poison
from sluice_core.jobs.writes import Admitted, DeadLetterEntry, Entry
from sluice_core.publishing.model import Origin
from sluice_core.publishing.policy import dead_letter_message
from sluice_core.publishing.repository import pack_headers
from sluice_core.publishing.service import Publisher
from sluice_core.settlement.model import Problem
from sluice_core.settlement.policy import result_value
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.base import UNALLOCATED
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_schemas.identity import id_by_record, rejection_event_id
from sluice_worker.flight import Flight

_log = structlog.stdlib.get_logger(__name__)


class Names:
    """Rows that names stand for, remembered; a new name costs one statement, once."""

    def __init__(self, names: NameRepository) -> None:
        self._names = names
        self._lanes: dict[tuple[JobClass, str, str, str, str], int] = {}
        self._runs: dict[tuple[str, str], int] = {}
        self._user_keys: dict[str, bytes] = {}
        self._users: dict[tuple[str, str], str] = {}

    async def lane(
        self, job_class: JobClass, pool: str, tenant: str, project: str, model: str
    ) -> int:
        """The lane's id."""
        key = (job_class, pool, tenant, project, model)
        found = self._lanes.get(key)
        if found is None:
            found = self._lanes[key] = await self._names.ensure_lane(*key)
        return found

    async def run(self, tenant: str, name: str) -> int:
        """The run's id."""
        key = (tenant, name)
        found = self._runs.get(key)
        if found is None:
            if len(self._runs) > 50_000:
                self._runs.clear()
            found = self._runs[key] = await self._names.ensure_run(tenant, name)
        return found

    async def pseudonym(self, tenant: str, user: str) -> str:
        """The user's pseudonym: HMAC-SHA256 under the tenant's key, 128 bits of it."""
        found = self._users.get((tenant, user))
        if found is None:
            if tenant not in self._user_keys:
                self._user_keys[tenant] = await self._names.pseudonym_key(tenant, os.urandom(32))
            digest = hmac.digest(self._user_keys[tenant], user.encode(), hashlib.sha256)
            found = "u_" + digest[:16].hex()
            await self._names.ensure_user(tenant, found, user)
            if len(self._users) > 50_000:
                self._users.clear()
            self._users[(tenant, user)] = found
        return found


@dataclass(frozen=True, slots=True)
class _Row:
    verdict: NewJob | Rejection
    entry: Entry


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
        starts_here: Callable[[JobClass, int], bool],
        parked: Callable[[int, JobClass], None],
        hold: Callable[[list[Flight]], None],
        cluster_id: str,
    ) -> None:
        self._jobs = jobs
        self._names = names
        self._publisher = publisher
        self._origin = origin
        self._pool_of = pool_of
        self._starts_here = starts_here
        self._parked = parked
        self._hold = hold
        self._cluster_id = cluster_id

    async def write(self, verdicts: Sequence[NewJob | Rejection | DeadLetter]) -> None:
        """Make every verdict durable. Raises what the database raises: then nothing may be committed."""
        letters = [v for v in verdicts if isinstance(v, DeadLetter)]
        letters += [
            DeadLetter(record=v.record, code=v.code, message=v.message)
            for v in verdicts
            if isinstance(v, Rejection) and v.dead_letter
        ]
        rows = [await self._row(v) for v in verdicts if not isinstance(v, DeadLetter)]
        dead = [self._dead_letter(letter) for letter in letters]
        while rows or dead:
            now, rows = _distinct(rows)
            again = await self._bisected(now, dead)
            dead = []
            rows = again + rows

    async def _bisected(self, rows: list[_Row], dead: list[DeadLetterEntry]) -> list[_Row]:
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
        self, rows: list[_Row], dead: list[DeadLetterEntry], error: Exception
    ) -> list[_Row]:
        if dead:
            raise error  # a dead letter's fields are bounded and free of NUL: this is no user's mistake
        (row,) = rows
        record = row.verdict.record
        _log.error(
            "admit.poison", topic=record.topic, partition=record.partition, offset=record.offset
        )
        letter = DeadLetter(
            record=record,
            code=ErrorCode.INVALID_RECORD,
            message="the ledger cannot store this record",
        )
        return await self._bisected([], [self._dead_letter(letter)])

    async def _take_up(self, rows: list[_Row], admitted: Admitted) -> list[_Row]:
        """Act on what the ledger made of the rows; returns those that have to be written again."""
        again: list[_Row] = []
        flights: list[Flight] = []
        now = time.time()
        for place, row in enumerate(rows):
            verdict = admitted.verdicts[place]
            if verdict is Admission.AGAIN:
                again.append(row)
            elif verdict is Admission.CONFLICT:
                assert isinstance(row.verdict, NewJob)
                again.append(await self._row(_conflict(row.verdict)))
            elif verdict in (Admission.ADMITTED, Admission.CANCELLED):
                if row.entry.state is State.REJECTED:
                    continue
                if row.entry.state is State.PARKED and verdict is Admission.ADMITTED:
                    self._parked(row.entry.lane, row.entry.facts.job_class)
                    continue
                flight = _flight(row, admitted, place, now)
                flight.cancelled = verdict is Admission.CANCELLED
                flights.append(flight)
        self._hold(flights)
        await self._publish(admitted.outbox)
        return again

    async def _publish(self, ids: Sequence[int]) -> None:
        try:
            await self._publisher.publish_rows(ids)
        except DATABASE_ERRORS as exc:
            _log.warning("events.left_to_sweeper", error=repr(exc))

    async def _row(self, verdict: NewJob | Rejection) -> _Row:
        model = verdict.model or ""
        lane = await self._names.lane(
            verdict.job_class,
            self._pool_of(model),
            verdict.tenant,
            verdict.project or UNALLOCATED,
            model,
        )
        run = verdict.run_id and await self._names.run(verdict.tenant, verdict.run_id)
        user = verdict.user and await self._names.pseudonym(verdict.tenant, verdict.user)
        if isinstance(verdict, Rejection):
            return _Row(verdict, _rejected(verdict, lane, run or None, user or None))
        starts = self._starts_here(verdict.job_class, lane)
        state = State.OWNED if starts else State.PARKED
        return _Row(verdict, _entry(verdict, lane, run or None, user or None, state))

    def _dead_letter(self, letter: DeadLetter) -> DeadLetterEntry:
        record = letter.record
        message = dead_letter_message(self._origin, letter)
        return DeadLetterEntry(
            # Of no tenant: where a record is bad, whose it is may be unknown.
            record_id=id_by_record(
                "",
                cluster_id=self._cluster_id,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                timestamp_ms=record.timestamp_ms,
            ),
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


def _distinct(rows: list[_Row]) -> tuple[list[_Row], list[_Row]]:
    """The first row of each identity, and the rest for a later statement, which then sees the first."""
    seen = set()
    now: list[_Row] = []
    later: list[_Row] = []
    for row in rows:
        (later if row.entry.id in seen else now).append(row)
        seen.add(row.entry.id)
    return now, later


def _conflict(job: NewJob) -> Rejection:
    return Rejection(
        record=job.record,
        record_id=job.record_id,
        tenant=job.tenant,
        job_class=job.job_class,
        code=ErrorCode.IDEMPOTENCY_CONFLICT,
        message=f"the {job.identity} was used before for another url or body",
        param="options.idempotency_key" if job.identity == "key" else None,
        requester=job.requester,
        model=job.model,
        run_id=job.run_id,
        team=job.team,
        project=job.project,
        app=job.app,
        user=job.user,
        key_id=job.key_id,
        tags=job.tags,
        url=job.url,
    )


def _entry(job: NewJob, lane: int, run: int | None, user_id: str | None, state: State) -> Entry:
    due = job.deadline
    if job.max_wait_s is not None:
        due = min(due, time.time() + job.max_wait_s)
    return Entry(
        id=job.id,
        record_id=job.record_id,
        body_hash=job.body_hash,
        lane=lane,
        state=state,
        max_attempts=job.max_attempts,
        retry_unknown=job.retry_unknown,
        streams=job.stream,
        rerun=job.rerun,
        due_at=due,
        deadline=job.deadline,
        run=run,
        facts=Facts(
            tenant=job.tenant,
            team=job.team,
            project=job.project,
            app=job.app,
            user_id=user_id,
            key_id=job.key_id,
            run_id=job.run_id,
            tags=job.tags,
            job_class=job.job_class,
            model=job.model,
            operation=job.operation,
            url=job.url,
            max_cost_nano=job.max_cost_nano,
            wait_for_budget=job.wait_for_budget,
            cache=job.cache,
            affinity=job.affinity,
            max_wait_s=job.max_wait_s,
            warnings=job.warnings,
        ),
        body=job.body,
        requester=job.requester.to_bytes(),
    )


def _rejected(rejection: Rejection, lane: int, run: int | None, user_id: str | None) -> Entry:
    """A rejection under the record's own id, with its result."""
    now = time.time()
    facts = Facts(
        tenant=rejection.tenant,
        team=rejection.team,
        project=rejection.project,
        app=rejection.app,
        user_id=user_id,
        key_id=rejection.key_id,
        run_id=rejection.run_id,
        tags=rejection.tags,
        job_class=rejection.job_class,
        model=rejection.model,
        url=rejection.url,
    )
    job = Job(
        row=0,
        id=rejection.record_id,
        day=datetime.fromtimestamp(now, UTC).date(),
        lane=lane,
        run=run,
        attempt=0,
        first_attempt=0,
        max_attempts=0,
        deaths=0,
        execution=1,
        retry_unknown=False,
        streams=False,
        cancel=False,
        due_at=now,
        deadline=now,
        admitted_at=now,
        facts=facts,
        body=b"",
        requester=rejection.requester.to_bytes(),
    )
    problem = Problem(code=rejection.code, message=rejection.message, param=rejection.param)
    return Entry(
        id=rejection.record_id,
        record_id=rejection.record_id,
        body_hash=b"",
        lane=lane,
        state=State.REJECTED,
        max_attempts=0,
        retry_unknown=False,
        streams=False,
        rerun=False,
        due_at=now,
        deadline=now,
        run=run,
        facts=facts,
        body=b"",
        requester=job.requester,
        ce_id=rejection_event_id(rejection.record_id),
        result=result_value(
            job,
            state=State.REJECTED,
            custom_id=rejection.requester.custom_id,
            now=now,
            report=None,
            problem=problem,
        ),
    )


def _flight(row: _Row, admitted: Admitted, place: int, now: float) -> Flight:
    """An admitted row in this worker's hands."""
    entry = row.entry
    made = admitted.attempts[place]
    number = admitted.rows[place]
    assert number is not None
    job = Job(
        row=number,
        id=entry.id,
        day=admitted.day,
        lane=entry.lane,
        run=entry.run,
        attempt=made,
        first_attempt=made,
        max_attempts=entry.max_attempts,
        deaths=0,
        execution=admitted.executions[place],
        retry_unknown=entry.retry_unknown,
        streams=entry.streams,
        cancel=False,
        due_at=entry.due_at,
        deadline=entry.deadline,
        admitted_at=now,
        facts=entry.facts,
        body=entry.body,
        requester=entry.requester,
    )
    return Flight(job=job, requester=row.verdict.requester, size=len(entry.body))
