"""Every topic and consumer group: names, what is in them, and their settings at creation."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sluice_schemas.classes import JobClass

DEFAULT_PREFIX: Final = "llm."
CONTROL_GROUP: Final = "sluice.control.v1"
RECORD_OVERHEAD_BYTES: Final = 64 * 1024
"""What keys and headers may add to the bound on a value."""
DEAD_LETTER_OVERHEAD_BYTES: Final = 128 * 1024

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


def group_of(job_class: JobClass, prefix: str = DEFAULT_PREFIX) -> str:
    """The consumer group that reads a class's topics. Under another prefix than `llm.` it stands in
    front, so that two gateways on one broker do not share groups."""
    return f"{_group_prefix(prefix)}sluice.{job_class.label}.v1"


def control_group(prefix: str = DEFAULT_PREFIX) -> str:
    """The consumer group that reads control records; see `group_of`."""
    return _group_prefix(prefix) + CONTROL_GROUP


def _group_prefix(prefix: str) -> str:
    return "" if prefix == DEFAULT_PREFIX else prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topic names under one prefix."""

    prefix: str = DEFAULT_PREFIX

    def jobs(self, job_class: JobClass) -> str:
        """Where producers put jobs of a class."""
        return f"{self.prefix}jobs.{job_class.label}.v1"

    @property
    def control(self) -> str:
        """Where producers put cancels."""
        return f"{self.prefix}control.v1"

    def results(self, tenant: str) -> str:
        """Every result of a tenant."""
        return f"{self.prefix}results.{tenant}.v1"

    def replies(self, tenant: str) -> str:
        """A tenant's own reply topic."""
        return f"{self.prefix}replies.{tenant}.v1"

    @property
    def usage(self) -> str:
        """One event per row of the usage table."""
        return f"{self.prefix}usage.v1"

    @property
    def dead_letters(self) -> str:
        """Records that cannot be jobs, with reasons; it holds prompts."""
        return f"{self.prefix}deadletter.v1"

    @property
    def alerts(self) -> str:
        """Alerts raised and resolved."""
        return f"{self.prefix}alerts.v1"

    @property
    def audit(self) -> str:
        """Who changed what."""
        return f"{self.prefix}audit.v1"

    @property
    def runs(self) -> str:
        """Runs that have completed."""
        return f"{self.prefix}runs.v1"

    def shared(self) -> tuple[str, ...]:
        """Every topic that belongs to no tenant."""
        return (
            *(self.jobs(job_class) for job_class in JobClass),
            self.control,
            self.usage,
            self.dead_letters,
            self.alerts,
            self.audit,
            self.runs,
        )

    def is_reserved(self, name: str) -> bool:
        """Whether the gateway itself owns a name: no tenant's list and no intake may claim it."""
        tenant_topics = (f"{self.prefix}results.", f"{self.prefix}replies.")
        return name in self.shared() or name.startswith(tenant_topics)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic to create: its name and its settings as the broker takes them."""

    name: str
    settings: dict[str, str]


def _read_settings(max_message_bytes: int, retention_ms: int) -> dict[str, str]:
    # The broker's clock counts, and an uncompressed log lets the broker bound the real size.
    return {
        "retention.ms": str(retention_ms),
        "retention.bytes": "-1",
        "max.message.bytes": str(max_message_bytes),
        "message.timestamp.type": "LogAppendTime",
        "compression.type": "uncompressed",
    }


def topic_specs(
    topics: Topics,
    *,
    record_bytes: int,
    tenants: Iterable[str],
    intake_jobs: Iterable[str] = (),
    intake_control: Iterable[str] = (),
) -> tuple[TopicSpec, ...]:
    """Every topic that a configuration needs, with its settings at creation.

    `intake_jobs` and `intake_control` are the names under `intake.topics`: jobs stay until they are
    admitted there too. Other tenants' `reply_topics` are their owners' to create.
    """
    bound = record_bytes + RECORD_OVERHEAD_BYTES
    job_topics = (*(topics.jobs(job_class) for job_class in JobClass), *intake_jobs)
    specs = [TopicSpec(name=name, settings=_read_settings(bound, -1)) for name in job_topics]
    specs += [
        TopicSpec(name=name, settings=_read_settings(bound, 7 * _DAY_MS))
        for name in (topics.control, *intake_control)
    ]

    def written(name: str, retention_ms: int, size: int = bound) -> None:
        settings = {"retention.ms": str(retention_ms), "max.message.bytes": str(size)}
        specs.append(TopicSpec(name=name, settings=settings))

    for tenant in tenants:
        written(topics.results(tenant), 7 * _DAY_MS)
        written(topics.replies(tenant), _HOUR_MS)
    for name in (topics.usage, topics.alerts, topics.audit, topics.runs):
        written(name, 30 * _DAY_MS)
    written(topics.dead_letters, 30 * _DAY_MS, record_bytes + DEAD_LETTER_OVERHEAD_BYTES)
    return tuple(specs)
