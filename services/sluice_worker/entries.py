"""Verdicts of intake as rows of the ledger, and admitted rows as flights; pure but for the clock."""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sluice_core.intake.model import NewJob, Rejection, Requester
from sluice_core.jobs.model import Facts, Job, State
from sluice_core.jobs.writes import Admitted, Entry
from sluice_core.settlement.model import Problem
from sluice_core.settlement.policy import result_value
from sluice_schemas.errors import ErrorCode
from sluice_schemas.identity import rejection_event_id
from sluice_worker.flight import Flight

ADMISSION_S = 0.5
"""What admission itself may take: it is no wait for a slot, so `max_wait_s: 0` starts where one is free."""


@dataclass(slots=True)
class Row:
    """A verdict and the row it becomes."""

    verdict: NewJob | Rejection
    entry: Entry


def distinct(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The first row of each identity, and the rest for a later statement, which then sees the first."""
    seen = set()
    now: list[Row] = []
    later: list[Row] = []
    for row in rows:
        (later if row.entry.id in seen else now).append(row)
        seen.add(row.entry.id)
    return now, later


def refusal(job: NewJob, code: ErrorCode, message: str, *, param: str | None = None) -> Rejection:
    """What becomes of a job that the ledger does not take."""
    return Rejection(
        record=job.record,
        record_id=job.record_id,
        tenant=job.tenant,
        job_class=job.job_class,
        code=code,
        message=message,
        param=param,
        requester=_of_record(job),
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


def _of_record(job: NewJob) -> Requester:
    """Its requester, who is answered under the record's id: a correlation that is only the job's id is so too."""
    requester, own = job.requester, str(job.id).encode()
    if requester.correlation_id != own or any(value == own for _, value in job.record.headers):
        return requester
    return replace(requester, correlation_id=str(job.record_id).encode())


def conflict(job: NewJob) -> Rejection:
    """What becomes of a job whose identity stands for another request."""
    return refusal(
        job,
        ErrorCode.IDEMPOTENCY_CONFLICT,
        f"the {job.identity} was used before for another url or body",
        param="options.idempotency_key" if job.identity == "key" else None,
    )


def crowded(job: NewJob, waiting: int) -> Rejection:
    """What becomes of a job of a tenant that has too many waiting."""
    return refusal(
        job,
        ErrorCode.RATE_LIMITED,
        f"{waiting} {job.job_class.label} jobs of {job.tenant} wait already, which is its bound:"
        " send again when fewer wait, or have tenants.*.max_parked raised",
    )


def job_entry(job: NewJob, lane: int, run: int | None, user_id: str | None, state: State) -> Entry:
    """A job's row, asked for in `state`; its `max_wait_s` runs from now."""
    due = job.deadline
    if job.max_wait_s is not None:
        due = min(due, time.time() + job.max_wait_s + ADMISSION_S)
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


def rejection_entry(rejection: Rejection, lane: int, run: int | None, user_id: str | None) -> Entry:
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


def flight_of(
    entry: Entry, requester: Requester, admitted: Admitted, place: int, now: float
) -> Flight:
    """An admitted row in this worker's hands."""
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
    return Flight(job=job, requester=requester, size=len(entry.body))
