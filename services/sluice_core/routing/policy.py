"""Pure: which of a model's targets a job goes to now, and why. What is known of the moment comes in as values."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from sluice_core.routing.model import ENDLESS, Ask, Candidate, Decision, Look, Moment, Now, Strategy
from sluice_core.routing.plan import Plan
from sluice_core.routing.spread import Group, nearest
from sluice_platform.values import frozen_value

_TIE = 1e-9


@frozen_value
class _Pick:
    """What a strategy chooses from: `kept` of the candidates of `group`."""

    kept: Sequence[Candidate]
    group: Group
    moment: Moment
    ask: Ask
    draw: float


def decide(
    plan: Plan,
    moment: Moment,
    ask: Ask,
    *,
    now: float,
    draw: float,
    within: Group | None = None,
    untried: bool = False,
    explained: bool = False,
) -> Decision:
    """Choose a target: the conditions' candidates, less those that cannot or may not, ranked by the strategy.

    `moment` is what is known of the plan's candidates; `now` is in epoch seconds, `draw` random from 0 to below 1. `within` instead of what the conditions say. Of targets that failed the job before one is asked again
    only where no other is left, and never with `untried`. A half-open target comes first: somebody has to find out.
    With `explained` every candidate's fate is told.
    """
    if within is not None:
        group, arm = within, None
    else:
        group, arm = plan.group(ask)
        waits = plan.waits_until(ask, now)
        if waits is not None:
            return Decision(chosen=None, why="waits for cheaper hours", until=waits, arm=arm)
    if moment.shut_until <= now and not (
        moment.probing
        or ask.tried
        or ask.regions
        or explained
        or (group.limited and _demanding(ask))
    ):
        pick = _Pick(kept=group.candidates, group=group, moment=moment, ask=ask, draw=draw)
        chosen, why = _RANKS[group.strategy](pick)
        return Decision(chosen=chosen, why=_whose(group, plan, why), arm=arm)
    sieve = _Sieve(ask, moment, now, explained=explained)
    for candidate in group.candidates:
        sieve.take(candidate)
    kept = sieve.kept if sieve.kept or untried else sieve.again
    if not kept:
        until, why = sieve.nothing
        return Decision(chosen=None, why=why, until=until, arm=arm, looks=tuple(sieve.looks))
    chosen, why = _chosen(_Pick(kept=kept, group=group, moment=moment, ask=ask, draw=draw))
    if len(kept) < len(group.candidates):
        why = f"{why}, of {len(kept)} of {len(group.candidates)}"
    return Decision(chosen=chosen, why=_whose(group, plan, why), arm=arm, looks=tuple(sieve.looks))


def decide_in_tiers(
    plan: Plan,
    moment: Moment,
    ask: Ask,
    *,
    now: float,
    draw: float,
    within: Group | None = None,
    untried: bool = False,
    explained: bool = False,
) -> tuple[Decision, Ask]:
    """As `decide`; where no target of the job's tier can take it that has not failed it, the next tier is asked.

    Returns the job as it stands then, too: at the level of the tier that takes it.
    """
    decision = decide(
        plan,
        moment,
        ask,
        now=now,
        draw=draw,
        within=within,
        untried=untried,
        explained=explained,
    )
    if within is not None or not plan.tiers or plan.group(ask)[0] not in plan.tiers:
        return decision, ask
    if decision.chosen is not None and decision.chosen.name not in ask.tried:
        return decision, ask
    for level in range(ask.level + 1, plan.top + 1):
        higher = replace(ask, level=level)
        found = decide(plan, moment, higher, now=now, draw=draw, untried=True, explained=explained)
        if found.chosen is not None:
            return replace(found, looks=(*decision.looks, *found.looks)), higher
    return decision, ask


def _whose(group: Group, plan: Plan, why: str) -> str:
    return why if group is plan.everything else f"{group.label}: {why}"


def _demanding(ask: Ask) -> bool:
    """Whether a target might not be able to serve it; any may be too small for it."""
    return bool(ask.needs or ask.input_tokens or ask.most_output)


class _Sieve:
    """Sorts candidates into those that can serve a job now, those that failed it, and those that cannot."""

    def __init__(self, ask: Ask, moment: Moment, now: float, *, explained: bool) -> None:
        self._ask, self._nows, self._now = ask, moment.nows, now
        self._explained = explained
        self._size = ask.input_tokens + ask.most_output
        self._soonest, self._shut = ENDLESS, ""
        self.kept: list[Candidate] = []
        self.again: list[Candidate] = []
        self.looks: list[Look] = []

    @property
    def nothing(self) -> tuple[float | None, str]:
        """Until when there is none, as far as that is known, and why."""
        if self._soonest != ENDLESS:
            return self._soonest, self._shut
        return None, "every target has failed it" if self.again else "no target can take it"

    def take(self, candidate: Candidate) -> None:
        """Sort one candidate."""
        ask, state = self._ask, self._nows[candidate.place]
        if (
            ask.needs & candidate.lacks
            or self._size > candidate.context
            or (ask.regions and not ask.regions & candidate.regions)
        ):
            self._note(candidate, _unfit(candidate, ask) if self._explained else "")
        elif state.shut_until > self._now:
            again_at = state.again_at or state.shut_until
            if again_at < self._soonest:
                self._soonest, self._shut = again_at, f"{candidate.name}: {state.why}"
            self._note(candidate, f"{state.why}, for {max(0.0, again_at - self._now):.1f} s")
        elif candidate.name in ask.tried:
            self.again.append(candidate)
            self._note(candidate, "failed this job before")
        else:
            self.kept.append(candidate)
            self._note(
                candidate, _standing(candidate, state, ask) if self._explained else "", kept=True
            )

    def _note(self, candidate: Candidate, why: str, *, kept: bool = False) -> None:
        if self._explained:
            self.looks.append(Look(name=candidate.name, kept=kept, why=why))


def _chosen(pick: _Pick) -> tuple[Candidate, str]:
    if pick.moment.probing:
        for candidate in pick.kept:
            if pick.moment.nows[candidate.place].probing:
                return candidate, "probe"
    return _RANKS[pick.group.strategy](pick)


def _priority(pick: _Pick) -> tuple[Candidate, str]:
    return pick.kept[0], "priority"


def _weighted(pick: _Pick) -> tuple[Candidate, str]:
    if pick.ask.key is not None:
        return _nearest(pick, pick.kept), "weighted, by affinity"
    kept, group = pick.kept, pick.group
    whole = len(kept) == len(group.candidates)
    left = pick.draw * (group.weights if whole else sum(candidate.weight for candidate in kept))
    for candidate in kept:
        left -= candidate.weight
        if left < 0:
            return candidate, "weighted"
    return kept[-1], "weighted"


def _cheapest(pick: _Pick) -> tuple[Candidate, str]:
    given, gotten = pick.ask.input_tokens, pick.ask.output_tokens
    costs = [c.input_nano * given + c.output_nano * gotten for c in pick.kept]
    least = min(costs) * (1 + _TIE)
    equal = [c for c, cost in zip(pick.kept, costs, strict=True) if cost <= least]
    return _one_of(pick, equal), "cheapest"


def _quality(pick: _Pick) -> tuple[Candidate, str]:
    best = max([candidate.quality for candidate in pick.kept])
    return _one_of(pick, [c for c in pick.kept if c.quality >= best]), "quality"


def _least_busy(pick: _Pick) -> tuple[Candidate, str]:
    if pick.ask.key is not None:
        return _nearest(pick, pick.kept), "least busy, by affinity"
    return _quietest(pick.kept, pick.moment), "least busy"


def _fastest(pick: _Pick) -> tuple[Candidate, str]:
    """Power of two choices (Mitzenmacher, 2001): all running to the fastest would make it the slowest."""
    if pick.ask.key is not None:
        return _nearest(pick, pick.kept), "fastest, by affinity"
    count = len(pick.kept)
    if count == 1:
        return pick.kept[0], "fastest"
    first = int(pick.draw * count)
    second = (first + 1 + int((pick.draw * count - first) * (count - 1))) % count
    one, other = pick.kept[first], pick.kept[second]
    faster = one if _time(pick, one) <= _time(pick, other) else other
    return faster, "fastest of two"


_RANKS: dict[Strategy, Callable[[_Pick], tuple[Candidate, str]]] = {
    "priority": _priority,
    "weighted": _weighted,
    "cheapest": _cheapest,
    "fastest": _fastest,
    "least_busy": _least_busy,
    "quality": _quality,
}


def _nearest(pick: _Pick, among: Sequence[Candidate]) -> Candidate:
    return nearest(pick.ask.key or "", pick.group, among, pick.moment)


def _one_of(pick: _Pick, equal: Sequence[Candidate]) -> Candidate:
    """Among equals the one that a key belongs to, else the quietest."""
    if len(equal) == 1:
        return equal[0]
    return _quietest(equal, pick.moment) if pick.ask.key is None else _nearest(pick, equal)


def _quietest(kept: Sequence[Candidate], moment: Moment) -> Candidate:
    nows, best, least = moment.nows, kept[0], ENDLESS
    for candidate in kept:
        busy = nows[candidate.place].in_flight / candidate.weight
        if busy < least:
            best, least = candidate, busy
    return best


def _time(pick: _Pick, candidate: Candidate) -> float:
    """Seconds that an answer will likely take; what was never asked counts as fast, so that it is found out."""
    state = pick.moment.nows[candidate.place]
    return state.first_s + state.token_s * pick.ask.output_tokens


def _unfit(candidate: Candidate, ask: Ask) -> str:
    lacking = ask.needs & candidate.lacks
    if lacking:
        return f"cannot do {lacking.label}"
    if ask.regions and not ask.regions & candidate.regions:
        return f"is not in {', '.join(sorted(ask.regions))}"
    return f"its context of {candidate.context:.0f} tokens is too small"


def _standing(candidate: Candidate, state: Now, ask: Ask) -> str:
    cost = candidate.cost(ask.input_tokens, ask.output_tokens)
    told = [
        f"weight {candidate.weight:g}",
        f"about ${cost / 1e9:.9f}",
        f"{state.in_flight} in flight",
    ]
    if candidate.quality:
        told.append(f"quality {candidate.quality:g}")
    if state.first_s or state.token_s:
        told.append(f"about {state.first_s + state.token_s * ask.output_tokens:.2f} s")
    if state.probing:
        told.append("half open")
    return ", ".join(told)
