"""The values of `sluice.yaml`; every field has the default that an empty file gets."""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from sluice_core.config.base import Section
from sluice_core.config.caching import CacheConfig, Mode, ModelCache, OfModel
from sluice_core.config.durations import Duration, Period, Size
from sluice_core.config.prices import PriceList
from sluice_core.config.provider import ProviderConfig, Slug
from sluice_core.config.routing import Label, Routing
from sluice_core.config.scopes import LARGEST, DispatchConfig, Scoped, ScopeLimits, Weight
from sluice_schemas.classes import JobClass

Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f/]+$", min_length=1, max_length=128)]
TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Prefix = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{0,100}$")]

ANY_MODEL: Final = "*"
"""The model name that stands for every name not configured."""


class KafkaConfig(Section):
    """Names and sizes of the gateway's topics at creation."""

    prefix: Prefix = "llm."
    partitions: int = Field(default=6, ge=1, le=10_000)
    replication: int = Field(default=1, ge=1, le=10)


class ItemTokens(Section):
    """The most input tokens that one such item of a request can count for, beyond what its bytes say.

    Under a hard budget a request with an item that has no number here is refused: its cost has no bound.
    """

    image: int | None = Field(default=None, ge=0, le=LARGEST)
    file: int | None = Field(default=None, ge=0, le=LARGEST)


class ModelConfig(Routing):
    """A name callers ask for, with the targets it is served by and how one of them is chosen."""

    default_max_tokens: int | None = Field(default=None, ge=1, le=LARGEST)
    prices: PriceList = ()
    cache: OfModel = ModelCache()
    item_tokens: ItemTokens = ItemTokens()
    limits: ScopeLimits = ScopeLimits()


class AppConfig(Scoped):
    """An app of a project."""


class TeamConfig(Scoped):
    """A team of a tenant."""


class UserConfig(Scoped):
    """A user of a tenant; under `*`, each user that has no entry of its own."""


class KeyConfig(Scoped):
    """An API key by its id; under `*`, each key of the tenant that has no entry of its own."""


def _as_mapping(value: Any) -> Any:
    """Read a list of names as a mapping of names to nothing; None entries as empty sections."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return {item: {} for item in value}
    if isinstance(value, dict):
        return {name: {} if item is None else item for name, item in value.items()}
    return {} if value is None else value


Apps = Annotated[dict[Name, AppConfig], BeforeValidator(_as_mapping)]
Teams = Annotated[dict[Name, TeamConfig], BeforeValidator(_as_mapping)]


class ProjectConfig(Scoped):
    """A project of a tenant, its team and its apps; `weight` is its share among the tenant's projects."""

    team: str | None = None
    apps: Apps = {}
    weight: Weight = 1.0


Projects = Annotated[dict[Name, ProjectConfig], BeforeValidator(_as_mapping)]


class TenantConfig(Scoped):
    """A tenant: what may be named under it, and the topics its replies may go to.

    `reply_topics` are allowed besides the tenant's own `…replies.{tenant}.v1`. `weight` is its share of the
    slots of a class among the tenants that wait. `max_parked` bounds its waiting jobs of one class. `residency`: its jobs
    go only to targets that have one of these as their region or among their tags. `cache` is its jobs' where they say nothing.
    """

    teams: Teams = {}
    projects: Projects = {}
    users: Annotated[dict[str, UserConfig], BeforeValidator(_as_mapping)] = {}
    keys: Annotated[dict[str, KeyConfig], BeforeValidator(_as_mapping)] = {}
    reply_topics: tuple[TopicName, ...] = ()
    residency: tuple[Label, ...] = ()
    cache: Mode | None = None
    weight: Weight = 1.0
    max_parked: int = Field(default=5_000_000, ge=1, le=LARGEST)


class IntakeTopic(Section):
    """A topic whose writers the broker's ACLs decide: who its records speak for."""

    name: TopicName
    job_class: Literal["realtime", "standard", "bulk", "control"] = Field(alias="class")
    tenant: str
    team: str | None = None
    project: str | None = None
    app: str | None = None


class IntakeConfig(Section):
    """What is read, and what becomes of unsigned records: `reject`, or `tenant:NAME`."""

    unsigned: str = Field(default="reject", pattern=r"^(reject|tenant:.+)$")
    topics: tuple[IntakeTopic, ...] = ()

    @property
    def unsigned_tenant(self) -> str | None:
        """The tenant that unsigned records belong to; None: they are rejected."""
        return None if self.unsigned == "reject" else self.unsigned.removeprefix("tenant:")


class LimitsConfig(Section):
    """Bounds on single values, in bytes."""

    record_bytes: Size = Field(default=8 * 1024**2, ge=1024, le=1024**3)
    answer_bytes: Size = Field(default=64 * 1024**2, ge=1024, le=2 * 1024**3)


_DAY: Final = 86_400.0


class RetentionConfig(Section):
    """How long things are kept, in seconds."""

    jobs: Period = Field(default=7 * _DAY, gt=0)
    results: Period = Field(default=7 * _DAY, gt=0)
    idempotency: Period = Field(default=35 * _DAY, gt=0)
    payloads: Period = Field(default=35 * _DAY, gt=0)
    denials: Period = Field(default=400 * _DAY, gt=0)


class UnknownConfig(Section):
    """When an attempt of unknown outcome is booked by itself, and at what cost."""

    after: Period = Field(default=72 * 3600.0, gt=0)
    book: Literal["worst_case", "input_only", "zero"] = "worst_case"


class Marks(Section):
    """Intake pauses above `high` and resumes below `low`."""

    high: int = Field(ge=1, le=LARGEST)
    low: int = Field(ge=0, le=LARGEST)


class BacklogConfig(Section):
    """Parked jobs per class (rows) and in all (bytes on disk) at which intake pauses."""

    realtime: Marks = Marks(high=200_000, low=150_000)
    standard: Marks = Marks(high=2_000_000, low=1_500_000)
    bulk: Marks = Marks(high=10_000_000, low=8_000_000)
    bytes: Marks = Marks(high=50 * 1024**3, low=40 * 1024**3)

    def rows(self, job_class: JobClass) -> Marks:
        """The marks of one class."""
        by_class = {
            JobClass.REALTIME: self.realtime,
            JobClass.STANDARD: self.standard,
            JobClass.BULK: self.bulk,
        }
        return by_class[job_class]


class WorkerConfig(Section):
    """One worker process: calls in flight, when intake pauses, how long ownership lasts.

    `grace` is how long a stopping worker waits for its calls; None: the longest total timeout of
    the providers and ten seconds more.
    """

    concurrency: int = Field(default=256, ge=1, le=100_000)
    backlog: BacklogConfig = BacklogConfig()
    owned_lease: Duration = Field(default=6.0, ge=1)
    calling_lease: Duration = Field(default=30.0, ge=1)
    grace: Duration | None = None


class Config(Section):
    """The whole configuration."""

    cell: Slug = "main"
    kafka: KafkaConfig = KafkaConfig()
    providers: dict[Slug, ProviderConfig] = {}
    models: dict[str, ModelConfig] = {}
    tenants: Annotated[dict[Slug, TenantConfig], BeforeValidator(_as_mapping)] = {}
    intake: IntakeConfig = IntakeConfig()
    limits: LimitsConfig = LimitsConfig()
    cache: CacheConfig = CacheConfig()
    retention: RetentionConfig = RetentionConfig()
    unknown: UnknownConfig = UnknownConfig()
    worker: WorkerConfig = WorkerConfig()
    dispatch: DispatchConfig = DispatchConfig()

    @property
    def grace_s(self) -> float:
        """Seconds that a stopping worker waits for its calls."""
        if self.worker.grace is not None:
            return self.worker.grace
        totals = [provider.timeouts.total for provider in self.providers.values()]
        targets = (target for model in self.models.values() for target in model.targets)
        totals += [target.timeouts.total for target in targets if target.timeouts is not None]
        return max(totals, default=0.0) + 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRef:
    """One account, and the name of the model there."""

    account: str
    model: str


def resolve_model(config: Config, name: str) -> tuple[TargetRef, ...]:
    """Find the targets that serve a model name, in order; empty where nothing serves it.

    A configured name comes first, then `account/model`, then `*`.
    """
    configured = config.models.get(name) if name != ANY_MODEL else None
    if configured is None:
        account, slash, model = name.partition("/")
        if slash and model and account in config.providers:
            return (TargetRef(account=account, model=model),)
        configured = config.models.get(ANY_MODEL)
    if configured is None or not name or name == ANY_MODEL:
        return ()
    return tuple(
        TargetRef(account=target.account, model=target.model or name)
        for target in configured.targets
    )
