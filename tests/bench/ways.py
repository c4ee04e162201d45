"""What the choice of a target costs, and a stored answer instead of a call: cases of `make bench`."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from tests.bench.drive import PROMPT, Driver
from tests.bench.meter import read
from tests.bench.policies import gateway
from tests.conftest import Template
from tests.system import prices
from tests.unit.worker.worker_world import job, router_of

from sluice_core.config.load import parse_config
from sluice_core.pricing.book import PriceBook
from sluice_devstack.stack import Stack
from sluice_schemas.classes import JobClass

TARGETS, RULES = 20, 10
UPSTREAM: Final = "latency=60ms"
MIX = (JobClass.REALTIME, JobClass.STANDARD, JobClass.BULK)


def many_ways(mock_url: str) -> dict[str, Any]:
    """A model with one target, and one with twenty in accounts of their own and ten conditions, none of which is met."""
    accounts = [f"account-{n}" for n in range(TARGETS)]
    account = {"kind": "openai", "base_url": f"{mock_url}/v1", "provider": "openai"}
    conditions: list[dict[str, Any]] = [
        {"classes": ["bulk"], "projects": [f"nightly-{n}*"], "tags": {"team": "none"}}
        for n in range(RULES)
    ]
    return {
        "providers": {name: dict(account) for name in accounts},
        "worker": {"concurrency": 1000},
        "models": {
            "one": {
                "targets": [{"account": "account-0", "model": f"one@{UPSTREAM}"}],
                "prices": prices("0.15", "0.60"),
            },
            "many": {
                "strategy": "weighted",
                "targets": [{"account": name, "model": f"many@{UPSTREAM}"} for name in accounts],
                "routes": [{"when": when, "use": [accounts[0]]} for when in conditions],
                "prices": prices("0.15", "0.60"),
            },
        },
    }


async def routing(stack: Stack, template: Template, *, jobs: int, emit: Any) -> None:
    """The full load to a model with one target and to one with many, by turns; and the decision alone, in this process."""
    spent = {"one": 0.0, "many": 0.0}
    configured: dict[str, Any] = {}

    def config(mock_url: str) -> Mapping[str, Any]:
        configured.update(many_ways(mock_url))
        return configured

    async with gateway(stack, template, config) as system:
        for model in ("one", "many") * 3:
            async with Driver(system, model=model) as driver:
                await driver.closed(1_000, window=1500, classes=MIX)
                before = read(system)
                await driver.closed(jobs // 3, window=1500, classes=MIX)
                spent[model] += read(system).per_job(before, jobs // 3)["workers_us"] / 3
    emit(
        "routing",
        targets=TARGETS,
        conditions=RULES,
        jobs=jobs,
        worker_us={model: round(us, 1) for model, us in spent.items()},
        worker_us_added=round(spent["many"] - spent["one"], 1),
        decision_us={model: _decision_us(configured, model) for model in spent},
        goal={"decision_us": 15},
    )


def _decision_us(config: Mapping[str, Any], model: str, times: int = 20_000) -> float:
    """Processor time of one choice of a target, from the job to its route."""
    text = orjson.dumps(config).decode()
    router, now = router_of(parse_config(text, {}), PriceBook()), time.time()
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": PROMPT}]})
    asked = job(JobClass.BULK, model=model, body=body)

    def choose() -> None:
        assert router.choose(asked, now) is not None

    return _us(choose, times)


def _us(what: Callable[[], None], times: int) -> float:
    for _ in range(1_000):
        what()
    since = time.process_time()
    for _ in range(times):
        what()
    return round((time.process_time() - since) / times * 1e6, 1)


async def caching(stack: Stack, template: Template, *, jobs: int, emit: Any) -> None:
    """The same jobs without a cache, with one that has none of their answers, and with one that has them all.

    What everything that serves a job costs, the provider left out.
    """
    known = 200
    config = {
        "worker": {"concurrency": 1000},
        "models": {
            name: {
                "targets": [{"account": "mock", "model": f"gpt-4o-mini@{UPSTREAM}"}],
                "prices": prices("0.15", "0.60"),
                "cache": cache,
            }
            for name, cache in (("without", "off"), ("cached", "exact"))
        },
    }
    costs: dict[str, dict[str, float]] = {}
    async with gateway(stack, template, config) as system:
        for name, model, distinct in (
            ("without", "without", None),
            ("miss", "cached", None),
            ("hit", "cached", known),
        ):
            async with Driver(system, model=model, distinct=distinct) as driver:
                await driver.closed(1_000, window=known if distinct else 1500, classes=MIX)
                before = read(system)
                await driver.closed(jobs, window=1500, classes=MIX)
                costs[name] = read(system).per_job(before, jobs)
    whole = {
        name: round(sum(cost[f"{part}_us"] for part in ("workers", "postgres", "kafka")), 1)
        for name, cost in costs.items()
    }
    emit(
        "caching",
        jobs=jobs,
        answers_known=known,
        worker_us={name: cost["workers_us"] for name, cost in costs.items()},
        postgres_us={name: cost["postgres_us"] for name, cost in costs.items()},
        whole_us=whole,
        hit_of_a_miss=round(whole["hit"] / whole["miss"], 3),
        goal={"hit_of_a_miss": 0.5},
    )
