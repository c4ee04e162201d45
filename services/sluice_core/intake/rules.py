"""The part of the configuration that intake needs, computed once so that a record costs little."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sluice_core.config.model import ANY_MODEL, Config, IntakeTopic, TenantConfig
from sluice_core.keys.model import Key
from sluice_core.policies.policy import Permissions
from sluice_schemas.classes import JobClass
from sluice_schemas.topics import Topics


class KeyRing(Protocol):
    """Where intake finds keys; revoked and expired ones too, so that their tenant can be told."""

    def get(self, key_id: str, /) -> Key | None:
        """Find a key by its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRules:
    """A project's team, and the apps under it."""

    team: str | None
    apps: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRules:
    """What may be named under a tenant, and the topics that its replies may go to."""

    teams: frozenset[str]
    projects: Mapping[str, ProjectRules]
    reply_topics: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRule:
    """What a topic is read as: jobs of a class, or control records (`job_class` None).

    `tenant` is set where the broker's ACLs decide who may write; its records speak for it.
    """

    job_class: JobClass | None
    tenant: str | None = None
    team: str | None = None
    project: str | None = None
    app: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakePolicy:
    """A frozen view of the configuration; `idempotency_s` is how long identities are kept.

    `by_meaning`: whether there is a semantic cache.
    """

    topics: Mapping[str, TopicRule]
    tenants: Mapping[str, TenantRules]
    unsigned_tenant: str | None
    models: frozenset[str]
    any_model: bool
    accounts: frozenset[str]
    record_bytes: int
    idempotency_s: float
    cluster_id: str
    permissions: Permissions
    by_meaning: bool = False

    @classmethod
    def from_config(cls, config: Config, *, cluster_id: str) -> "IntakePolicy":
        """Compute the view; `cluster_id` is the Kafka cluster's, part of records' identities."""
        topics = Topics(prefix=config.kafka.prefix)
        return cls(
            topics=_topic_rules(topics, config.intake.topics),
            tenants={
                name: _tenant_rules(topics, name, tenant) for name, tenant in config.tenants.items()
            },
            unsigned_tenant=config.intake.unsigned_tenant,
            models=frozenset(config.models) - {ANY_MODEL},
            any_model=ANY_MODEL in config.models,
            accounts=frozenset(config.providers),
            record_bytes=config.limits.record_bytes,
            idempotency_s=config.retention.idempotency,
            cluster_id=cluster_id,
            permissions=Permissions.from_config(config),
            by_meaning=config.cache.semantic is not None,
        )

    def serves(self, model: str) -> bool:
        """Whether a model name has a target: configured, `account/model`, or any name at all."""
        if model in self.models:
            return True
        if model == ANY_MODEL:
            return False
        account, slash, rest = model.partition("/")
        return self.any_model or bool(slash and rest and account in self.accounts)


def _topic_rules(topics: Topics, configured: tuple[IntakeTopic, ...]) -> dict[str, TopicRule]:
    rules = {topics.jobs(job_class): TopicRule(job_class=job_class) for job_class in JobClass}
    rules[topics.control] = TopicRule(job_class=None)
    for topic in configured:
        control = topic.job_class == "control"
        rules[topic.name] = TopicRule(
            job_class=None if control else JobClass.from_label(topic.job_class),
            tenant=topic.tenant,
            team=topic.team,
            project=topic.project,
            app=topic.app,
        )
    return rules


def _tenant_rules(topics: Topics, name: str, tenant: TenantConfig) -> TenantRules:
    return TenantRules(
        teams=frozenset(tenant.teams),
        projects={
            project: ProjectRules(team=rules.team, apps=frozenset(rules.apps))
            for project, rules in tenant.projects.items()
        },
        # The tenant's own reply topic always counts: the client names it without being told.
        reply_topics=frozenset((topics.replies(name), *tenant.reply_topics)),
    )
