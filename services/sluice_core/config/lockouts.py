"""Policies that nobody could work under, and names in them that stand for nothing."""

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial
from typing import Final

from sluice_core.config.document import Path, Problem
from sluice_core.config.model import ANY_MODEL, Config, IntakeTopic
from sluice_core.config.patterns import ANYTHING, leaves_nothing, matches
from sluice_core.config.scopes import Choice, ClassChoice, OperationChoice, PolicyConfig
from sluice_core.config.sections import Place, callers
from sluice_core.config.suggest import suggestion
from sluice_schemas.classes import JobClass
from sluice_schemas.jobs import OPERATIONS
from sluice_schemas.topics import Topics

KEY_ID: Final = re.compile(r"sgk_[A-Za-z0-9_-]{1,64}\Z")
_EVERYTHING: Final = {
    "models": (ANYTHING,),
    "operations": tuple(OPERATIONS.values()),
    "classes": tuple(job_class.label for job_class in JobClass),
    "topics": (ANYTHING,),
}
_BY_DEFAULT: Final = ("models", "operations", "classes")
"""What `default: deny` denies where nobody allows it by name."""
_RANKS: Final = {"tenants": 0, "teams": 1, "projects": 2, "apps": 3, "users": 4, "keys": 5}
"""From the least specific to the most."""
AnyChoice = Choice | ClassChoice | OperationChoice


def check_policies(config: Config, lost: Set[str] = frozenset()) -> Iterator[Problem]:
    """Everything wrong with policies whose single values are right; `lost` as for `check_references`."""
    for name, tenant in config.tenants.items():
        for key in tenant.keys:
            if key != ANYTHING and KEY_ID.match(key) is None:
                message = (
                    'not the id of a key: write "sgk_…" as `sluice keys list` shows it, or "*"'
                )
                yield Problem(path=("tenants", name, "keys", key), message=message)
        places = list(callers(name, tenant))
        for path, scope in places:
            here = (*path, "policy")
            yield from _patterns(here, scope.policy)
            yield from _networks((*here, "ips"), scope.policy.ips)
            yield from _lockouts(here, scope.policy, partial(_near, path, places, config))
            if not lost & {"providers", "models"}:
                yield from _models((*here, "models"), scope.policy.models, config)
            if not lost & {"kafka", "intake"}:
                yield from _topics((*here, "topics"), scope.policy.topics, config, name)


def _choice(policy: PolicyConfig, aspect: str) -> AnyChoice:
    choice: AnyChoice = getattr(policy, aspect)
    return choice


def _listed(choice: AnyChoice) -> Iterator[tuple[str, int, str]]:
    for part in ("allow", "deny"):
        for index, text in enumerate(getattr(choice, part) or ()):
            yield part, index, text


def _patterns(path: Path, policy: PolicyConfig) -> Iterator[Problem]:
    for aspect in ("models", "topics"):
        for part, index, text in _listed(_choice(policy, aspect)):
            if ANYTHING in text[:-1]:
                message = f'"*" counts only at the end; write "{text[: text.index(ANYTHING)]}*"'
                yield Problem(path=(*path, aspect, part, index), message=message)


def _networks(path: Path, choice: Choice) -> Iterator[Problem]:
    for part, index, text in _listed(choice):
        here = (*path, part, index)
        try:
            ipaddress.ip_network(text)
        except ValueError:
            yield Problem(path=here, message=f'"{text}" is no network{_meant(text)}')


def _meant(text: str) -> str:
    try:
        return f"; did you mean {ipaddress.ip_network(text, strict=False)}?"
    except ValueError:
        return "; write an address, or a network such as 10.0.0.0/8 or 2001:db8::/32"


def _near(path: Path, places: Sequence[Place], config: Config) -> list[PolicyConfig]:
    """The policies of the scopes above and under one: all that may decide together with it."""
    return [
        scope.policy
        for other, scope in places
        if other != path and (_under(other, path, config) or _under(path, other, config))
    ]


def _under(path: Path, above: Path, config: Config) -> bool:
    """Whether a job of the scope at `path` may be one of the scope at `above`, which is the less specific."""
    if _rank(path) <= _rank(above):
        return False
    project = _project(path)
    if above[2:3] == ("teams",) and project is not None:
        return config.tenants[str(path[1])].projects[project].team == above[-1]
    above_project = _project(above)
    return project is None or above_project is None or project == above_project


def _rank(path: Path) -> int:
    return _RANKS[str(path[-2])]


def _project(path: Path) -> str | None:
    return str(path[3]) if len(path) > 3 and path[2] == "projects" else None


def _lockouts(
    path: Path, policy: PolicyConfig, near: Callable[[], Sequence[PolicyConfig]]
) -> Iterator[Problem]:
    """A scope under which no job can pass, whatever it asks for; `near` are the policies that decide with it."""
    for aspect in (*_EVERYTHING, "ips"):
        choice = _choice(policy, aspect)
        here = (*path, aspect)
        if choice.allow is not None and not choice.allow:
            message = "allows nothing at all: name what is allowed, or leave it out"
            yield Problem(path=(*here, "allow"), message=message)
        elif aspect != "ips" and _shut(choice, aspect) and not _opened(aspect, near()):
            message = f"denies all {aspect} that it allows, and with them every job: leave some out of deny"
            yield Problem(path=(*here, "deny"), message=message)
    if policy.default == "deny":
        for aspect in _BY_DEFAULT:
            if _choice(policy, aspect).allow is None and not _opened(aspect, near()):
                message = (
                    f"denies all {aspect}, and no scope above or below allows any: "
                    f"write policy.{aspect}.allow"
                )
                yield Problem(path=(*path, "default"), message=message)


def _shut(choice: AnyChoice, aspect: str) -> bool:
    return leaves_nothing(choice.allow, choice.deny, _EVERYTHING[aspect])


def _opened(aspect: str, near: Sequence[PolicyConfig]) -> bool:
    return any(
        bool(_choice(policy, aspect).allow) or (policy.default == "allow" and aspect in _BY_DEFAULT)
        for policy in near
    )


def _models(path: Path, choice: Choice, config: Config) -> Iterator[Problem]:
    if ANY_MODEL in config.models:
        return
    for part, index, text in _listed(choice):
        stands = ANYTHING in text[:-1] or any(matches(text, name) for name in config.models)
        if not stands and not _addresses(text, config):
            near = suggestion(text.removesuffix(ANYTHING), config.models)
            yield Problem(path=(*path, part, index), message=f'no model "{text}"{near}')


def _addresses(text: str, config: Config) -> bool:
    """Whether a pattern may stand for `account/model`."""
    account, slash, _ = text.removesuffix(ANYTHING).partition("/")
    if slash:
        return account in config.providers
    return text.endswith(ANYTHING) and any(name.startswith(account) for name in config.providers)


def _topics(path: Path, choice: Choice, config: Config, tenant: str) -> Iterator[Problem]:
    for part, index, text in _listed(choice):
        here = (*path, part, index)
        read = _read_topics(config)
        if not (ANYTHING in text[:-1] or any(matches(text, name) for name in read)):
            near = suggestion(text.removesuffix(ANYTHING), read)
            yield Problem(path=here, message=f'no topic "{text}" is read for jobs{near}')
        elif part == "allow" and text in _others(config.intake.topics, tenant):
            message = f'"{text}" is the topic of another tenant (intake.topics): leave it out'
            yield Problem(path=here, message=message)


def _read_topics(config: Config) -> list[str]:
    topics = Topics(prefix=config.kafka.prefix)
    own = [topic.name for topic in config.intake.topics if topic.job_class != "control"]
    return [*(topics.jobs(job_class) for job_class in JobClass), *own]


def _others(topics: Sequence[IntakeTopic], tenant: str) -> set[str]:
    return {topic.name for topic in topics if topic.tenant != tenant}
