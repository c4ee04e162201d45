"""What a file of jobs comes to: cost, refusals, budgets and time, from values alone."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sluice_core.admission.definitions import rates_of
from sluice_core.admission.expectations import FIRST_OUTPUT
from sluice_core.admission.model import HEADROOM, Ask, ScopeDefinition, ScopeKind, ScopeState
from sluice_core.admission.policy import admit
from sluice_core.config.load import parse_config
from sluice_core.config.scopes import ScopeLimits
from sluice_core.forecast.appraise import Appraiser
from sluice_core.forecast.conclude import Forecast, conclude, configured_budgets
from sluice_core.forecast.model import (
    Appraisal,
    BudgetState,
    Lines,
    Load,
    Recent,
    Refusal,
    Standing,
)
from sluice_core.forecast.policy import at_once, fit, under_rates
from sluice_core.forecast.tally import KEPT_GROUPS, KEPT_SCOPES, OTHERS, Tally
from sluice_core.intake.authenticate import Caller
from sluice_core.jobs.policy import Begin
from sluice_core.pricing.book import PriceBook
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode

CONFIG = """
providers:
  openai:
    {kind: openai, base_url: "http://x", limits: {requests: {limit: 60, per: minute, burst: 1}, concurrency: 10}}
models:
  fast: {targets: [{account: openai, model: m}], prices: {input: 1, output: 10}}
  seen: {targets: [{account: openai, model: m}], prices: {input: 1, output: 10}, item_tokens: {image: 500}}
  vectors: {targets: [{account: openai, model: v}], prices: {input: 1}}
  smart: {targets: [{account: openai, model: m}]}
  free: {targets: [{account: openai, model: nobody-knows-it}]}
tenants:
  acme:
    teams: {ml: {}}
    projects: {search: {team: ml, budgets: {usd: 5, per: day, kind: soft}}}
    budgets: {usd: 0.05, per: month}
    policy: {models: {deny: [smart]}, max_tokens: 5000, max_cost_usd: 0.04}
    users: {ann: {limits: {tokens: {limit: 600, per: minute, burst: 600, reserve: bound}}}}
limits: {record_bytes: 4KiB}
"""
AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
BOOK = PriceBook()
MESSAGES = [{"role": "user", "content": "Hello there"}]
IMAGE = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}
]


def appraiser(recent: Any = None, config: str = CONFIG, **caller: Any) -> Appraiser:
    return Appraiser(
        parse_config(config, {}),
        BOOK,
        caller=Caller(tenant="acme", reply_topics=frozenset(), **caller),
        job_class=JobClass.BULK,
        recent=recent or {},
        at=AT,
    )


def job(model: str = "fast", options: Any = None, **body: Any) -> dict[str, Any]:
    whole = {"model": model, "messages": MESSAGES, "max_tokens": 100, **body}
    return {"body": whole, "options": options or {}}


def taken(line: dict[str, Any], of: Appraiser | None = None) -> Appraisal:
    found = (of or appraiser()).appraise(1, line)
    assert isinstance(found, Appraisal), found
    return found


def test_a_job_costs_a_quarter_of_its_bytes_and_the_recent_answer() -> None:
    found = taken(job(max_tokens=1000))
    assert found.output_tokens == FIRST_OUTPUT
    assert found.expected_nano == found.input_tokens * 1_000 + FIRST_OUTPUT * 10_000
    recent = {("acme", "fast"): Recent(output_tokens=40.4, provider_ms=500)}
    known = taken(job(max_tokens=1000), appraiser(recent))
    assert (known.output_tokens, known.provider_ms) == (40, 500)
    assert taken(job(max_tokens=30), appraiser(recent)).output_tokens == 30
    assert found.worst_nano >= 1000 * 10_000 > found.expected_nano


def test_an_embedding_has_no_answer_to_pay() -> None:
    line = {"url": "/v1/embeddings", "body": {"model": "vectors", "input": "x" * 40}}
    found = taken(line)
    assert (found.operation, found.output_tokens) == ("embeddings", 0)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (job("smart"), ErrorCode.FORBIDDEN, "may not use the model smart"),
        (job("nope"), ErrorCode.UNKNOWN_MODEL, "no model nope"),
        (job(max_tokens=5001), ErrorCode.FORBIDDEN, "at most 5000 output tokens"),
        (job(max_tokens=5000), ErrorCode.FORBIDDEN, "may cost at most 0.04"),
        (job(options={"project": "serch"}), ErrorCode.UNKNOWN_PROJECT, "no project"),
        (job(options={"max_cost_usd": "0.000001"}), ErrorCode.BUDGET_EXCEEDED, "max_cost_usd"),
        (job(options={"user": "ann"}, max_tokens=600), ErrorCode.TOO_LARGE, "user acme/ann"),
        (
            job(messages=[{"role": "user", "content": "x" * 5000}]),
            ErrorCode.TOO_LARGE,
            "record_bytes",
        ),
        (job(seed=2**70), ErrorCode.INVALID_RECORD, "not carried"),
        (job(messages=[]), ErrorCode.INVALID_RECORD, "messages"),
        ({"body": 5}, ErrorCode.INVALID_RECORD, "body"),
    ],
)
def test_what_would_be_refused(line: dict[str, Any], code: ErrorCode, words: str) -> None:
    found = appraiser().appraise(7, line)
    assert isinstance(found, Refusal)
    assert (found.number, found.code) == (7, code)
    assert words in found.message


def test_a_policy_that_refuses_is_named() -> None:
    found = appraiser().appraise(1, job("smart"))
    assert isinstance(found, Refusal)
    assert found.rule == 'tenant acme: policy.models.deny "smart"'
    dear = appraiser().appraise(1, job(max_tokens=5000))
    assert isinstance(dear, Refusal)
    assert dear.rule == "tenant acme: policy.max_cost_usd 0.040000000"


def test_a_key_binds_its_jobs() -> None:
    of = appraiser(project="search", key_id="sgk_1")
    assert (ScopeKind.PROJECT, "acme/search") in taken(job(), of).scopes
    assert (ScopeKind.TEAM, "acme/ml") in taken(job(), of).scopes
    other = of.appraise(1, job(options={"project": "support"}))
    assert isinstance(other, Refusal)


def test_users_are_scopes_only_where_something_is_said_of_them() -> None:
    ann, bob = (taken(job(options={"user": user})) for user in ("ann", "bob"))
    assert (ScopeKind.USER, "acme/ann") in ann.scopes
    assert all(kind is not ScopeKind.USER for kind, _ in bob.scopes)


def test_what_has_no_bound_says_why() -> None:
    assert "remote image" in str(taken(job(messages=IMAGE)).endless)
    seen = taken(job("seen", messages=IMAGE))
    assert seen.endless is None
    assert seen.input_tokens > 500
    free = taken(job("free"))
    assert (free.priced, free.expected_nano) == (False, 0)
    assert "no price of free" in str(free.endless)


def load(**given: Any) -> Load:
    return Load(
        **{"jobs": 10, "expected_nano": 100, "worst_nano": 1000, "dearest_nano": 150, **given}
    )


@pytest.mark.parametrize(
    ("remaining", "hard", "unbounded", "enough", "verdict"),
    [
        (1000, True, 0, True, "enough"),
        (999, True, 0, True, "enough if answers are as expected"),
        (149, True, 0, False, "too little for the dearest job at most"),
        (99, True, 0, False, "too little"),
        (-5, True, 0, False, "too little"),
        (99, False, 0, True, "over it; alerts only"),
        (1000, True, 3, False, "refuses 3 jobs whose cost has no bound"),
        (1000, False, 3, True, "enough"),
    ],
)
def test_a_budget_takes_what_is_expected(
    remaining: int, hard: bool, unbounded: int, enough: bool, verdict: str
) -> None:
    budget = BudgetState(
        scope="tenant:acme", per="day", period="2026-11-25", hard=hard, remaining_nano=remaining
    )
    found = fit(load(unbounded=unbounded), budget)
    assert (found.enough, found.verdict) == (enough, verdict)


@pytest.mark.parametrize("job_class", list(JobClass))
@pytest.mark.parametrize(
    "limits",
    [
        {"requests": {"limit": 120, "per": "minute", "burst": 7}},
        {"tokens": {"limit": 6000, "per": "minute", "burst": 300}},
    ],
)
def test_the_time_is_what_begin_takes(job_class: JobClass, limits: dict[str, Any]) -> None:
    """The twin of `begin` is asked again at every moment that it names; the estimate must agree."""
    rates = rates_of(ScopeLimits.model_validate(limits))
    definition = ScopeDefinition(kind=ScopeKind.TENANT, name="acme", rates=rates)
    scope = ScopeState(definition=definition, levels=[0.0] * 3, ends=[0.0])
    start = now = 1_800_000_000.0
    begun = 0
    while begun < 100:
        (reply,) = admit([Ask(job_class=job_class, scopes=(0,), tokens=100)], [scope], [], now=now)
        begun += reply.answer is Begin.BEGUN
        now = max(now, reply.until)
    (found,) = under_rates("tenant:acme", rates, Load(jobs=100, input_tokens=10_000), job_class)
    # Of tokens the last job may begin before all of them have drained.
    one = 100 * rates[0].step_us / 1e6 / HEADROOM[job_class] if "tokens" in limits else 0
    assert found.seconds == pytest.approx(now - start, abs=one + 0.01)


def test_a_calendar_rate_waits_for_the_next_periods() -> None:
    rates = rates_of(ScopeLimits.model_validate({"requests": {"limit": 100, "per": "day"}}))

    def seconds(jobs: int) -> float:
        return under_rates("tenant:acme", rates, Load(jobs=jobs), JobClass.BULK)[0].seconds

    assert [seconds(jobs) for jobs in (1, 80, 81, 161)] == [0, 0, 86_400, 2 * 86_400]


def test_slots_take_as_long_as_calls_took_of_late() -> None:
    jobs = Load(jobs=100, busy_ms=25_000.0, untimed=50)
    found = at_once("account:openai", "calls", 10, jobs, JobClass.BULK)
    assert found is not None
    assert (found.seconds, found.limit) == (50.0 / 8, "80 % of 10 calls at once")
    assert at_once("account:openai", "calls", 10, Load(jobs=5, untimed=5), JobClass.BULK) is None


def concluded(
    lines: list[dict[str, Any]], standing: Standing | None = None, recent: Any = None
) -> Forecast:
    of, tally = appraiser(recent), Tally()
    for number, line in enumerate(lines, 1):
        tally.add(of.appraise(number, line))
    return conclude(
        tally,
        of,
        parse_config(CONFIG, {}),
        JobClass.BULK,
        budgets=configured_budgets(of, list(tally.by_scope)),
        standing=standing,
    )


def test_the_slowest_limit_binds_and_every_budget_above_is_judged() -> None:
    recent = {("acme", "fast"): Recent(output_tokens=10, provider_ms=60_000)}
    lines = [job(options={"project": "search"})] * 20
    slow = concluded(lines, Standing(workers={"default": 1}, bearable={"openai": 4.0}), recent)
    assert slow.binds is not None
    assert (slow.binds.scope, slow.binds.limit) == (
        "account:openai",
        "80 % of 4 calls (learnt) at once",
    )
    assert slow.binds.seconds == 20 * 60 / 3
    assert [one.budget.scope for one in slow.fits] == ["project:acme/search", "tenant:acme"]
    assert slow.enough
    plain = concluded(lines)
    assert plain.binds is not None
    assert plain.binds.limit == "80 % of 60 requests a minute"
    assert plain.binds.seconds == pytest.approx(19 / 0.8)


def test_a_budget_that_is_too_small_comes_first() -> None:
    found = concluded([job(options={"project": "search"})] * 80)
    assert not found.enough
    assert (found.fits[0].budget.scope, found.fits[0].verdict) == ("tenant:acme", "too little")


def test_what_is_not_known_is_said() -> None:
    notes = " ".join(concluded([job("free")], Standing()).notes)
    assert "no worker of pool default is running" in notes
    assert "1 jobs have no price" in notes
    assert "SLUICE_DATABASE" in " ".join(concluded([job()]).notes)


def test_memory_does_not_grow_with_names() -> None:
    tally = Tally()
    given = taken(job())
    for number in range(KEPT_SCOPES + 50):
        tally.add(
            Appraisal(
                **{
                    **{name: getattr(given, name) for name in given.__slots__},
                    "model": f"m{number}",
                    "scopes": ((ScopeKind.TENANT, "acme"), (ScopeKind.USER, f"acme/{number}")),
                }
            )
        )
        tally.add(Refusal(number=number, code=ErrorCode.UNKNOWN_MODEL, message=f"no {number}"))
    assert len(tally.by_scope) == KEPT_SCOPES
    assert tally.unjudged == 51
    assert len(tally.by_model) == len(tally.refusals) == KEPT_GROUPS + 1
    others = tally.refusals["unknown_model", OTHERS, None]
    assert others.count == KEPT_SCOPES + 50 - KEPT_GROUPS
    assert tally.by_scope[ScopeKind.TENANT, "acme"].jobs == tally.total.jobs == KEPT_SCOPES + 50
    assert tally.refused == KEPT_SCOPES + 50


def test_only_the_first_lines_are_kept() -> None:
    lines = Lines()
    for number in range(100):
        lines.add(number)
    assert (lines.count, lines.first) == (100, [0, 1, 2, 3, 4])


def test_money_of_the_configuration_is_exact() -> None:
    of = appraiser(config=CONFIG.replace("usd: 0.05", "usd: 0.123456789"))
    found = configured_budgets(of, [(ScopeKind.TENANT, "acme")])
    assert found[ScopeKind.TENANT, "acme"][0].remaining_nano == int(
        Decimal("0.123456789").scaleb(9)
    )
