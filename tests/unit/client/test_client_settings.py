"""What a client is made from: arguments, environment, and results fetched past the bound."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from sluice_client import Client, Connection, Job, NotConfigured
from sluice_client.fetch import fetch
from sluice_client.model import read_result


def test_the_connection_of_the_environment(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("p\n")
    connection = Connection.from_environment(
        {
            "SLUICE_KAFKA": "a:1,b:2",
            "SLUICE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "SLUICE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
            "SLUICE_KAFKA_SASL_USERNAME": "u",
            "SLUICE_KAFKA_SASL_PASSWORD_FILE": str(password),
        }
    )
    arguments = connection.arguments()
    assert arguments["bootstrap_servers"] == "a:1,b:2"
    assert arguments["security_protocol"] == "SASL_PLAINTEXT"
    assert arguments["sasl_mechanism"] == "SCRAM-SHA-256"
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("u", "p")
    assert "sasl_password" not in repr(connection)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "SLUICE_KAFKA"),
        ({"SLUICE_KAFKA": "a:1", "SLUICE_KEY": "no-colon"}, "SLUICE_KEY"),
        ({"SLUICE_KAFKA": "a:1", "SLUICE_KEY": ":secret"}, "SLUICE_KEY"),
        ({"SLUICE_KAFKA_FILE": "/nowhere"}, "SLUICE_KAFKA_FILE"),
    ],
)
def test_a_wrong_environment_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(NotConfigured, match=named) as caught:
        Client.from_environment(environ=environ)
    assert "no-colon" not in str(caught.value)


def test_key_id_and_secret_go_together() -> None:
    with pytest.raises(NotConfigured):
        Client("a:1", tenant="t", key_id="k")
    with pytest.raises(NotConfigured):
        Connection(bootstrap="a:1", security_protocol="SASL_SSL").arguments()


async def test_a_client_that_is_not_open_says_so() -> None:
    client = Client.from_environment(environ={"SLUICE_KAFKA": "a:1", "SLUICE_KEY": "k:s:t"})
    with pytest.raises(RuntimeError, match="async with"):
        await client.submit(Job(body={}))
    with pytest.raises(ValueError, match="exactly one"):
        await client.cancel(id="a", run_id="b")


@pytest.fixture
async def edge() -> AsyncIterator[str]:
    async def answer(request: web.BaseRequest) -> web.Response:
        if request.headers.get("authorization") != "Bearer s":
            return web.Response(status=401)
        return web.Response(body=orjson.dumps({"path": request.path}))

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_fetching_from_an_edge(edge: str) -> None:
    value = await fetch(edge + "/", "/v1/jobs/x/result", "s")
    assert orjson.loads(value) == {"path": "/v1/jobs/x/result"}
    with pytest.raises(OSError, match="401"):
        await fetch(edge, "/v1/jobs/x/result", None)
    with pytest.raises(OSError, match="http"):
        await fetch("ftp://x", "/y", None)


def test_a_result_says_where_its_body_is() -> None:
    document: dict[str, object] = {
        "id": "j",
        "custom_id": None,
        "response": {"status_code": 200, "request_id": None, "body": None},
        "error": None,
        "job": {"state": "succeeded", "error": None, "cost_usd": "1.500000000", "usage": {}},
    }
    read = read_result(orjson.dumps(document), {"ce_dataref": b"/v1/jobs/j/result"})
    assert (read.dataref, read.body, str(read.cost_usd)) == (
        "/v1/jobs/j/result",
        None,
        "1.500000000",
    )
    assert read.request_id is None


def test_a_result_carries_the_providers_request_id() -> None:
    document: dict[str, object] = {
        "id": "j",
        "custom_id": None,
        "response": {"status_code": 200, "request_id": "req-7", "body": {}},
        "error": None,
        "job": {"state": "succeeded", "error": None, "cost_usd": "0.000000000", "usage": {}},
    }
    assert read_result(orjson.dumps(document), {}).request_id == "req-7"
    assert read_result(orjson.dumps({**document, "response": None}), {}).request_id is None
