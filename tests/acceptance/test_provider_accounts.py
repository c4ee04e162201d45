"""Accounts with several keys, with tokens and with quirks, and responses, on a whole gateway."""

from typing import Any

import pytest
import yaml
from tests.conftest import Template
from tests.system import System, database_from, prices
from tests.waiting import eventually

from sluice_client import Client, Job
from sluice_core.keys.provider import ProviderKeys
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("client")]

PREFIX = "accounts."
ENVIRONMENT = {"KEY_A": "key-a", "KEY_B": "key-b", "KEY_C": "key-c", "CLIENT_SECRET": "s"}


def configuration(mock: str) -> dict[str, Any]:
    entra = {
        "tenant_id": "t-1",
        "client_id": "app",
        "client_secret": "${CLIENT_SECRET}",
        "token_url": f"{mock}/t-1/oauth2/v2.0/token",
    }
    return {
        "providers": {
            "pooled": {
                "kind": "openai",
                "base_url": f"{mock}/v1",
                "api_keys": ["${KEY_A}", "${KEY_B}"],
            },
            "kept": {"kind": "openai", "base_url": f"{mock}/v1", "api_key_store": True},
            "azure": {"kind": "azure", "base_url": mock, "entra": entra},
            "mistral": {
                "kind": "openai",
                "provider": "mistral_ai",
                "base_url": f"{mock}/mistral_ai/v1",
            },
        },
        "models": {
            "pooled": _model("pooled", "gpt-4o-mini@key=key-b"),
            "renewed": _model("pooled", "gpt-4o-mini@key=key-c"),
            "kept-d": _model("kept", "gpt-4o-mini@key=key-d"),
            "kept-e": _model("kept", "gpt-4o-mini@key=key-e"),
            "azure": _model("azure", "my-deployment"),
            "mistral": _model("mistral", "magistral@reasoning=5"),
        },
    }


def _model(account: str, name: str) -> dict[str, Any]:
    return {"targets": [{"account": account, "model": name}], "prices": prices("1", "2")}


def chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello there"}], **more}


async def test_accounts_of_every_sort(stack: Stack, migrated_template: Template) -> None:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(
            stack, database_dsn=dsn, kafka_prefix=PREFIX, workers=0, config=configuration
        ) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=PREFIX) as client,
    ):
        system.start_worker(environment=ENVIRONMENT)
        await system.ready("worker-1")
        await _keys_take_turns(system, client)
        await _keys_change_without_a_restart(system, client)
        await _keys_are_kept_in_the_ledger(system, client)
        await _tokens_and_quirks(client)
        await _responses(system, client)
        assert "Traceback" not in system.log("worker-1")


async def _keys_are_kept_in_the_ledger(system: System, client: Client) -> None:
    """A key that is set is called with, another takes its place; all without a restart."""
    kept = ProviderKeys(system.pool)
    for secret, model in (("key-d", "kept-d"), ("key-e", "kept-e")):
        changes = system.log("worker-1").count("key.store_followed")
        await kept.put("kept", "main", secret, master_key=system.master_key, actor="me")
        await eventually(
            lambda seen=changes: system.log("worker-1").count("key.store_followed") > seen,
            within_s=5.0,
        )
        result = await client.complete(chat(model), timeout=20)
        assert result.report["attempts"] == 1
    await kept.remove("kept", "main", actor="me")
    await eventually(lambda: '"keys": 0' in system.log("worker-1"), within_s=5.0)
    assert "key-d" not in system.log("worker-1")


async def _keys_take_turns(system: System, client: Client) -> None:
    """The first key is refused once; its job goes on with the second, and so do all others."""
    results = [await client.complete(chat("pooled"), timeout=20) for _ in range(6)]
    attempts = [result.report["attempts"] for result in results]
    assert sum(attempts) == len(results) + 1, attempts
    assert system.log("worker-1").count("key.refused") == 1
    opened = await system.pool.fetchval("select count(*) from sluice.breakers")
    assert opened == 0


async def _keys_change_without_a_restart(system: System, client: Client) -> None:
    document = yaml.safe_load(system.config_path.read_text())
    document["providers"]["pooled"]["api_keys"] = ["${KEY_C}", "${KEY_B}"]
    changed = system.directory / "changed.yaml"
    changed.write_text(yaml.safe_dump(document))
    await system.command("config", "apply", str(changed))
    await eventually(lambda: "config.followed" in system.log("worker-1"), within_s=10.0)
    assert (await client.complete(chat("renewed"), timeout=20)).succeeded
    assert "key-a" not in system.log("worker-1")


async def _tokens_and_quirks(client: Client) -> None:
    result = await client.complete(chat("azure"), timeout=20)
    assert result.body["choices"][0]["content_filter_results"]
    asked = chat("mistral", seed=1, max_completion_tokens=50)
    message = (await client.complete(asked, timeout=20)).body["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == (
        "You said: hello there",
        "Thinking.",
    )


async def _responses(system: System, client: Client) -> None:
    job = Job(url="/v1/responses", body={"model": "fast", "input": "hello there"})
    whole = await client.complete(job, timeout=20)
    assert whole.body["output"][0]["content"][0]["text"] == "You said: hello there"
    async with client.stream(job, timeout=20) as stream:
        kinds = [event["type"] async for event in stream]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert stream.result.body["model"] == "fast"
    rows = await system.pool.fetch(
        "select input_tokens, output_tokens, cost_usd from finance.usage where operation = 'responses'"
    )
    assert len(rows) == 2
    assert {(row["input_tokens"], row["output_tokens"]) for row in rows} == {(3, 4)}
    assert all(row["cost_usd"] > 0 for row in rows)
