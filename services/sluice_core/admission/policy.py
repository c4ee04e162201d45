"""Pure: who of a batch may begin, and what an ended attempt gives back. The twins of `begin_v2` and `give_back_v2`.

The deciding happens in the database, where the locks are; tests hold the two against each other. A rate is a
GCRA (ITU-T I.371): a clock that every unit moves on by a step, allowed to run ahead of time by its burst. It is
kept once for all classes and once more for standard and bulk, whose clocks run faster, so that they leave room.
"""

import math
from collections.abc import Sequence

from sluice_core.admission.model import (
    HEADROOM,
    Ask,
    Ended,
    Meter,
    PeriodState,
    Rate,
    Reply,
    ScopeKind,
    ScopeState,
)
from sluice_core.jobs.policy import Begin

RECHECK_S = 0.05
"""When to ask again where nobody can say when a slot, or others' money, becomes free."""


LEAST_BEARABLE = 10.0
"""No account is taken to bear less at once: with one or two slots a single call that hangs would stop it."""


def admit(
    asks: Sequence[Ask],
    scopes: Sequence[ScopeState],
    periods: Sequence[PeriodState],
    *,
    now: float,
) -> list[Reply]:
    """Answer a batch, ask by ask, and charge what begins to the states. `now` in epoch seconds."""
    replies = []
    for ask in asks:
        reply = _answer(ask, scopes, periods, now)
        if reply.answer is Begin.BEGUN:
            _charge(ask, scopes, periods, now)
        replies.append(reply)
    return replies


def _answer(
    ask: Ask, scopes: Sequence[ScopeState], periods: Sequence[PeriodState], now: float
) -> Reply:
    over = _money(ask, periods, now)
    if over is not None and over.answer is Begin.OVER_BUDGET:
        return over
    latest = over or Reply(answer=Begin.BEGUN)
    headroom = HEADROOM[ask.job_class]
    for place in ask.scopes:
        scope = scopes[place]
        if scope.blocked_until > now and scope.blocked_until > latest.until:
            latest = Reply(answer=Begin.COOLING, until=scope.blocked_until, cause=place)
        bearable = [n for n in (scope.definition.max_in_flight, scope.allowed) if n is not None]
        if bearable and scope.in_flight >= max(1, math.floor(min(bearable) * headroom)):
            latest = _later(latest, Begin.AT_CAPACITY, now + RECHECK_S, place)
        for number, rate in enumerate(scope.definition.rates):
            amount = _amount(ask, scope.definition.kind, rate)
            if amount is None:
                continue
            if rate.meter is Meter.TOKENS_BOUND and amount > _most(rate, headroom):
                return Reply(answer=Begin.TOO_LARGE, cause=place)
            free = free_at(scope, number, rate, amount, job_class=ask.job_class, now=now)
            if free is not None:
                latest = _later(latest, Begin.RATE_LIMITED, free, place)
    return latest


def _later(latest: Reply, answer: Begin, until: float, cause: int) -> Reply:
    return Reply(answer=answer, until=until, cause=cause) if until > latest.until else latest


def _money(ask: Ask, periods: Sequence[PeriodState], now: float) -> Reply | None:
    """Whether a hard budget is in the way: for good, where what is spent and held leaves too little."""
    found: Reply | None = None
    for place in ask.periods:
        period = periods[place]
        if not period.hard:
            continue
        cause = -1 - place
        if period.used_nano + ask.worst_nano > period.cap_nano:
            final = found is not None and found.answer is Begin.OVER_BUDGET
            if not final or (found is not None and period.ends > found.until):
                found = Reply(answer=Begin.OVER_BUDGET, until=period.ends, cause=cause)
        elif (
            found is None
            and period.used_nano + period.reserved_nano + ask.worst_nano > period.cap_nano
        ):
            found = Reply(answer=Begin.BUDGET_BUSY, until=now + RECHECK_S, cause=cause)
    return found


def _amount(ask: Ask, kind: ScopeKind, rate: Rate) -> float | None:
    """Units of a rate that an ask needs; None where it is the same request as before."""
    if rate.meter is Meter.REQUESTS:
        return 1 if ask.first or kind.counts_attempts else None
    return ask.tokens if rate.meter is Meter.TOKENS else ask.bound


def _most(rate: Rate, headroom: float) -> float:
    return rate.limit * headroom if rate.unit is not None else rate.burst


def free_at(
    scope: ScopeState, number: int, rate: Rate, amount: float, *, job_class: int, now: float
) -> float | None:
    """When an amount fits into a rate (epoch seconds); None: now."""
    headroom, now_us = HEADROOM[job_class], now * 1e6
    if rate.unit is not None:
        needs = min(amount, 1) if rate.meter is Meter.TOKENS else amount
        share = rate.limit * headroom
        if rate.meter is not Meter.TOKENS_BOUND:
            share = max(
                1, share
            )  # of a limit of one a class's share is one: else it would never come
        if scope.levels[number * 3] + needs <= share:
            return None
        return scope.ends[number] / 1e6
    own = max(scope.levels[number * 3 + job_class], now_us)
    all_classes = max(scope.levels[number * 3], now_us)
    if rate.meter is Meter.TOKENS:
        # Debt: what is expected may overdraw the bucket, and nobody draws on one that is overdrawn.
        full = rate.burst * rate.step_us
        free = max(own - full / headroom, all_classes - full) + 1
    else:
        ahead = (amount - rate.burst) * rate.step_us
        free = max(own + ahead / headroom, all_classes + ahead)
    return None if free <= now_us + 0.5 else free / 1e6


def _charge(
    ask: Ask, scopes: Sequence[ScopeState], periods: Sequence[PeriodState], now: float
) -> None:
    for order, place in enumerate(ask.scopes):
        scope = scopes[place]
        scope.in_flight += 1
        if order < 2:
            virtual = max(scope.virtual[ask.job_class], ask.floors[order])
            scope.virtual[ask.job_class] = virtual + ask.tokens / scope.definition.weight
        for number, rate in enumerate(scope.definition.rates):
            amount = _amount(ask, scope.definition.kind, rate)
            if amount is not None:
                _move(scope, number, rate, amount, job_class=ask.job_class, now_us=now * 1e6)
    for place in ask.periods:
        periods[place].reserved_nano += ask.worst_nano


def _move(
    scope: ScopeState, number: int, rate: Rate, amount: float, *, job_class: int, now_us: float
) -> None:
    first = number * 3
    if rate.unit is not None:
        scope.levels[first] += amount
        return
    everyone = max(scope.levels[first], now_us) + amount * rate.step_us
    scope.levels[first] = everyone
    for other in (1, 2):
        step = rate.step_us / HEADROOM[other]
        level = max(scope.levels[first + other], now_us)
        moved = level + amount * step
        if other != job_class:
            # What other classes use is no debt of this one beyond what it could have lent.
            moved = max(level, min(moved, max(everyone, now_us + rate.burst * step)))
        scope.levels[first + other] = moved


def give_back(
    ended: Sequence[Ended],
    scopes: Sequence[ScopeState],
    periods: Sequence[PeriodState],
    *,
    now: float,
) -> None:
    """Release what ended attempts had drawn; of their tokens the rest comes back, or is owed."""
    for place, scope in enumerate(scopes):
        mine = [one for one in ended if place in one.scopes]
        if not mine:
            continue
        for one in mine:
            if place in one.scopes[:2]:
                scope.virtual[one.job_class] += (one.used - one.tokens) / scope.definition.weight
        for number, rate in enumerate(scope.definition.rates):
            if rate.meter is not Meter.REQUESTS:
                _true_up(scope, number, rate, mine, now * 1e6)
        if scope.definition.kind is ScopeKind.TARGET:
            cool = [one.cool_until for one in mine if one.cool_until is not None]
            scope.blocked_until = max([scope.blocked_until, *cool])
        if scope.definition.kind is ScopeKind.ACCOUNT:
            scope.allowed = bearable(
                scope.allowed,
                in_flight=scope.in_flight,
                most=scope.definition.max_in_flight,
                pressures=[one.pressure for one in mine if one.pressure is not None],
            )
        scope.in_flight = max(0, scope.in_flight - len(mine))
    for one in ended:
        for place in one.periods:
            periods[place].reserved_nano -= one.worst_nano
            periods[place].used_nano += one.cost_nano + one.held_nano


def bearable(
    allowed: float | None, *, in_flight: int, most: int | None, pressures: Sequence[float]
) -> float | None:
    """What an account bears at once after these signs: additive increase, multiplicative decrease.

    Each pressure of 1 is an answer in good time; one below cuts to that share. None: no bound is known.
    """
    cuts = [pressure for pressure in pressures if pressure < 1]
    if cuts:
        reached = in_flight if allowed is None else min(allowed, in_flight)
        return max(LEAST_BEARABLE, reached * min(cuts))
    if allowed is None:
        return None
    grown = allowed + len(pressures) / allowed
    return None if grown > (most or max(100, 4 * in_flight)) else grown


def _true_up(
    scope: ScopeState, number: int, rate: Rate, ended: Sequence[Ended], now_us: float
) -> None:
    strict = rate.meter is Meter.TOKENS_BOUND
    dues = [0.0, 0.0, 0.0]
    for one in ended:
        dues[one.job_class] += one.used - (one.bound if strict else one.tokens)
    total, first = sum(dues), number * 3
    if rate.unit is not None:
        if scope.ends[number] > now_us:
            scope.levels[first] = max(0.0, scope.levels[first] + total)
        return
    for job_class, headroom in enumerate(HEADROOM):
        step = rate.step_us / headroom
        own = total if job_class == 0 else dues[job_class]
        level = _moved(scope.levels[first + job_class], own * step, now_us)
        rest = total - own
        if rest > 0:
            lent = max(scope.levels[first], now_us + rate.burst * step)
            level = max(level, min(max(level, now_us) + rest * step, lent))
        elif rest < 0:
            level = _moved(level, rest * step, now_us)
        scope.levels[first + job_class] = level


def _moved(level: float, by_us: float, now_us: float) -> float:
    """A credit covers only what has not drained yet; a debt begins now at the earliest."""
    if by_us > 0:
        return max(level, now_us) + by_us
    return max(now_us, level + by_us) if level > now_us else level
