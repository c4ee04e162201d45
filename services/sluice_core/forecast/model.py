"""A file of jobs as it is appraised: single jobs, sums by scope, and what follows from them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sluice_core.admission.model import ScopeKind
from sluice_schemas.errors import ErrorCode

Name = tuple[ScopeKind, str]

LINES_SHOWN: Final = 5
"""Line numbers that are kept of each thing that is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """Means of a tenant's recent answers from a model."""

    output_tokens: float
    provider_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """A job that would be taken: what it draws on, and its size as expected and at most; money in nano-dollars.

    `endless`: why its cost has no bound, None where it has one. `provider_ms` None: no recent call tells.
    """

    number: int
    model: str
    operation: str
    pool: str
    scopes: tuple[Name, ...]
    input_tokens: int
    output_tokens: int
    bound_tokens: int
    expected_nano: int
    worst_nano: int
    priced: bool
    endless: str | None
    provider_ms: float | None

    @property
    def tokens(self) -> int:
        """Input and output together, as expected."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A job that would be refused; `rule` is the policy's statement that decides, where one does."""

    number: int
    code: ErrorCode
    message: str
    rule: str | None = None


@dataclass(slots=True)
class Load:
    """Sums over jobs; money in nano-dollars. `untimed`: jobs of which no recent call tells how long they take."""

    jobs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    expected_nano: int = 0
    worst_nano: int = 0
    dearest_nano: int = 0
    busy_ms: float = 0.0
    untimed: int = 0
    unbounded: int = 0
    unpriced: int = 0

    def add(self, job: Appraisal) -> None:
        """Count one job."""
        self.jobs += 1
        self.input_tokens += job.input_tokens
        self.output_tokens += job.output_tokens
        self.expected_nano += job.expected_nano
        self.worst_nano += job.worst_nano
        self.dearest_nano = max(self.dearest_nano, job.worst_nano)
        self.unbounded += job.endless is not None
        self.unpriced += not job.priced
        if job.provider_ms is None:
            self.untimed += 1
        else:
            self.busy_ms += job.provider_ms

    @property
    def tokens(self) -> int:
        """Input and output together, as expected."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True)
class Lines:
    """How often something happens, and on which lines first."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        """Count a line."""
        self.count += 1
        if len(self.first) < LINES_SHOWN:
            self.first.append(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """A budget above some of the jobs, in its current period; money in nano-dollars."""

    scope: str
    per: str
    period: str
    hard: bool
    remaining_nano: int
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetFit:
    """What the jobs under a budget would take of it. `enough` False: some of them would be refused."""

    budget: BudgetState
    jobs: int
    expected_nano: int
    worst_nano: int
    enough: bool
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A limit that takes time, in words, and the seconds that the jobs need under it alone."""

    scope: str
    limit: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the ledger adds to a configuration: living workers by pool, and what accounts were found to bear at once."""

    workers: dict[str, int] = field(default_factory=dict)
    bearable: dict[str, float] = field(default_factory=dict)
