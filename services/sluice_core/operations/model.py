"""Jobs, attempts, runs and dead letters as operators see them."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sluice_core.jobs.model import State
from sluice_schemas.classes import JobClass

RETRYABLE: Final = frozenset({State.FAILED, State.EXPIRED, State.CANCELLED, State.REJECTED})
"""States after which a job may be executed again; of rejected ones only those that were admitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """The newest execution of a job. `row` and `day` are the ledger's own keys."""

    id: UUID
    row: int
    day: date
    state: State
    job_class: JobClass
    tenant: str
    project: str
    model: str
    run_id: str | None
    execution: int
    attempts: int
    admitted_at: datetime
    finished_at: datetime | None
    deadline: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSummary:
    """One provider call of a job; `outcome` is None while it is open. `worst_nano` in nano-dollars.

    `route`: why this target was chosen.
    """

    attempt: int
    account: str
    provider_model: str
    route: str | None
    outcome: str | None
    status: int | None
    code: str | None
    started_at: datetime
    ended_at: datetime | None
    worst_nano: int
    provider_request_id: str | None
    worker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail:
    """A job with its attempts and what was stored of it; `facts` are attribution and options."""

    summary: JobSummary
    attempts: tuple[AttemptSummary, ...]
    facts: dict[str, Any]
    request_bytes: int | None
    result_bytes: int | None
    reply_given_up_at: datetime | None
    deaths: int
    cancel: bool
    owner: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to list; None: all. `since` also asks for jobs that the archive took."""

    tenant: str | None = None
    state: State | None = None
    job_class: JobClass | None = None
    run_id: str | None = None
    since: datetime | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run's jobs by state, and what they have cost."""

    tenant: str
    run_id: str
    created_at: datetime
    completed_at: datetime | None
    jobs: int
    waiting: int
    running: int
    succeeded: int
    failed: int
    rejected: int
    expired: int
    cancelled: int
    unknown: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """All that admitting a job's next execution needs."""

    id: UUID
    state: State
    lane: int
    run: int | None
    run_cancelled: bool
    body_hash: bytes
    body: bytes
    facts: str
    requester: bytes
    max_attempts: int
    retry_unknown: bool
    streams: bool
    allowed_s: float


"""`allowed_s`: seconds from admission to the deadline that the earlier execution had."""
