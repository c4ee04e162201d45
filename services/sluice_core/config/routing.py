"""What may be said in `sluice.yaml` of where a model's calls go: targets, strategy, conditions, tiers, splits, fallback."""

from datetime import time
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from sluice_core.config.base import Section
from sluice_core.config.durations import Duration
from sluice_core.config.scopes import LARGEST, ClassName, Pattern, Zone
from sluice_schemas.jobs import Operation

Label = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20/]+$", max_length=64)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
Strategy = Literal["priority", "weighted", "cheapest", "fastest", "least_busy", "quality"]
FailureClass = Literal[
    "unavailable",
    "rate_limited",
    "timeout",
    "auth",
    "invalid_response",
    "context_length",
    "content_filter",
]
ServiceTier = Literal["auto", "default", "flex", "priority"]


class Capabilities(Section):
    """What a target can do; what is not said is taken to be possible.

    `context`: the most input and output tokens of one request together.
    """

    context: int | None = Field(default=None, ge=1, le=LARGEST)
    vision: bool | None = None
    tools: bool | None = None
    json_output: bool | None = Field(default=None, alias="json")
    streaming: bool | None = None


class Timeouts(Section):
    """Longest waits in one provider call, in seconds."""

    connect: Duration = Field(default=5.0, gt=0)
    first_byte: Duration = Field(default=300.0, gt=0)
    between_chunks: Duration = Field(default=60.0, gt=0)
    total: Duration = Field(default=600.0, gt=0)


class TargetConfig(Section):
    """One place a model's calls go: an account, and the model's name there (default: the same).

    `name` is how conditions, tiers and splits refer to it (default: `account/model`, and the account). `region`
    and `tags` are what tenants' `residency` and conditions may ask for; `quality` is a score, 0 to 1. `timeouts` count
    instead of the account's.
    """

    account: str
    model: str | None = Field(default=None, min_length=1, max_length=256)
    name: Label | None = None
    weight: float = Field(default=1.0, gt=0, le=1000)
    region: Label | None = None
    tags: tuple[Label, ...] = ()
    tier: ServiceTier | None = None
    quality: float | None = Field(default=None, ge=0, le=1)
    capabilities: Capabilities = Capabilities()
    timeouts: Timeouts | None = None


class Condition(Section):
    """What a job must be for a route to be its own; all that is said must hold, one of each list.

    `tags` are the job's own, name by name. `min_tokens` and `max_tokens` bound its size in input tokens, as bytes
    tell. `languages` are ISO 639-1 codes, of what is asked last. `*` at the end of a name stands for anything.
    """

    tenants: tuple[Pattern, ...] = ()
    projects: tuple[Pattern, ...] = ()
    apps: tuple[Pattern, ...] = ()
    tags: dict[str, Pattern] = {}
    classes: tuple[ClassName, ...] = ()
    operations: tuple[Operation, ...] = ()
    languages: tuple[Language, ...] = ()
    min_tokens: int | None = Field(default=None, ge=0, le=LARGEST)
    max_tokens: int | None = Field(default=None, ge=0, le=LARGEST)


class ConditionalRoute(Section):
    """Jobs that meet `when` use these targets alone, in this order; the first route that is met decides."""

    when: Condition
    use: tuple[str, ...] = Field(min_length=1)
    strategy: Strategy | None = None


class Arm(Section):
    """One arm of a split: its share of all keys, and the targets of its jobs."""

    name: Label
    share: float = Field(gt=0, le=1)
    use: tuple[str, ...] = Field(min_length=1)


class Split(Section):
    """An A/B split. Jobs with the same key go to the same arm, which their usage rows name.

    `by`: `affinity` (the job's, else its run's), `user`, `project`, `tenant` or `job` (every job for itself).
    """

    by: Literal["affinity", "user", "project", "tenant", "job"] = "affinity"
    arms: tuple[Arm, ...] = Field(min_length=2)


class Fallback(Section):
    """After which failures another target is asked, and which ones then (default: whatever is left).

    `invalid_response` was billed: asking again pays twice, so it is not among the defaults. `context_length` and
    `content_filter` name the targets that they go to.
    """

    on: tuple[FailureClass, ...] = ("unavailable", "rate_limited", "timeout", "auth")
    context_length: tuple[str, ...] = ()
    content_filter: tuple[str, ...] = ()


JUDGES = "sluicegate.judges"
"""The group of entry points that judges of answers are."""


class Judge(Section):
    """Whoever says how good an answer is: the entry point `name` of the group `sluicegate.judges`, in `timeout`.

    An answer with a confidence (0 to 1) below `below` does not pass. A judge that fails or is late lets it pass.
    """

    name: Label
    below: float = Field(gt=0, le=1)
    timeout: Duration = Field(default=5.0, gt=0, le=600)


class Check(Section):
    """What an answer must pass, or a stronger target is asked.

    `schema`: it is JSON as the request wants it, tools' arguments too. `refusal`: it says something, and is no refusal.
    """

    json_schema: bool = Field(default=True, alias="schema")
    refusal: bool = True
    judge: Judge | None = None


class Escalation(Section):
    """Tiers of targets, the cheapest first: where an answer of one does not pass the check, the next is asked."""

    tiers: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = Field(min_length=2)
    check: Check = Check()


class Hedge(Section):
    """A realtime call that has brought nothing after `after` is made a second time, at another target; the first answer counts.

    Both are paid. At most `share` of the model's calls are hedged.
    """

    after: Duration = Field(gt=0, le=600)
    share: float = Field(default=0.05, gt=0, le=1)


class Hours(Section):
    """Hours of the day in a zone, from `start` to before `end`, over midnight where `end` comes first."""

    start: time
    end: time
    zone: Zone = "UTC"


class OffPeak(Section):
    """Classes whose jobs wait for these hours, as far as their deadlines let them."""

    classes: tuple[ClassName, ...] = ("bulk",)
    hours: Hours


class Routing(Section):
    """How a model's targets are chosen from; part of the model."""

    targets: tuple[TargetConfig, ...] = Field(min_length=1)
    strategy: Strategy = "priority"
    routes: tuple[ConditionalRoute, ...] = ()
    split: Split | None = None
    fallback: Fallback = Fallback()
    escalation: Escalation | None = None
    hedge: Hedge | None = None
    off_peak: OffPeak | None = None


class BreakerConfig(Section):
    """When an account's model is left alone: `failures` of the calls of `window` failed, or took longer than `slow`.

    The defaults are Hystrix's. `minimum` failures in a row shut it at once. It is asked again after `open`, which doubles
    up to `longest` while it stays ill, with `probes` calls at a time.
    """

    window: Duration = Field(default=10.0, ge=1, le=3600)
    minimum: int = Field(default=20, ge=1, le=LARGEST)
    failures: float = Field(default=0.5, gt=0, le=1)
    slow: Duration | None = Field(default=None, gt=0)
    open: Duration = Field(default=5.0, gt=0, le=3600)
    longest: Duration = Field(default=60.0, gt=0, le=86_400)
    probes: int = Field(default=3, ge=1, le=1000)
