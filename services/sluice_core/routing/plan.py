"""A model's routing as the configuration says it, made ready to decide by: conditions, groups of candidates, splits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Final
from zoneinfo import ZoneInfo

from sluice_core.config.model import ModelConfig, TargetRef
from sluice_core.config.patterns import ANYTHING, matches
from sluice_core.config.routing import Check, Condition, OffPeak, Split, TargetConfig
from sluice_core.routing.language import language_of
from sluice_core.routing.model import ENDLESS, Ask, Candidate, Need, Strategy
from sluice_core.routing.spread import Group, fraction, seed_of

Test = Callable[[Ask], bool]
Costs = Callable[[TargetRef], tuple[float, float]]
"""What input and output of a target cost, in nano-dollars a token."""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Arm:
    """An arm, and where its part of the keys ends (0 to 1)."""

    name: str
    upto: float
    group: Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that decides where a model's jobs go, but the moment."""

    everything: Group
    routes: tuple[tuple[tuple[Test, ...], Group], ...] = ()
    split_by: str | None = None
    arms: tuple[_Arm, ...] = ()
    tiers: tuple[Group, ...] = ()
    check: Check | None = None
    off_peak: OffPeak | None = None
    after_context: Group | None = None
    after_filter: Group | None = None
    falls_back: frozenset[str] = frozenset()

    def group(self, ask: Ask) -> tuple[Group, str | None]:
        """The candidates of a job, and its arm if a split decided: conditions come first, in their order."""
        for tests, group in self.routes:
            for test in tests:
                if not test(ask):
                    break
            else:
                return group, None
        if self.split_by is not None:
            key = _split_key(self.split_by, ask)
            place = fraction(key)
            for arm in self.arms:
                if place < arm.upto:
                    return arm.group, arm.name
        if self.tiers:
            return self.tiers[min(ask.level, self.top)], None
        return self.everything, None

    def check_of(self, ask: Ask) -> Check | None:
        """What an answer to a job must pass; None where whatever comes is its answer: there is no next tier."""
        if self.check is None or ask.operation != "chat" or ask.level >= self.top:
            return None
        return self.check if self.group(ask)[0] in self.tiers else None

    @property
    def top(self) -> int:
        """The level of the last tier; 0 where there are none."""
        return max(0, len(self.tiers) - 1)

    @property
    def alike(self) -> bool:
        """Whether all jobs have the same candidates, so that where one waits all do."""
        return not (self.routes or self.arms or self.tiers or self.everything.limited)

    def after(self, failure: str) -> Group | None:
        """The targets that jobs go to after a failure that has its own; None: it has none."""
        if failure == "context_length":
            return self.after_context
        return self.after_filter if failure == "content_filter" else None

    def waits_until(self, ask: Ask, now: float) -> float | None:
        """When the cheaper hours of a job's class begin (epoch seconds); None: it need not wait."""
        if self.off_peak is None or ask.job_class not in self.off_peak.classes:
            return None
        begin = _next_hours(self.off_peak, now)
        return None if begin is None or begin >= ask.deadline else begin


def _split_key(by: str, ask: Ask) -> str:
    if by == "affinity":
        return ask.key or ask.job
    if by == "user":
        return ask.user or ask.key or ask.job
    if by == "project":
        return f"{ask.tenant}/{ask.project}"
    return ask.tenant if by == "tenant" else ask.job


def _next_hours(off_peak: OffPeak, now: float) -> float | None:
    hours = off_peak.hours
    zone = ZoneInfo(hours.zone)
    here = datetime.fromtimestamp(now, zone)
    clock = here.time().replace(tzinfo=None)
    if hours.start <= hours.end:
        within = hours.start <= clock < hours.end
    else:
        within = clock >= hours.start or clock < hours.end
    if within:
        return None
    start = datetime.combine(here.date(), hours.start, tzinfo=zone)
    if start <= here:
        start = datetime.combine(here.date() + _DAY, hours.start, tzinfo=zone)
    return start.astimezone(UTC).timestamp()


def plan_of(targets: Sequence[TargetRef], model: ModelConfig | None, costs: Costs) -> Plan:
    """The plan of the targets that a worker's pool serves; `model` is the entry they stand in, None: addressed alone.

    What an entry says of targets that are not among these is left out.
    """
    written = {} if model is None else {_key(t.account, t.model): t for t in model.targets}
    candidates = tuple(
        _candidate(
            place,
            ref,
            written.get(_key(ref.account, ref.model)) or written.get(_key(ref.account, None)),
            costs,
        )
        for place, ref in enumerate(targets)
    )
    if model is None:
        return Plan(everything=Group(candidates, "priority", "all targets"))
    named = _names(candidates)
    everything = Group(candidates, model.strategy, "all targets")

    def group(use: Iterable[str], strategy: Strategy | None, label: str) -> Group:
        chosen = dict.fromkeys(c for name in use for c in named.get(name, ()))
        return Group(tuple(chosen), strategy or model.strategy, label)

    routes = tuple(
        (_tests(route.when), group(route.use, route.strategy, f"routes[{index}]"))
        for index, route in enumerate(model.routes)
    )
    fallback = model.fallback
    return Plan(
        everything=everything,
        routes=routes,
        split_by=None if model.split is None else model.split.by,
        arms=() if model.split is None else _arms(model.split, group),
        tiers=()
        if model.escalation is None
        else tuple(
            group(use, None, f"tier {number}")
            for number, use in enumerate(model.escalation.tiers, start=1)
        ),
        check=None if model.escalation is None else model.escalation.check,
        off_peak=model.off_peak,
        after_context=group(fallback.context_length, "priority", "fallback.context_length")
        if fallback.context_length
        else None,
        after_filter=group(fallback.content_filter, "priority", "fallback.content_filter")
        if fallback.content_filter
        else None,
        falls_back=frozenset(fallback.on),
    )


def _key(account: str, model: str | None) -> tuple[str, str | None]:
    return account, model


def _names(candidates: Sequence[Candidate]) -> Mapping[str, list[Candidate]]:
    named: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        words = {candidate.name, candidate.account, f"{candidate.account}/{candidate.model}"}
        for word in words:
            named.setdefault(word, []).append(candidate)
    return named


def _candidate(place: int, ref: TargetRef, written: TargetConfig | None, costs: Costs) -> Candidate:
    name = f"{ref.account}/{ref.model}"
    input_nano, output_nano = costs(ref)
    if written is None:
        return Candidate(
            place=place,
            name=name,
            account=ref.account,
            model=ref.model,
            seed=seed_of(ref.account),
            input_nano=input_nano,
            output_nano=output_nano,
        )
    can = written.capabilities
    lacks = Need.NOTHING
    for need, able in (
        (Need.VISION, can.vision),
        (Need.TOOLS, can.tools),
        (Need.JSON, can.json_output),
        (Need.STREAMING, can.streaming),
    ):
        if able is False:
            lacks |= need
    return Candidate(
        place=place,
        name=written.name or name,
        account=ref.account,
        model=ref.model,
        weight=written.weight,
        region=written.region,
        tier=written.tier,
        regions=frozenset((*written.tags, *(() if written.region is None else (written.region,)))),
        lacks=lacks,
        context=ENDLESS if can.context is None else float(can.context),
        quality=written.quality or 0.0,
        timeouts=written.timeouts,
        input_nano=input_nano,
        output_nano=output_nano,
        seed=seed_of(ref.account),
    )


def _arms(
    split: Split, group: Callable[[Iterable[str], Strategy | None, str], Group]
) -> tuple[_Arm, ...]:
    total = sum(arm.share for arm in split.arms)
    upto, arms = 0.0, []
    for arm in split.arms:
        upto += arm.share / total
        arms.append(_Arm(arm.name, upto, group(arm.use, None, f"arm {arm.name}")))
    arms[-1] = _Arm(arms[-1].name, 2.0, arms[-1].group)
    return tuple(arms)


def _tests(when: Condition) -> tuple[Test, ...]:
    """What a job must pass, the cheapest first; what is not asked costs nothing."""
    tests: list[Test] = []
    if when.classes:
        classes = frozenset(map(str, when.classes))
        tests.append(lambda ask: ask.job_class in classes)
    if when.operations:
        operations = frozenset(map(str, when.operations))
        tests.append(lambda ask: ask.operation in operations)
    if when.tenants:
        tests.append(_any_of(when.tenants, attrgetter("tenant")))
    if when.projects:
        tests.append(_any_of(when.projects, attrgetter("project")))
    if when.apps:
        tests.append(_any_of(when.apps, attrgetter("app")))
    if when.min_tokens is not None:
        least = when.min_tokens
        tests.append(lambda ask: ask.input_tokens >= least)
    if when.max_tokens is not None:
        most = when.max_tokens
        tests.append(lambda ask: ask.input_tokens <= most)
    if when.languages:
        languages = frozenset(when.languages)
        tests.append(lambda ask: bool(ask.body) and language_of(ask.body) in languages)
    tests += (_tagged(name, pattern) for name, pattern in when.tags.items())
    return tuple(tests)


def _any_of(patterns: Sequence[str], value: Callable[[Ask], str | None]) -> Test:
    exact = frozenset(p for p in patterns if not p.endswith(ANYTHING))
    starts = tuple(p[:-1] for p in patterns if p.endswith(ANYTHING))
    if not starts:
        return lambda ask: value(ask) in exact

    def test(ask: Ask) -> bool:
        text = value(ask) or ""
        return text in exact or text.startswith(starts)

    return test


def _tagged(name: str, pattern: str) -> Test:
    return lambda ask: any(tag == name and matches(pattern, value) for tag, value in ask.tags)
