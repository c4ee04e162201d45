"""Plans out of a configuration's text, as tests want them."""

from collections import Counter
from collections.abc import Sequence
from functools import cache

from sluice_core.config.load import parse_config
from sluice_core.config.model import Config, TargetRef, resolve_model
from sluice_core.routing.model import Ask, Moment, Now
from sluice_core.routing.plan import Plan, plan_of
from sluice_core.routing.policy import decide

ACCOUNTS = ("a", "b", "c")


def text_of(model: str, *, tenants: str = "", accounts: Sequence[str] = ACCOUNTS) -> str:
    providers = "\n".join(f"  {a}: {{kind: openai, base_url: 'http://{a}'}}" for a in accounts)
    indented = "\n".join("    " + line for line in model.strip("\n").splitlines())
    return f"providers:\n{providers}\nmodels:\n  fast:\n{indented}\n{tenants}"


@cache
def _parsed(text: str) -> Config:
    return parse_config(text, {})


def plan_from(
    model: str, *, prices: dict[str, tuple[float, float]] | None = None, tenants: str = ""
) -> Plan:
    config = _parsed(text_of(model, tenants=tenants))

    def costs(ref: TargetRef) -> tuple[float, float]:
        return (prices or {}).get(ref.account, (0.0, 0.0))

    return plan_of(resolve_model(config, "fast"), config.models["fast"], costs)


def moment_of(plan: Plan, **states: Now) -> Moment:
    """A moment in which the accounts named stand as given, the others as nothing is known of them."""
    nows = [states.get(c.account, Now()) for c in plan.everything.candidates]
    return Moment(
        nows=nows,
        shut_until=max((state.shut_until for state in nows), default=0.0),
        probing=any(state.probing for state in nows),
    )


def chosen(
    plan: Plan,
    ask: Ask,
    states: dict[str, Now] | None = None,
    *,
    draw: float = 0.5,
    now: float = 1.0,
) -> str | None:
    """The account that a job goes to."""
    decision = decide(plan, moment_of(plan, **(states or {})), ask, now=now, draw=draw)
    return None if decision.chosen is None else decision.chosen.account


def spread(plan: Plan, asks: Sequence[Ask]) -> Counter[str | None]:
    """How often each account is chosen, the draws evenly over 0 to 1."""
    count = len(asks)
    return Counter(chosen(plan, ask, draw=(n + 0.5) / count) for n, ask in enumerate(asks))
