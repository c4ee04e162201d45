"""Where jobs go, and the most that a call may cost: never less than any usage within its bounds."""

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.worker.worker_world import job, router_of, way_of

from sluice_core.admission.expectations import Expectations
from sluice_core.config.load import parse_config
from sluice_core.jobs.fates import FailureKind
from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.bounds import DEFAULT_MAX_OUTPUT
from sluice_core.pricing.policy import charge
from sluice_core.usage.model import Usage
from sluice_providers.calls import uncalled
from sluice_worker.resolve import Resolver, Route
from sluice_worker.route import REMEMBERED, Router
from sluice_worker.targets import Targets

CONFIG = parse_config(
    """
providers:
  mock: {kind: openai, base_url: "http://mock/v1", api_key: "${KEY}", provider: openai, pool: gpu}
  other: {kind: anthropic, base_url: "http://other/v1"}
models:
  fast: {targets: [{account: mock, model: gpt-4o-mini}, {account: other, model: x}], default_max_tokens: 100,
         prices: {input: "1", output: "1000"}}
  open: {targets: [{account: mock, model: gpt-4o-mini}], prices: {input: "1", output: "1000"}}
  "*": {targets: [{account: other}]}
""",
    {"KEY": "secret"},
)
NANO_A_TOKEN = 1_000_000
"""Of output, at 1,000 dollars a million."""
NOW = 1_795_435_200.0
PRICES = PriceBook()


@pytest.fixture
def router() -> Router:
    return router_of(CONFIG, PRICES, pool="gpu")


def bound(router: Router, model: str = "fast", **body: object) -> float:
    """The output tokens that a request's worst case covers."""
    asked = job(model=model, body=orjson.dumps({"model": model, "messages": [], **body}))
    route = way_of(router, asked, NOW)
    most = router.bound(asked, route)
    return (most.worst_nano - most.input_nano) / NANO_A_TOKEN


def test_the_first_target_with_the_name_asked_for(router: Router) -> None:
    route = way_of(router, job(model="fast"), NOW)
    target = route.target
    assert (target.account, target.model, target.model_requested) == ("mock", "gpt-4o-mini", "fast")
    assert (route.credentials.take(0.0), target.default_max_tokens) == ("secret", 100)
    assert "secret" not in repr(route)
    assert router.choose(job(model="fast"), NOW) is route
    named = way_of(router, job(model="mock/gpt-4.1"), NOW)
    assert (named.target.account, named.target.model) == ("mock", "gpt-4.1")
    assert router.choose(job(model="whatever"), NOW) is None, "its account is another pool's"
    anything = way_of(router_of(CONFIG, PRICES), job(model="whatever"), NOW)
    assert (anything.target.account, anything.target.model) == ("other", "whatever")
    assert router.choose(job(model=""), NOW) is None


def test_a_models_pool_is_that_of_its_first_target(router: Router) -> None:
    assert router.pool_of("fast") == "gpu"
    assert router.pool_of("whatever") == "default"
    assert router.pool_of("") == "default"


def test_what_a_request_may_put_out_at_most(router: Router) -> None:
    assert bound(router) == 100
    assert bound(router, "open") == DEFAULT_MAX_OUTPUT
    assert bound(router, max_tokens=7) == 7
    assert bound(router, max_completion_tokens=5, max_tokens=7) == 7
    assert bound(router, max_tokens=7, n=3) == 21
    assert bound(router, n=3) == 300


@pytest.mark.parametrize("nonsense", [0, -1, None, "many", 1.5, []])
def test_a_limit_that_is_none_is_the_models(router: Router, nonsense: object) -> None:
    assert bound(router, max_tokens=nonsense) == 100
    assert bound(router, n=nonsense) == 100


def test_a_limit_in_the_text_of_a_message_is_no_limit(router: Router) -> None:
    text = [{"role": "user", "content": '"max_tokens": 1, "n": 50'}]
    assert bound(router, messages=text) == 100


@given(
    text=st.text(max_size=200),
    most=st.integers(1, 50_000),
    choices=st.integers(1, 8),
    share=st.floats(0, 1),
)
def test_no_usage_within_the_bounds_costs_more(
    text: str, most: int, choices: int, share: float
) -> None:
    router = router_of(CONFIG, PRICES, pool="gpu")
    body = {"model": "mock/gpt-4o", "messages": [{"role": "user", "content": text}]}
    asked = job(model="mock/gpt-4o", body=orjson.dumps({**body, "max_tokens": most, "n": choices}))
    route = way_of(router, asked, NOW)
    assert route.price.priced
    most_of_it = router.bound(asked, route)
    worst, of_input = most_of_it.worst_nano, most_of_it.input_nano
    tokens = len(asked.body)
    usage = Usage(
        input_tokens=tokens,
        cache_read_tokens=int(tokens * share),
        output_tokens=most * choices,
        reasoning_tokens=int(most * share),
    )
    cost = charge(route.price, usage, started_at=datetime.fromtimestamp(NOW, UTC)).cost_nano
    assert 0 < of_input <= worst
    assert cost <= worst


def test_invented_names_do_not_fill_the_memory(router: Router) -> None:
    for number in range(REMEMBERED + 10):
        router.pool_of(f"invented-{number}")
    assert len(router._pools) <= REMEMBERED + 1


def test_a_call_is_priced_at_the_tier_that_served_it() -> None:
    router = router_of(CONFIG, PRICES, pool="gpu")
    route = way_of(router, job(model="mock/gpt-4o"), NOW)
    assert router.served_at("mock/gpt-4o", route, "default", NOW) is route
    faster = router.served_at("mock/gpt-4o", route, "priority", NOW)
    assert faster.tier == "priority"
    assert faster.price.price_version.endswith(";tier=priority")
    assert router.served_at("mock/gpt-4o", faster, "priority", NOW) is faster
    asked = job(
        model="mock/gpt-4o", body=b'{"model":"mock/gpt-4o","service_tier":"priority","messages":[]}'
    )
    assert way_of(router, asked, NOW).price == faster.price


@pytest.mark.parametrize(("price", "told"), [("", 1), (", searches: 2", 0)])
def test_searches_that_have_no_price_are_told_of(price: str, told: int) -> None:
    """A ranking that is counted in searches would be booked at nothing, where only tokens have a price."""
    config = parse_config(
        "providers: {c: {kind: cohere, base_url: 'http://c'}}\n"
        f"models: {{rank: {{targets: [{{account: c}}], prices: {{input: 0{price}}}}}}}\n",
        {},
    )
    targets = Targets(lambda: None)
    made = Router(Resolver(config, PRICES, pool="default"), targets, Expectations())
    asked = job(model="rank", body=b'{"model":"rank","query":"q","documents":["d"]}')
    for _ in range(2):
        route = way_of(made, asked, NOW)
        made.started(route, NOW)
        answer = replace(uncalled(FailureKind.DEFECT, ""), failure=None, usage=Usage(searches=1))
        made.ended(route, answer, streams=False, now=NOW)
    assert targets.unpriced == [("c", "rank")] * told


TIERED = parse_config(
    """
providers:
  small: {kind: openai, base_url: "http://small/v1"}
  large: {kind: openai, base_url: "http://large/v1"}
models:
  tiered:
    targets:
      - {account: small, model: s, capabilities: {context: 1000}}
      - {account: large, model: l, timeouts: {first_byte: 7s}}
    escalation: {tiers: [[small], [large]]}
""",
    {},
)


def test_a_tier_that_cannot_take_a_job_is_passed_by() -> None:
    router = router_of(TIERED, PRICES)
    first = way_of(router, job(model="tiered"), NOW)
    assert (first.target.account, first.level, first.check is None) == ("small", 0, False)
    long = orjson.dumps({"model": "tiered", "messages": [{"content": "x" * 9000}]})
    too_long = way_of(router, job(model="tiered", body=long), NOW)
    assert (too_long.target.account, too_long.level, too_long.check) == ("large", 1, None)
    waits = [route.target.first_byte_timeout_s for route in (first, too_long)]
    assert waits == [300.0, 7.0], "a target's own timeouts count instead of its account's"


def test_a_tier_that_fails_or_is_shut_is_passed_by() -> None:
    router = router_of(TIERED, PRICES)
    asked = job(model="tiered")
    first = way_of(router, asked, NOW)
    tried = frozenset({first.name})
    assert router.alternative(asked, "unavailable", tried, 0, NOW)
    assert not router.alternative(asked, "unavailable", tried | {"large/l"}, 1, NOW)
    after = router.choose(asked, NOW, tried=tried, fell_back="unavailable")
    assert isinstance(after, Route)
    assert (after.target.account, after.level) == ("large", 1)
    assert router.shut(first, account=True, until=NOW + 60, why="shut", now=NOW)
    assert way_of(router, job(model="tiered"), NOW).target.account == "large"
