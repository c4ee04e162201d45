"""What one value of a configuration says about another: references, reserved names, order, bounds, policies."""

from collections.abc import Iterable, Iterator, Set

from sluice_core.config.accounts import BASE_URLS
from sluice_core.config.bounds import check_bounds
from sluice_core.config.document import Path, Problem
from sluice_core.config.durations import duration_text
from sluice_core.config.kinds import check_keys, check_options
from sluice_core.config.lockouts import check_policies
from sluice_core.config.model import Config, IntakeTopic, TenantConfig
from sluice_core.config.provider import ProviderConfig
from sluice_core.config.suggest import suggestion
from sluice_core.config.ways import check_ways
from sluice_schemas.base import UNALLOCATED
from sluice_schemas.topics import Topics


def check_references(config: Config, lost: Set[str] = frozenset()) -> list[Problem]:
    """Everything wrong between the values of a configuration whose single values are right.

    `lost` are sections that could not be read; what depends on one of them is not judged.
    """
    topics = Topics(prefix=config.kafka.prefix)
    found: list[Problem] = []
    if not lost & {"providers", "models"}:
        found += _models(config)
        found += check_ways(config) if "tenants" not in lost else ()
        found += _meanings(config) if "cache" not in lost else ()
    if "providers" not in lost:
        found += _providers(config)
    if not lost & {"kafka", "tenants"}:
        found += _tenants(config, topics)
    if not lost & {"kafka", "tenants", "intake"}:
        found += _intake(config, topics)
    # A section that was lost has its defaults, which are in order.
    return [*found, *_order(config), *check_bounds(config), *check_policies(config, lost)]


def _missing(path: Path, what: str, name: str, known: Iterable[str]) -> Problem:
    return Problem(path=path, message=f'no {what} "{name}"{suggestion(name, known)}')


def _models(config: Config) -> Iterator[Problem]:
    for name, model in config.models.items():
        path: Path = ("models", name)
        if not name or "\x00" in name or len(name.encode()) > 256:
            yield Problem(path=path, message="a model's name has 1 to 256 bytes")
        for index, target in enumerate(model.targets):
            if target.account not in config.providers:
                here = (*path, "targets", index, "account")
                yield _missing(here, "provider", target.account, config.providers)


def _meanings(config: Config) -> Iterator[Problem]:
    semantic = config.cache.semantic
    if semantic is not None and semantic.model not in config.models:
        yield _missing(("cache", "semantic", "model"), "model", semantic.model, config.models)
    if semantic is not None:
        return
    message = "compares meanings: say by which model and how near, in cache.semantic"
    for name, model in config.models.items():
        if model.cache.mode == "semantic":
            yield Problem(path=("models", name, "cache"), message=message)
    for name, tenant in config.tenants.items():
        if tenant.cache == "semantic":
            yield Problem(path=("tenants", name, "cache"), message=message)


def _providers(config: Config) -> Iterator[Problem]:
    for name, account in config.providers.items():
        path: Path = ("providers", name)
        if any(not secret.get_secret_value().isprintable() for secret in account.sent):
            # It goes out in a header; most often it is the line break at the end of a file.
            message = "holds a line break or another control character"
            yield Problem(path=(*path, _first(account)), message=message)
        ways = [name for name in _WAYS if getattr(account, name)]
        if len(ways) > 1:
            message = f"stands beside {ways[0]}; an account has one of {', '.join(_WAYS)}"
            yield Problem(path=(*path, ways[1]), message=message)
        if account.quirks is not None and account.kind != "openai":
            message = f"are of servers like OpenAI's; {account.kind} has none"
            yield Problem(path=(*path, "quirks"), message=message)
        if account.entra is not None and account.kind not in {"azure", "openai"}:
            message = f"gives tokens for azure; {account.kind} takes none"
            yield Problem(path=(*path, "entra"), message=message)
        yield from check_options(account.kind, account.options, path)
        yield from check_keys(account.kind, account.keys, path)
        if account.service_account is not None and account.kind != "vertex":
            message = "only kind: vertex goes with its tokens"
            yield Problem(path=(*path, "service_account"), message=message)
        if not account.url:
            known = suggestion(account.provider_name, BASE_URLS)
            message = f"is missing, and for {account.provider_name} none is known{known}"
            yield Problem(path=(*path, "base_url"), message=message)
        elif "@" in account.url.split("://", 1)[1].split("/", 1)[0]:
            message = "a name and password in a url are not sent; write api_key"
            yield Problem(path=(*path, "base_url"), message=message)


_WAYS = ("api_key", "api_keys", "api_key_file", "api_key_store", "entra", "service_account")
"""How an account may prove who it is."""


def _first(account: ProviderConfig) -> str:
    return next(name for name in _WAYS if getattr(account, name))


def _tenants(config: Config, topics: Topics) -> Iterator[Problem]:
    read = {topic.name for topic in config.intake.topics}
    for name, tenant in config.tenants.items():
        path: Path = ("tenants", name)
        yield from _reserved_names(path, tenant)
        for project, settings in tenant.projects.items():
            if settings.team is not None and settings.team not in tenant.teams:
                here = (*path, "projects", project, "team")
                yield _missing(here, "team", settings.team, tenant.teams)
        for index, topic in enumerate(tenant.reply_topics):
            here = (*path, "reply_topics", index)
            if topic != topics.replies(name) and topics.is_reserved(topic):
                yield Problem(path=here, message=f'"{topic}" is a topic of the gateway itself')
            elif topic in read:
                yield Problem(path=here, message=f'"{topic}" is read for jobs (intake.topics)')


def _reserved_names(path: Path, tenant: TenantConfig) -> Iterator[Problem]:
    message = f'"{UNALLOCATED}" stands for jobs that name none; choose another name'
    for section, names in (("teams", tenant.teams), ("projects", tenant.projects)):
        if UNALLOCATED in names:
            yield Problem(path=(*path, section, UNALLOCATED), message=message)
    for project, settings in tenant.projects.items():
        if UNALLOCATED in settings.apps:
            here = (*path, "projects", project, "apps", UNALLOCATED)
            yield Problem(path=here, message=message)


def _intake(config: Config, topics: Topics) -> Iterator[Problem]:
    unsigned = config.intake.unsigned_tenant
    if unsigned is not None and unsigned not in config.tenants:
        yield _missing(("intake", "unsigned"), "tenant", unsigned, config.tenants)
    seen: set[str] = set()
    for index, topic in enumerate(config.intake.topics):
        path: Path = ("intake", "topics", index)
        if topics.is_reserved(topic.name):
            message = f'"{topic.name}" is a topic of the gateway itself'
            yield Problem(path=(*path, "name"), message=message)
        if topic.name in seen:
            yield Problem(path=(*path, "name"), message=f'"{topic.name}" is listed twice')
        seen.add(topic.name)
        tenant = config.tenants.get(topic.tenant)
        if tenant is None:
            yield _missing((*path, "tenant"), "tenant", topic.tenant, config.tenants)
        else:
            yield from _topic_names(path, topic, tenant)


def _topic_names(path: Path, topic: IntakeTopic, tenant: TenantConfig) -> Iterator[Problem]:
    if topic.team is not None and topic.team not in tenant.teams:
        yield _missing((*path, "team"), "team", topic.team, tenant.teams)
    project = tenant.projects.get(topic.project) if topic.project is not None else None
    if topic.project is not None and project is None:
        yield _missing((*path, "project"), "project", topic.project, tenant.projects)
    if topic.app is not None and (project is None or topic.app not in project.apps):
        apps = project.apps if project is not None else ()
        yield _missing((*path, "app"), "app", topic.app, apps)
    if project is not None and topic.team is not None and project.team != topic.team:
        message = f'project "{topic.project}" is not of team "{topic.team}"'
        yield Problem(path=(*path, "project"), message=message)


def _order(config: Config) -> Iterator[Problem]:
    kept = config.retention
    for name, shorter in (("jobs", kept.jobs), ("results", kept.results)):
        if kept.idempotency < shorter:
            message = (
                f"is shorter than retention.{name}: a replay would pay again; "
                f"write {duration_text(shorter)} or more"
            )
            yield Problem(path=("retention", "idempotency"), message=message)
    if kept.payloads < kept.idempotency:
        message = (
            "is shorter than retention.idempotency: a duplicate's stored result would be gone; "
            f"write {duration_text(kept.idempotency)} or more"
        )
        yield Problem(path=("retention", "payloads"), message=message)
    for name in ("realtime", "standard", "bulk", "bytes"):
        marks = getattr(config.worker.backlog, name)
        if marks.low >= marks.high:
            path = ("worker", "backlog", name, "low")
            yield Problem(path=path, message="must be below high")
