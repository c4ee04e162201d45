"""Pure: which topics a configuration needs, what differs from that, and which rights each principal needs."""

from collections.abc import Iterable, Mapping
from typing import Final

from sluice_core.config.model import Config
from sluice_core.topics.model import Difference, Grant
from sluice_schemas.classes import JobClass
from sluice_schemas.topics import Topics, TopicSpec, control_group, group_of, topic_specs

WORKER: Final = "sluice-worker"
KEEPER: Final = "sluice-keeper"
OPERATOR: Final = "sluice-operator"


def wanted(config: Config) -> tuple[TopicSpec, ...]:
    """Every topic that the configuration needs, with its settings."""
    intake = config.intake.topics
    return topic_specs(
        Topics(prefix=config.kafka.prefix),
        record_bytes=config.limits.record_bytes,
        tenants=config.tenants,
        intake_jobs=[topic.name for topic in intake if topic.job_class != "control"],
        intake_control=[topic.name for topic in intake if topic.job_class == "control"],
    )


def declared_reply_topics(config: Config) -> tuple[tuple[str, str], ...]:
    """(tenant, topic) of every reply topic that a tenant declared; their owners make them."""
    return tuple(
        (name, topic) for name, tenant in config.tenants.items() for topic in tenant.reply_topics
    )


def differences(
    specs: Iterable[TopicSpec], found: Mapping[str, Mapping[str, str]]
) -> list[Difference]:
    """What is missing or set otherwise; `found` maps a topic that exists to its settings."""
    listed = []
    for spec in specs:
        settings = found.get(spec.name)
        if settings is None:
            listed.append(Difference(topic=spec.name, setting="topic", wanted="exists", found=None))
            continue
        listed += [
            Difference(topic=spec.name, setting=name, wanted=value, found=settings.get(name))
            for name, value in spec.settings.items()
            if settings.get(name) != value
        ]
    return listed


def grants(config: Config) -> list[Grant]:
    """The rights of the gateway's own processes, of operators, and of every tenant's programs.

    A tenant's principal is called after it. Unsigned writers are told apart by these rights alone,
    so the class topics are given to a tenant only where records are signed or the tenant is the
    one that unsigned records belong to.
    """
    topics = Topics(prefix=config.kafka.prefix)
    return [
        *_worker(config, topics),
        *_keeper(config, topics),
        *_operator(config, topics),
        *(grant for tenant in config.tenants for grant in _tenant(config, topics, tenant)),
    ]


def _read(principal: str, names: Iterable[str]) -> list[Grant]:
    return [_topic(principal, name, "Read", "Describe") for name in names]


def _write(principal: str, names: Iterable[str]) -> list[Grant]:
    return [_topic(principal, name, "Write", "Describe") for name in names]


def _topic(principal: str, name: str, *operations: str) -> Grant:
    return Grant(principal=principal, resource="topic", name=name, operations=operations)


def _answer_topics(config: Config, topics: Topics) -> list[str]:
    names: list[str] = []
    for tenant, settings in config.tenants.items():
        names += [topics.results(tenant), topics.replies(tenant), *settings.reply_topics]
    return list(dict.fromkeys(names))


def _intake_topics(config: Config, topics: Topics) -> list[str]:
    own = [topics.jobs(job_class) for job_class in JobClass]
    return [*own, topics.control, *(topic.name for topic in config.intake.topics)]


def _groups(config: Config, principal: str, *operations: str) -> list[Grant]:
    prefix = config.kafka.prefix
    names = [*(group_of(job_class, prefix) for job_class in JobClass), control_group(prefix)]
    return [
        Grant(principal=principal, resource="group", name=name, operations=operations)
        for name in names
    ]


def _worker(config: Config, topics: Topics) -> list[Grant]:
    events = [*_answer_topics(config, topics), topics.usage, topics.dead_letters]
    return [
        *_read(WORKER, _intake_topics(config, topics)),
        *_groups(config, WORKER, "Read", "Describe"),
        *_write(WORKER, events),
    ]


def _keeper(config: Config, topics: Topics) -> list[Grant]:
    events = [
        *_answer_topics(config, topics),
        *(topics.usage, topics.dead_letters, topics.alerts, topics.audit, topics.runs),
    ]
    return [
        *(
            _topic(KEEPER, name, "Read", "Describe", "Delete")
            for name in _intake_topics(config, topics)
        ),
        # It looks how far the workers have come.
        *_groups(config, KEEPER, "Describe"),
        *_write(KEEPER, events),
    ]


def _operator(config: Config, topics: Topics) -> list[Grant]:
    return [
        Grant(
            principal=OPERATOR,
            resource="cluster",
            name="kafka-cluster",
            operations=("Create", "Describe"),
        ),
        *(
            _topic(OPERATOR, spec.name, "Describe", "DescribeConfigs", "AlterConfigs")
            for spec in wanted(config)
        ),
        *_read(OPERATOR, [topics.dead_letters]),
        *_write(OPERATOR, _intake_topics(config, topics)),
    ]


def _tenant(config: Config, topics: Topics, tenant: str) -> list[Grant]:
    own = [topic.name for topic in config.intake.topics if topic.tenant == tenant]
    if config.intake.unsigned_tenant in {None, tenant}:
        own = [*(topics.jobs(job_class) for job_class in JobClass), topics.control, *own]
    return [
        *_write(tenant, own),
        *_read(tenant, [topics.results(tenant), topics.replies(tenant)]),
        Grant(
            principal=tenant,
            resource="group",
            name=f"{tenant}.",
            operations=("Read", "Describe"),
            prefixed=True,
        ),
    ]
