"""Scopes, their rates and budgets: as the configuration defines them, and as they stand when a batch begins."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from sluice_core.jobs.policy import Begin


class ScopeKind(IntEnum):
    """What a scope stands for; the numbers are those of `sluice.scopes.kind`."""

    TENANT = 1
    TEAM = 2
    PROJECT = 3
    APP = 4
    USER = 5
    KEY = 6
    MODEL = 7
    ACCOUNT = 8
    TARGET = 9
    RUN = 10

    @property
    def label(self) -> str:
        """The public name, as in `tenant:acme`."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> "ScopeKind":
        """The kind of a public name; ValueError names those there are."""
        found = next((kind for kind in cls if kind.label == label), None)
        if found is None:
            raise ValueError(
                f"{label!r} is no kind of scope: write {', '.join(k.label for k in cls)}"
            )
        return found

    @property
    def counts_attempts(self) -> bool:
        """Whether each attempt is a request of its own; to callers a retry is the same request."""
        return self >= ScopeKind.MODEL


class Meter(IntEnum):
    """What a rate counts; the numbers are those of `sluice.scopes.meters`."""

    REQUESTS = 1
    TOKENS = 2
    TOKENS_BOUND = 3

    @property
    def label(self) -> str:
        """The public name; what is charged at most is said to be so."""
        return {1: "requests", 2: "tokens", 3: "tokens (bound)"}[self]


HEADROOM: Final = (1.0, 0.95, 0.8)
"""The share of every limit that a class may draw on, by class number: realtime, standard, bulk."""

PERIOD_S: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
"""Seconds of the periods that slide; longer ones are calendar periods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `limit` units a period. `step_us` microseconds a unit where it slides, else the calendar `unit` in `zone`.

    `burst` is how many units may come at once.
    """

    meter: Meter
    limit: float
    burst: float
    step_us: float = 0.0
    unit: str | None = None
    zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeDefinition:
    """A scope as it is configured."""

    kind: ScopeKind
    name: str
    weight: float = 1.0
    rates: tuple[Rate, ...] = ()
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetDefinition:
    """A budget of a scope; `thresholds` are percent, ascending."""

    kind: ScopeKind
    name: str
    per: str
    zone: str
    hard: bool
    cap_nano: int
    thresholds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """What one attempt draws on: scope rows, its tenant's and project's first, and budget rows.

    `hard`: one of the budgets is never exceeded, so that the attempt's worst case must be known.
    """

    scopes: tuple[int, ...]
    budgets: tuple[int, ...] = ()
    hard: bool = False


@dataclass(slots=True, kw_only=True)
class ScopeState:
    """A scope as it stands: `levels` three a rate, by class (microseconds of the epoch, or a calendar count first);
    `ends` of calendar periods in the same unit; `blocked_until` in epoch seconds."""

    definition: ScopeDefinition
    levels: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    in_flight: int = 0
    allowed: float | None = None
    blocked_until: float = 0.0
    virtual: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])


@dataclass(slots=True, kw_only=True)
class PeriodState:
    """A budget's period as it stands, in nano-dollars; `ends` in epoch seconds."""

    hard: bool
    cap_nano: int
    used_nano: int = 0
    reserved_nano: int = 0
    ends: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One attempt that wants to begin: positions of its scopes and periods, and its size in tokens and nano-dollars."""

    job_class: int
    scopes: tuple[int, ...]
    periods: tuple[int, ...] = ()
    tokens: int = 0
    bound: int = 0
    worst_nano: int = 0
    first: bool = True
    floors: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an ask gets: `until` in epoch seconds; `cause` is the position of a scope, or -1 - that of a period."""

    answer: Begin
    until: float = 0.0
    cause: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt that ended: what it had drawn, and what it used. `pressure` as `pressure_of` says."""

    job_class: int
    scopes: tuple[int, ...]
    periods: tuple[int, ...] = ()
    tokens: int = 0
    bound: int = 0
    used: int = 0
    worst_nano: int = 0
    held_nano: int = 0
    cost_nano: int = 0
    pressure: float | None = None
    cool_until: float | None = None
