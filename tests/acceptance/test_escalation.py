"""A cheap target is asked first; where its answer does not pass, a stronger one is, and no answer is lost for it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import Template
from tests.system import System, database_from, prices
from tests.waiting import eventually

from sluice_client import Client, Job, Result
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("failover")]

WANTED = {
    "type": "json_schema",
    "json_schema": {"name": "n", "schema": {"type": "object", "required": ["answer"]}},
}
JUDGE = """
async def strict(request, answer):
    return 0.2 if "doubt" in request["messages"][-1]["content"] else 0.9
"""


def config(mock_url: str) -> dict[str, Any]:
    account = {"kind": "openai", "base_url": f"{mock_url}/v1", "provider": "openai"}
    targets = [
        {"account": "cheap", "model": "m-small", "name": "small"},
        {"account": "dear", "model": "m-large", "name": "large"},
    ]
    tiers = {"targets": targets, "escalation": {"tiers": [["small"], ["large"]]}}
    judge = {"judge": {"name": "strict", "below": 0.5}}
    return {
        "providers": {
            "cheap": {**account, "prices": {"models": {"m-small": prices("1", "2")}}},
            "dear": {**account, "prices": {"models": {"m-large": prices("10", "20")}}},
        },
        "tenants": {
            "default": {"projects": {"poor": {"budgets": {"usd": "0.001", "per": "total"}}}}
        },
        "models": {
            "tiered": tiers,
            "judged": {
                "targets": targets,
                "escalation": {"tiers": [["small"], ["large"]], "check": judge},
            },
        },
        "worker": {"owned_lease": 3, "calling_lease": 5, "grace": 5},
    }


@pytest.fixture(scope="module")
async def gateway(
    stack: Stack, migrated_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    plugin = tmp_path_factory.mktemp("plugin")
    (plugin / "strict_judge.py").write_text(JUDGE)
    about = plugin / "strict_judge-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strict-judge\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[sluicegate.judges]\nstrict = strict_judge:strict\n")
    prefix = f"tiers{uuid4().hex[:8]}."
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=prefix, workers=0, config=config) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=prefix) as client,
    ):
        system.start_worker(environment={"PYTHONPATH": str(plugin)})
        await system.ready("worker-1")
        yield system, client


def body(text: str, model: str = "tiered", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def attempts(system: System, result: Result) -> Sequence[Any]:
    return await system.pool.fetch(
        "select a.account, a.outcome, a.code, a.route, u.outcome as booked, u.cost_usd from sluice.attempts a"
        " join sluice.identities i on i.job = a.job left join finance.usage u on u.usage_id = a.usage_id"
        " where i.uuid = $1 order by a.attempt",
        result.id,
    )


async def test_an_answer_that_passes_is_the_answer(gateway: tuple[System, Client]) -> None:
    system, client = gateway
    result = await client.complete(body("hello"), timeout=20)
    assert (result.state, result.report["account"]) == ("succeeded", "cheap")
    assert [row["route"] for row in await attempts(system, result)] == ["tier 1: priority"]


async def test_one_that_is_not_as_asked_for_goes_up_and_both_are_paid(
    gateway: tuple[System, Client],
) -> None:
    system, client = gateway
    result = await client.complete(body("hello", response_format=WANTED), timeout=20)
    assert (result.state, result.report["account"], result.report["attempts"]) == (
        "succeeded",
        "dear",
        2,
    )
    assert result.report["warnings"] == []
    first, second = await attempts(system, result)
    assert (first["account"], first["code"], first["booked"]) == (
        "cheap",
        "provider_invalid_response",
        "failed",
    )
    assert (second["account"], second["route"], second["booked"]) == (
        "dear",
        "tier 2: priority",
        "succeeded",
    )
    assert second["cost_usd"] == 10 * first["cost_usd"] > 0


async def test_a_stream_shows_nothing_of_what_does_not_pass(
    gateway: tuple[System, Client],
) -> None:
    system, client = gateway
    rule = await system.mock.rule("stop=content_filter", match={"model": "m-small"})
    for expected, text in (("dear", "some words of it"), ("cheap", "other words of it")):
        seen: list[str] = []
        async with client.stream(Job(body=body(text, stream=True)), timeout=20) as stream:
            async for chunk in stream:
                seen += [c["delta"].get("content") or "" for c in chunk["choices"]]
            result = stream.result
        assert "".join(seen) == f"You said: {text}"
        assert (result.state, result.report["account"]) == ("succeeded", expected)
        if expected == "dear":
            await system.mock.forget_rule(rule)


async def test_where_nothing_better_can_be_had_the_answer_that_is_there_is_given(
    gateway: tuple[System, Client],
) -> None:
    system, client = gateway
    rule = await system.mock.rule("status=500", match={"model": "m-large"})
    result = await client.complete(body("first", response_format=WANTED), timeout=20)
    assert (result.state, result.report["account"]) == ("succeeded", "cheap")
    assert result.body["choices"][0]["message"]["content"] == "You said: first"
    (warning,) = result.report["warnings"]
    assert warning.startswith("escalation: ")
    assert warning.endswith("no better answer was to be had")
    outcomes = [(row["account"], row["code"]) for row in await attempts(system, result)]
    assert outcomes == [("cheap", "provider_invalid_response"), ("dear", "provider_unavailable")]
    await system.mock.forget_rule(rule)


async def test_a_tier_that_is_too_dear_for_the_job_is_not_asked(
    gateway: tuple[System, Client],
) -> None:
    system, client = gateway
    asked = body("poor", response_format=WANTED, max_tokens=10)
    result = await client.complete(asked, timeout=20, project="poor")
    assert (result.state, result.report["account"]) == ("succeeded", "cheap")
    (only,) = await attempts(system, result)
    spent = await system.pool.fetchrow(
        "select spent, reserved from finance.budgets where scope like '%poor'"
    )
    assert (spent["spent"], spent["reserved"]) == (only["cost_usd"], 0)


async def test_a_judge_sends_up_what_it_doubts(gateway: tuple[System, Client]) -> None:
    _, client = gateway
    sure = await client.complete(body("sure", "judged"), timeout=20)
    doubted = await client.complete(body("no doubt", "judged"), timeout=20)
    assert (sure.report["account"], doubted.report["account"]) == ("cheap", "dear")


async def test_a_worker_that_dies_between_the_tiers_loses_nothing(
    gateway: tuple[System, Client], tmp_path: Path
) -> None:
    system, client = gateway
    system.workers["worker-1"].kill()
    mark = tmp_path / "mark"
    victim = system.start_worker(
        "victim", environment={"SLUICE_CRASH_AT": "after_settle", "SLUICE_CRASH_MARK": str(mark)}
    )
    waiting = asyncio.create_task(client.complete(body("late", response_format=WANTED), timeout=50))
    await eventually(lambda: victim.returncode is not None, within_s=20.0)
    system.start_worker("heir")
    result = await waiting
    assert (result.state, result.report["account"]) == ("succeeded", "dear")
    assert [row["account"] for row in await attempts(system, result)] == ["cheap", "cheap", "dear"]
