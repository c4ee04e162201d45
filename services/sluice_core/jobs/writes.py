"""What goes into the hot statements and what comes back: one value a row of a micro-batch."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from sluice_core.jobs.model import Facts, Outcome, State
from sluice_core.jobs.policy import Admission, Begin, Settle
from sluice_core.usage.row import UsageRow
from sluice_platform.values import frozen_value
from sluice_schemas.classes import JobClass


@frozen_value
class Entry:
    """One record on its way into the ledger: a job, or a rejection with its result.

    `state` is what is asked for: PARKED, OWNED by the caller, or REJECTED. Times are epoch seconds.
    """

    id: UUID
    record_id: UUID
    body_hash: bytes
    lane: int
    state: State
    max_attempts: int
    retry_unknown: bool
    streams: bool
    rerun: bool
    due_at: float
    deadline: float
    run: int | None
    facts: Facts
    body: bytes
    requester: bytes
    ce_id: UUID | None = None
    result: bytes = b""


@frozen_value
class DeadLetterEntry:
    """A record that could not be a job: where it came from, and what goes to the dead letters."""

    record_id: UUID
    topic: str
    partition: int
    offset: int
    code: str
    message: str
    to_topic: str
    key: bytes | None
    headers: bytes
    value: bytes | None


@frozen_value
class Admitted:
    """Per entry what became of it: the verdict, and for admitted ones row, execution, attempts before."""

    verdicts: Sequence[Admission]
    rows: Sequence[int | None]
    executions: Sequence[int]
    attempts: Sequence[int]
    day: date
    outbox: Sequence[int]


@frozen_value
class Intent:
    """An attempt about to be made. In nano-dollars: `worst_nano` it may cost at most, `input_nano` is the input's part of it.

    `tokens` and `bound` are its input and output together, as expected and at most. `scopes` (its tenant's
    and its project's first) and `budgets` are what it draws on; the floors lift the virtual times of a
    tenant and a project that come newly. `route`: why this target was chosen, in a few words. `hedge`: the job is
    being called already, and this attempt goes beside that one, which is read on.
    """

    row: int
    day: date
    account: str
    provider_model: str
    worst_nano: int
    input_nano: int
    job_class: JobClass = JobClass.STANDARD
    tokens: int = 0
    bound: int = 0
    scopes: tuple[int, ...] = ()
    budgets: tuple[int, ...] = ()
    tenant_floor: float = 0.0
    project_floor: float = 0.0
    route: str | None = None
    hedge: bool = False


@frozen_value
class Begun:
    """What an intent was answered: the attempt's number, or until when to wait (epoch seconds) and for what.

    `cause` is the id of a scope, or minus that of a budget. `virtuals`: the times of tenant and project now.
    """

    verdict: Begin
    attempt: int = 0
    until: float = 0.0
    cause: int = 0
    virtuals: tuple[float, float] | None = None


@frozen_value
class Settlement:
    """One job's next state after an attempt, or without one (`outcome` None).

    `state` is terminal, RETRY_WAIT with `run_at` (epoch seconds), OWNED (its owner asks another target at once), or
    None: the job was answered before and only its attempt ends now. `result` and `ce_id` belong to a terminal state; `held_nano`
    is the money of an unknown outcome, `input_nano` the input's part of it. `pressure` and `cool_until` (epoch
    seconds) are what the answer says of its account's and target's load.
    """

    row: int
    id: UUID
    day: date
    attempt: int
    state: State | None
    outcome: Outcome | None
    run_at: float | None = None
    death: bool = False
    code: str | None = None
    status: int | None = None
    provider_request_id: str | None = None
    usage: UsageRow | None = None
    held_nano: int | None = None
    input_nano: int | None = None
    ce_id: UUID | None = None
    result: bytes | None = None
    pressure: float | None = None
    cool_until: float | None = None


@frozen_value
class Settled:
    """Per settlement its verdict; the outbox rows written as (id, kind, job row), and when."""

    verdicts: Sequence[Settle]
    events: Sequence[tuple[int, int, int]]
    recorded_at: float
