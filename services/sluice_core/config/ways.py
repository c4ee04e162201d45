"""Routing that names what is not there, or that can never hold."""

from collections.abc import Iterator, Sequence
from typing import Final

from sluice_core.config.document import Path, Problem
from sluice_core.config.languages import language_problem
from sluice_core.config.model import Config, ModelConfig
from sluice_core.config.patterns import ANYTHING
from sluice_core.config.routing import Condition, TargetConfig
from sluice_core.config.suggest import suggestion
from sluice_core.config.zones import zone_problem

_WHOLE: Final = 1e-6


def check_ways(config: Config) -> Iterator[Problem]:
    """Everything wrong with the routing of models whose single values are right."""
    for name, model in config.models.items():
        yield from _model(("models", name), model, config)
    yield from _residency(config)


def names_of(target: TargetConfig) -> tuple[str, ...]:
    """By which words conditions, arms and fallbacks may mean a target: its name, `account/model`, or its account."""
    own = () if target.name is None else (target.name,)
    whole = () if target.model is None else (f"{target.account}/{target.model}",)
    return (*own, *whole, target.account)


def _model(path: Path, model: ModelConfig, config: Config) -> Iterator[Problem]:
    known = dict.fromkeys(word for target in model.targets for word in names_of(target))
    yield from _twice((*path, "targets"), model.targets)
    for index, route in enumerate(model.routes):
        here = (*path, "routes", index)
        yield from _use((*here, "use"), route.use, known)
        yield from _condition((*here, "when"), route.when, config)
    if model.split is not None:
        here = (*path, "split", "arms")
        names = [arm.name for arm in model.split.arms]
        for index, arm in enumerate(model.split.arms):
            if arm.name in names[:index]:
                message = f'an arm "{arm.name}" stands here already'
                yield Problem(path=(*here, index, "name"), message=message)
            yield from _use((*here, index, "use"), arm.use, known)
        total = sum(arm.share for arm in model.split.arms)
        if abs(total - 1) > _WHOLE:
            message = f"the shares add up to {total:g}; write shares whose sum is 1"
            yield Problem(path=here, message=message)
    for name in ("context_length", "content_filter"):
        yield from _use((*path, "fallback", name), getattr(model.fallback, name), known)
    if model.hedge is not None and len(model.targets) < 2:
        message = "needs another target to ask: the model has one"
        yield Problem(path=(*path, "hedge"), message=message)
    if model.escalation is not None:
        yield from _escalation((*path, "escalation"), model, known)
    if model.off_peak is not None:
        hours, here = model.off_peak.hours, (*path, "off_peak", "hours")
        yield from zone_problem((*here, "zone"), hours.zone)
        if hours.start == hours.end:
            yield Problem(path=(*here, "end"), message="is the start: no hour lies between them")


def _escalation(path: Path, model: ModelConfig, known: dict[str, None]) -> Iterator[Problem]:
    assert model.escalation is not None
    tiers, check = model.escalation.tiers, model.escalation.check
    for index, use in enumerate(tiers):
        yield from _use((*path, "tiers", index), use, known)
        below = {word for tier in tiers[:index] for word in tier}
        for place, word in enumerate(use):
            if word in below:
                message = f'"{word}" stands in a tier below: what did not pass would be asked again'
                yield Problem(path=(*path, "tiers", index, place), message=message)
    if not (check.json_schema or check.refusal or check.judge):
        message = "checks nothing, so that no job goes up: name schema, refusal or a judge"
        yield Problem(path=(*path, "check"), message=message)
    if model.split is not None:
        message = "stands beside split: the arms would decide, and never the tiers; leave one out"
        yield Problem(path=path, message=message)


def _twice(path: Path, targets: Sequence[TargetConfig]) -> Iterator[Problem]:
    meant = [target.name or (target.account, target.model) for target in targets]
    for index, one in enumerate(meant):
        if one in meant[:index]:
            message = f"stands here already (targets[{meant.index(one)}]): give one of them a name"
            yield Problem(path=(*path, index), message=message)


def _use(path: Path, use: Sequence[str], known: dict[str, None]) -> Iterator[Problem]:
    for index, word in enumerate(use):
        if word not in known:
            message = f'no target "{word}" in this model{suggestion(word, known)}'
            yield Problem(path=(*path, index), message=message)


def _condition(path: Path, when: Condition, config: Config) -> Iterator[Problem]:
    if not when.model_dump(exclude_defaults=True):
        message = "says nothing, so that every job meets it: name tenants, classes, tags or a size"
        yield Problem(path=path, message=message)
    yield from language_problem((*path, "languages"), when.languages)
    for section in ("tenants", "projects", "apps"):
        for index, text in enumerate(getattr(when, section)):
            if ANYTHING in text[:-1]:
                message = f'"*" counts only at the end; write "{text[: text.index(ANYTHING)]}*"'
                yield Problem(path=(*path, section, index), message=message)
            elif (
                section == "tenants" and not text.endswith(ANYTHING) and text not in config.tenants
            ):
                message = f'no tenant "{text}"{suggestion(text, config.tenants)}'
                yield Problem(path=(*path, section, index), message=message)
    if (
        when.min_tokens is not None
        and when.max_tokens is not None
        and when.min_tokens > when.max_tokens
    ):
        message = f"is above max_tokens ({when.max_tokens}): no job can meet it"
        yield Problem(path=(*path, "min_tokens"), message=message)


def _residency(config: Config) -> Iterator[Problem]:
    """A region that no target is in would refuse all of a tenant's jobs."""
    there = {
        word
        for model in config.models.values()
        for target in model.targets
        for word in (*target.tags, *(() if target.region is None else (target.region,)))
    }
    for name, tenant in config.tenants.items():
        for index, region in enumerate(tenant.residency):
            if region not in there:
                message = f'no target has "{region}" as its region or among its tags{suggestion(region, there)}'
                yield Problem(path=("tenants", name, "residency", index), message=message)
