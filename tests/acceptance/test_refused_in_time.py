"""Who asks for what is used up is told so in time, with its code; and who is willing to wait goes on when there is more."""

import asyncio
import json
import time

import pytest
from tests.conftest import Template
from tests.system import System, database_from, prices
from tests.waiting import eventually

from sluice_client import Client, JobFailed
from sluice_client.model import Result
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("client")]

PREFIX = "refused."
SLACK_S = 5.0
"""Beyond max_wait_s, on a machine that others load."""


def _model(target: str, **limits: object) -> dict[str, object]:
    return {
        "targets": [{"account": "mock", "model": target}],
        "prices": prices("1000", "1000"),
        "limits": limits,
    }


CONFIG = {
    "models": {
        "rated": _model("rated", requests={"limit": 1, "per": "minute", "burst": 1}),
        "single": _model("single@latency=4s", concurrency=1),
        "slow": _model("slow@latency=4s"),
        "dear": _model("dear"),
    },
    "tenants": {
        "default": {
            "projects": {
                "busy": {"budgets": {"usd": 1, "per": "total"}},
                "poor": {"budgets": {"usd": "0.01", "per": "total"}},
                "patient": {"budgets": {"usd": "0.01", "per": "total"}},
            }
        }
    },
    "worker": {"concurrency": 64},
}


def _body(model: str, max_tokens: int = 10) -> dict[str, object]:
    """A dollar is a thousand tokens: at most about 0.1 dollars for the question, and `max_tokens` mills."""
    said = [{"role": "user", "content": "hello"}]
    return {"model": model, "max_tokens": max_tokens, "messages": said}


async def test_refusals(stack: Stack, migrated_template: Template) -> None:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=PREFIX, config=CONFIG) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=PREFIX) as client,
    ):
        await asyncio.gather(
            _a_rate_that_is_used_up(client),
            _a_slot_that_is_taken(system, client),
            _money_that_others_have_reserved(system, client),
            _money_that_is_not_there(client),
            _a_runs_own_budget(system, client),
        )
        await _who_waits_for_money_goes_on(system, client)
        await _nothing_is_left(system)


async def _refused(
    client: Client, body: dict[str, object], code: str, *, wait_s: float = 1.0, **options: object
) -> Result:
    """A realtime job that ends `rejected` with this code, within its wait."""
    began = time.monotonic()
    with pytest.raises(JobFailed) as caught:
        await client.complete(body, timeout=30, max_wait_s=wait_s, **options)  # type: ignore[arg-type]
    result = caught.value.result
    assert result.error is not None
    assert (result.state, result.error.code) == ("rejected", code), result
    assert time.monotonic() - began < wait_s + SLACK_S
    assert result.report["attempts"] == 0
    assert result.report["cost_usd"] in {"0", "0.000000000"}
    return result


async def _a_rate_that_is_used_up(client: Client) -> None:
    assert (await client.complete(_body("rated"), timeout=20)).succeeded
    result = await _refused(client, _body("rated"), "rate_limited")
    assert result.error is not None
    assert result.error.retry_after_s is not None
    assert 30 < result.error.retry_after_s <= 60
    assert result.error.retryable


async def _in_a_call(system: System, model: str) -> None:
    async def open_attempt() -> bool:
        return bool(
            await system.pool.fetchval(
                "select exists (select from sluice.attempts where provider_model like $1 || '@%' and ended_at is null)",
                model,
            )
        )

    await eventually(open_attempt, within_s=20.0)


async def _a_slot_that_is_taken(system: System, client: Client) -> None:
    holding = asyncio.create_task(client.complete(_body("single"), timeout=30))
    await _in_a_call(system, "single")
    await _refused(client, _body("single"), "concurrency_exceeded")
    assert (await holding).succeeded
    assert (await client.complete(_body("single"), timeout=30)).succeeded


async def _money_that_others_have_reserved(system: System, client: Client) -> None:
    body = _body("slow", max_tokens=700)
    holding = asyncio.create_task(client.complete(body, timeout=30, project="busy"))
    await _in_a_call(system, "slow")
    await _refused(client, body, "budget_busy", project="busy")
    assert (await holding).succeeded
    assert (await client.complete(body, timeout=30, project="busy")).succeeded


async def _money_that_is_not_there(client: Client) -> None:
    await _refused(client, _body("dear"), "budget_exceeded", project="poor")
    await _refused(client, _body("dear"), "budget_exceeded", max_cost_usd="0.01")
    assert (await client.complete(_body("dear"), timeout=20, max_cost_usd="10")).succeeded


async def _a_runs_own_budget(system: System, client: Client) -> None:
    await system.command(
        *("budgets", "set", "run:default/nightly", "--per", "total"),
        *("--usd", "0.01", "--reason", "a trial"),
    )
    await _heard_of_the_budget(system)
    await _refused(client, _body("dear"), "budget_exceeded", run_id="nightly")
    assert (await client.complete(_body("dear"), timeout=20, run_id="daily")).succeeded
    await system.command(
        *("budgets", "set", "run:default/nightly", "--per", "total"),
        *("--usd", "5", "--reason", "it may"),
    )
    assert (await client.complete(_body("dear"), timeout=20, run_id="nightly")).succeeded


async def _heard_of_the_budget(system: System) -> None:
    """Workers hear of a budget that is new with a heartbeat; two beats later all have."""
    beats = "select min(beat) from sluice.workers where kind = 'worker'"
    before = await system.pool.fetchval(beats)

    async def beaten() -> bool:
        return bool(await system.pool.fetchval(beats) >= before + 2)

    await eventually(beaten)


async def _who_waits_for_money_goes_on(system: System, client: Client) -> None:
    waiting = asyncio.create_task(
        client.complete(
            _body("dear"), timeout=60, project="patient", on_budget="wait", max_wait_s=60.0
        )
    )

    async def parked() -> bool:
        return bool(await system.pool.fetchval("select count(*) = 1 from sluice.deferred"))

    await eventually(parked, within_s=20.0)
    assert not waiting.done()
    told = await system.command(
        *("budgets", "topup", "project:default/patient", "--per", "total"),
        *("--usd", "1", "--reason", "more", "--json"),
    )
    assert json.loads(told)["woken"] == 1
    assert (await waiting).succeeded


async def _nothing_is_left(system: System) -> None:
    async def settled() -> bool:
        busy = await system.pool.fetchval(
            "select count(*) from sluice.scopes_now where in_flight <> 0"
        )
        kept = await system.pool.fetchval(
            "select count(*) from sluice.budget_periods_now where reserved_nano <> 0"
        )
        return (busy, kept) == (0, 0)

    await eventually(settled)
    calls = len(await system.mock.requests())
    assert calls == await system.pool.fetchval("select count(*) from sluice.attempts")
