"""Batch files, checked and sent."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.integration.cli.shell import Shell, limited, records

from sluice_platform.ids import uuid7

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("cli")]


async def test_submit_sends_every_good_line_once(sluice: Shell, tmp_path: Path) -> None:
    await sluice("topics", "create")
    body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
    file = tmp_path / "in.jsonl"
    lines = [json.dumps({"custom_id": str(number), "body": body}) for number in range(5)]
    file.write_text("\n".join([*lines, "{broken"]) + "\n")
    ran = await sluice("submit", str(file), "--run", "r", "--tenant", "acme", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["sent"] == 5
    assert "line 6: not JSON" in json.loads(ran.out)["bad_lines"][0]
    sent = await records(sluice.bootstrap, f"{sluice.prefix}jobs.bulk.v1", 5)
    keys = {json.loads(record.value)["options"]["idempotency_key"] for record in sent}
    assert keys == {f"r/{number}" for number in range(5)}


async def _spent(pool: asyncpg.Pool, *, output_tokens: int, provider_ms: int) -> None:
    """A call of `acme` from `fast`, as finance sees it."""
    await pool.execute(
        "insert into finance.usage (usage_id, job_id, attempt, recorded_at, started_at, ended_at, tenant,"
        " project, tags, provider, account, model_requested, provider_model, operation, class, input_tokens,"
        " cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, usage_source, meters, cost_usd,"
        " list_cost_usd, price_version, outcome, provider_ms) values ($1, $2, 1, now(), now(), now(), 'acme',"
        " 'search', '{}', 'openai', 'openai', 'fast', 'm', 'chat', 'bulk', 5, 0, 0, $3, 0, 'reported', '[]',"
        " 0.1, 0.1, 'v', 'succeeded', $4)",
        uuid7(),
        uuid4(),
        output_tokens,
        provider_ms,
    )


def _file(path: Path, lines: list[dict[str, Any]], *more: str) -> str:
    path.write_text("\n".join([*(json.dumps(line) for line in lines), *more]) + "\n")
    return str(path)


async def test_a_file_is_checked_against_the_ledger_and_nothing_is_sent(
    sluice: Shell, tmp_path: Path
) -> None:
    limited(sluice)
    await sluice("config", "apply")
    await _spent(sluice.pool, output_tokens=10, provider_ms=2_000)
    await _spent(sluice.pool, output_tokens=30, provider_ms=4_000)
    body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 500}
    file = _file(tmp_path / "in.jsonl", [{"body": body}] * 100)
    found = (await sluice("submit", file, "--check", "--tenant", "acme", "--json")).json
    assert (found["ok"], found["jobs"], found["output_tokens"]) == (True, 100, 2_000)
    (budget,) = found["budgets"]
    assert (budget["scope"], budget["remaining_usd"]) == ("tenant:acme", "2.000000000")
    assert (budget["enough"], budget["expected_usd"]) == (True, found["expected_usd"])
    assert (found["binds"]["scope"], found["seconds"]) == ("account:openai", 100 * 3 / 8)
    await sluice("budgets", "set", "tenant:acme", "--usd", "0.01", "--reason", "test")
    ran = await sluice("submit", file, "--check", "--tenant", "acme")
    assert ran.code == 1
    assert "too little" in ran.out
    assert ran.out.splitlines()[-1].startswith("NOT fine: 100 jobs, expected to cost 0.02")
    assert await sluice.pool.fetchval("select count(*) from sluice.jobs") == 0
    assert not (tmp_path / "in.errors.jsonl").exists()


async def test_bad_lines_and_refusals_are_told_without_any_server(
    sluice: Shell, tmp_path: Path
) -> None:
    limited(sluice)
    for name in ("SLUICE_KAFKA", "SLUICE_DATABASE"):
        del sluice.environment[name]
    body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
    image = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}]}
    ]
    lines = [
        {"body": body},
        {"body": {**body, "model": "smart"}},
        {"body": {**body, "messages": image}},
    ]
    file = _file(tmp_path / "in.jsonl", lines, "{broken")
    ran = await sluice("submit", file, "--check", "--tenant", "acme", "--json")
    found = json.loads(ran.out)
    assert (ran.code, found["ok"], found["jobs"]) == (1, False, 2)
    assert "line 4: not JSON" in found["bad_lines"][0]
    (refused,) = found["refused"]
    assert (refused["code"], refused["lines"]) == ("forbidden", [2])
    assert refused["rule"] == 'tenant acme: policy.models.deny "smart"'
    (endless,) = found["unbounded"]
    assert ("remote image" in endless["reason"], endless["lines"]) == (True, [3])
    assert found["budgets"][0]["verdict"] == "refuses 1 jobs whose cost has no bound"
    assert "set SLUICE_KEY" in " ".join(found["notes"])
    plain = await sluice("submit", file, "--check", "--tenant", "acme")
    assert "line 4: not JSON" in plain.out
    assert "1 jobs would be refused" in plain.out
    other = await sluice("submit", file, "--check", "--tenant", "acne")
    assert (other.code, 'did you mean "acme"?' in other.err) == (1, True)
