"""Pure: how a scope stands, as people read it: what is used of each rate, and when the next is free."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sluice_core.admission.model import HEADROOM, PERIOD_S, Rate, ScopeState
from sluice_core.admission.policy import free_at
from sluice_schemas.classes import JobClass


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStanding:
    """A rate as it stands. `used`: of `burst` units that may come at once, or of a calendar period's `limit`.

    More than that may be used of expected tokens, which overdraw. `next_at`: by class, when it may draw again;
    None: now.
    """

    meter: str
    limit: float
    per: str
    burst: float | None
    used: float
    next_at: dict[str, datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeStanding:
    """A scope as it stands. `allowed`: what its account was found to bear at once, None where it is not known to be less."""

    scope: str
    rates: tuple[RateStanding, ...]
    in_flight: int
    max_in_flight: int | None
    allowed: int | None
    blocked_until: datetime | None
    weight: float
    virtual_tokens: dict[str, float]


def standing(state: ScopeState, *, now: float) -> ScopeStanding:
    """A scope as it stands at `now` (epoch seconds)."""
    definition = state.definition
    blocked = state.blocked_until > now
    return ScopeStanding(
        scope=f"{definition.kind.label}:{definition.name}",
        rates=tuple(
            _rate(state, number, rate, now=now) for number, rate in enumerate(definition.rates)
        ),
        in_flight=state.in_flight,
        max_in_flight=definition.max_in_flight,
        allowed=None if state.allowed is None else int(state.allowed),
        blocked_until=_time(state.blocked_until) if blocked else None,
        weight=definition.weight,
        virtual_tokens={known.label: state.virtual[known] for known in JobClass},
    )


def _rate(state: ScopeState, number: int, rate: Rate, *, now: float) -> RateStanding:
    over = rate.unit is not None and state.ends[number] <= now * 1e6
    level = 0.0 if over else state.levels[number * 3]
    # A calendar rate is a count; one that slides is a clock, ahead of time by what has not drained yet.
    used = level if rate.unit is not None else max(0.0, level - now * 1e6) / rate.step_us
    next_at: dict[str, datetime | None] = {}
    for job_class in JobClass:
        free = None if over else free_at(state, number, rate, 1, job_class=job_class, now=now)
        next_at[job_class.label] = None if free is None else _time(free)
    return RateStanding(
        meter=rate.meter.label,
        limit=rate.limit,
        per=per(rate),
        burst=rate.burst if rate.unit is None else None,
        used=used,
        next_at=next_at,
    )


def per(rate: Rate) -> str:
    """The period of a rate, as the configuration calls it."""
    if rate.unit is not None:
        return rate.unit
    seconds = rate.limit * rate.step_us / 1e6
    return min(PERIOD_S, key=lambda name: abs(PERIOD_S[name] - seconds))


def describe(rate: Rate, job_class: JobClass = JobClass.REALTIME) -> str:
    """A rate in words, such as `80 % of 600 requests a minute`."""
    share = HEADROOM[job_class]
    of = "" if share == 1 else f"{share:.0%} of ".replace("%", " %")
    return f"{of}{rate.limit:,.0f} {rate.meter.label} a {per(rate)}"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
