"""Who asks, what for, and what was decided by which rule."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode

Aspect = Literal["models", "operations", "classes", "topics", "ips", "max_tokens", "max_cost_usd"]
"""What a policy may speak of; each aspect is decided on its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The caller of a job by the names of the configuration; None where there is none.

    `unallocated` is the name of no team, project or app, and so finds no scope.
    """

    tenant: str
    team: str | None = None
    project: str | None = None
    app: str | None = None
    user: str | None = None
    key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a job wants. None is not judged: `ip` where no HTTP request asks, `max_tokens` where none is named.

    `worst_nano` is the most that the job can cost, in nano-dollars.
    """

    model: str | None = None
    operation: str | None = None
    job_class: JobClass | None = None
    topic: str | None = None
    ip: str | None = None
    max_tokens: int | None = None
    worst_nano: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One statement of one scope, such as `tenant acme: policy.models.deny "gpt-*"`."""

    scope: str
    statement: str

    def __str__(self) -> str:
        return f"{self.scope}: {self.statement}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a job may go on. `rule` is None where nobody said anything.

    `message` is for the caller: it tells what was refused and nothing of rules or other names. `rule` is for
    those who wrote the rules. `param` is the field of the job that is at fault.
    """

    allowed: bool
    aspect: Aspect | None = None
    rule: Rule | None = None
    code: ErrorCode | None = None
    message: str = ""
    param: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One scope that was looked at for an aspect; `says` None: it says nothing of this."""

    scope: str
    says: bool | None
    statement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How one aspect was decided: the value asked for, the decision, and the scopes in their order."""

    aspect: Aspect
    value: str
    decision: Decision
    looked_at: tuple[Look, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One refusal as it is recorded: of which record, of whom, why.

    What is not known is None: of a record that nobody signed not even the tenant. `record` stands for the
    record, or for the execution of a job that was refused just before its call, which has no `topic`.
    `user_id` is a pseudonym.
    """

    record: UUID
    tenant: str | None
    key_id: str | None
    team: str | None
    project: str | None
    app: str | None
    user_id: str | None
    topic: str | None
    model: str | None
    code: str
    rule: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeniedAt:
    """A denial as it stands in the record."""

    at: datetime
    denial: Denial
