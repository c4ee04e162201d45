"""A job in OpenAI's form goes to a provider of every other wire form, on a whole gateway, and is billed."""

from decimal import Decimal
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.conftest import Template
from tests.system import System, database_from, prices

from sluice_client import Client, Job
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("client")]

PREFIX = "forms."
PEM = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
KEY = {"client_email": "robot@p-1", "private_key": PEM.decode()}
ENVIRONMENT = {
    "KEY": "key-a",
    "AK": "AKIDEXAMPLE",
    "SK": "s3cret/+s3cret",
    "ROBOT": orjson.dumps(KEY).decode(),
}
PLACE = {"project": "p-1", "region": "europe-west4"}
EMBEDDING = ("gemini", "vertex", "cohere", "ollama")


def configuration(mock: str) -> dict[str, Any]:
    keyed = {"base_url": mock, "api_key": "${KEY}"}
    robot = {"key": "${ROBOT}", "token_url": f"{mock}/token"}
    providers = {
        "gemini": keyed,
        "vertex": {"base_url": mock, "options": PLACE, "service_account": robot},
        "bedrock": {
            "base_url": mock,
            "options": {"region": "eu-west-1"},
            "api_key": "${AK}:${SK}",
        },
        "cohere": keyed,
        "ollama": keyed,
    }
    return {
        "providers": {kind: {"kind": kind, **account} for kind, account in providers.items()},
        "models": {
            kind: {
                "targets": [{"account": kind, "model": _named(kind)}],
                "prices": {**prices("1", "2"), "searches": "2"},
            }
            for kind in providers
        },
    }


def _named(kind: str) -> str:
    """A model of the mock that answers to the key of its account alone."""
    key = {"bedrock": "AKIDEXAMPLE"}.get(kind, "key-a")
    return "some-model" if kind == "vertex" else f"some-model@key={key}"


async def test_every_form_answers_and_is_billed(stack: Stack, migrated_template: Template) -> None:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(
            stack, database_dsn=dsn, kafka_prefix=PREFIX, workers=0, config=configuration
        ) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=PREFIX) as client,
    ):
        system.start_worker(environment=ENVIRONMENT)
        await system.ready("worker-1")
        for kind in configuration("")["models"]:
            await _whole_and_streamed(client, kind)
        for kind in EMBEDDING:
            job = Job(url="/v1/embeddings", body={"model": kind, "input": ["one", "three"]})
            embedded = await client.complete(job, timeout=20)
            assert len(embedded.body["data"]) == 2, kind
        job = Job(url="/v1/rerank", body={"model": "cohere", "query": "b", "documents": ["a", "b"]})
        ranked = await client.complete(job, timeout=20)
        assert [row["index"] for row in ranked.body["results"]] == [1, 0]
        searched = await system.pool.fetchrow(
            "select cost_usd, meters::text as meters from finance.usage where operation = 'rerank'"
        )
        assert searched["cost_usd"] == Decimal("0.002")
        assert orjson.loads(searched["meters"])[0]["unit"] == "searches"
        rows = await system.pool.fetch(
            "select provider, account, input_tokens, output_tokens, usage_source, cost_usd "
            "from finance.usage where operation = 'chat'"
        )
        assert len(rows) == 10
        assert {(row["input_tokens"], row["output_tokens"]) for row in rows} == {(3, 4)}
        assert {row["usage_source"] for row in rows} == {"reported"}
        assert all(row["cost_usd"] > 0 for row in rows)
        assert {row["provider"] for row in rows} == {
            "gcp.gemini",
            "gcp.vertex_ai",
            "aws.bedrock",
            "cohere",
            "ollama",
        }
        log = system.log("worker-1")
        assert "Traceback" not in log
        assert log.count("token.renewed") == 1
        assert "s3cret" not in log
        assert "PRIVATE KEY" not in log


async def _whole_and_streamed(client: Client, kind: str) -> None:
    body = {"model": kind, "messages": [{"role": "user", "content": "hello there"}]}
    whole = await client.complete(body, timeout=20)
    assert whole.body["choices"][0]["message"]["content"] == "You said: hello there", kind
    async with client.stream(body, timeout=20) as stream:
        chunks = [chunk async for chunk in stream]
    texts = [choice["delta"].get("content") or "" for c in chunks for choice in c["choices"]]
    assert "".join(texts) == "You said: hello there", kind
    assert stream.result.body["model"] == kind
