"""A job as the ledger knows it: states, attribution, and the row a process holds while it owns the job."""

from collections.abc import Mapping
from dataclasses import field, fields
from datetime import date
from enum import IntEnum
from functools import cached_property
from operator import attrgetter
from uuid import UUID

import orjson

from sluice_platform.values import frozen_value
from sluice_schemas.classes import JobClass


class State(IntEnum):
    """Where a job is; the numbers are those of `sluice.jobs.state`.

    parked → owned → calling → a terminal state; calling → retry_wait → owned; calling → owned, where another
    target is asked at once. Terminal is 10 and above.
    """

    PARKED = 1
    OWNED = 2
    CALLING = 3
    RETRY_WAIT = 4
    SUCCEEDED = 10
    FAILED = 11
    REJECTED = 12
    EXPIRED = 13
    CANCELLED = 14
    UNKNOWN = 15

    @property
    def terminal(self) -> bool:
        """Whether the job is over."""
        return self >= State.SUCCEEDED

    @cached_property
    def label(self) -> str:
        """The public name."""
        return self.name.lower()


class Outcome(IntEnum):
    """How one attempt ended; the numbers are those of `sluice.attempts.outcome`.

    READ_ON: the job was answered (cancelled, expired) and the provider is read on for its usage.
    """

    READ_ON = 0
    SUCCEEDED = 1
    FAILED = 2
    CANCELLED = 3
    EXPIRED = 4
    UNKNOWN = 5

    @cached_property
    def label(self) -> str:
        """The name in `finance.usage.outcome`."""
        return self.name.lower()


@frozen_value
class Facts:
    """What a job carries besides its body: attribution and options. `user_id` is the pseudonym."""

    tenant: str
    team: str | None = None
    project: str = "unallocated"
    app: str | None = None
    user_id: str | None = None
    key_id: str | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    job_class: JobClass = JobClass.STANDARD
    model: str | None = None
    operation: str = "chat"
    url: str | None = None
    max_cost_nano: int | None = None
    wait_for_budget: bool = False
    cache: str | None = None
    affinity: str | None = None
    max_wait_s: float | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Write it as one line of JSON; fields at their default are left out."""
        values = zip(_FACTS, _facts_of(self), strict=True)
        # Of what is false, zero alone is a value: a job may cost nothing at most.
        return orjson.dumps(
            {name: value for name, value in values if value or (value == 0 and value is not False)}
        ).decode()

    @classmethod
    def from_json(cls, text: str) -> "Facts":
        """Read what `to_json` wrote."""
        values = orjson.loads(text)
        values["job_class"] = JobClass(values.get("job_class", 0))
        values["warnings"] = tuple(values.get("warnings", ()))
        return cls(**values)


_FACTS = tuple(fact.name for fact in fields(Facts))
_facts_of = attrgetter(*_FACTS)


@frozen_value
class Job:
    """One execution of a job, as its owner holds it.

    `row` is the ledger's inner key and `day` the partition of its payloads. Times are epoch seconds;
    `due_at` is the earlier of the deadline and the end of `max_wait_s`. `attempt` is the last one
    begun, `first_attempt` how many earlier executions made. `requester` is serialised. `waits_for` is the code
    of what its lane waited for when it was claimed for its end.
    """

    row: int
    id: UUID
    day: date
    lane: int
    run: int | None
    attempt: int
    first_attempt: int
    max_attempts: int
    deaths: int
    execution: int
    retry_unknown: bool
    streams: bool
    cancel: bool
    due_at: float
    deadline: float
    admitted_at: float
    facts: Facts
    body: bytes
    requester: bytes
    waits_for: str | None = None

    @property
    def attempts_made(self) -> int:
        """Attempts of this execution so far."""
        return self.attempt - self.first_attempt

    def begun(self, attempt: int) -> "Job":
        """The same with another attempt begun; once a call, and `replace` takes three times as long."""
        return Job(
            row=self.row,
            id=self.id,
            day=self.day,
            lane=self.lane,
            run=self.run,
            attempt=attempt,
            first_attempt=self.first_attempt,
            max_attempts=self.max_attempts,
            deaths=self.deaths,
            execution=self.execution,
            retry_unknown=self.retry_unknown,
            streams=self.streams,
            cancel=self.cancel,
            due_at=self.due_at,
            deadline=self.deadline,
            admitted_at=self.admitted_at,
            facts=self.facts,
            body=self.body,
            requester=self.requester,
        )


@frozen_value
class Lane:
    """Where jobs wait: one combination that dispatch tells apart."""

    id: int
    job_class: JobClass
    pool: str
    tenant: str
    project: str
    model: str


@frozen_value
class Abandoned:
    """A job whose owner died, with the attempt it left open (None: it had not begun one); its body stays behind."""

    job: Job
    state: State
    owner: int
    open_attempt: "OpenAttempt | None"


@frozen_value
class OpenAttempt:
    """A provider call that is durable and not settled; `worst_nano` in nano-dollars, `input_nano` the input's part of it."""

    account: str
    provider_model: str
    worst_nano: int
    input_nano: int
    started_at: float


@frozen_value
class AbandonedReading:
    """An attempt that a dead process was reading on for a job answered before."""

    row: int
    id: UUID
    day: date
    attempt: int
    owner: int
    facts: Facts
    open_attempt: OpenAttempt
