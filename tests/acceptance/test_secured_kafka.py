"""The gateway on a Kafka with TLS, passwords and rights: those that `sluice topics acls` prints are enough, and all."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaConsumer
from tests.acceptance.secured import SecuredKafka, certify
from tests.system import configuration
from tests.waiting import eventually

from sluice_client import Client, Connection, NotConnected
from sluice_devstack.processes import Process, installed_command, scripts_environment

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("secured")]

USERS = ("sluice-worker", "sluice-keeper", "sluice-operator", "acme", "beta")


@dataclass(frozen=True)
class Locked:
    """The broker, and how its processes are started."""

    kafka: SecuredKafka
    common: dict[str, str]
    directory: Path

    def environment(self, user: str, password: str | None = None) -> dict[str, str]:
        return self.common | self.kafka.environment(user, password)

    async def sluice(
        self,
        *arguments: str,
        user: str = "sluice-operator",
        password: str | None = None,
        **changed: str,
    ) -> tuple[int, str]:
        """A command's return code, and all that it said."""
        process = await asyncio.create_subprocess_exec(
            installed_command("sluice"),
            *arguments,
            env=os.environ | self.environment(user, password) | changed,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    def start(self, command: str) -> Process:
        return Process(
            [installed_command("sluice"), command],
            log=self.directory / f"{command}.log",
            environment=self.environment(f"sluice-{command}"),
        )


@pytest.fixture(scope="module")
async def locked(short_directory: Path) -> AsyncIterator[Locked]:
    directory = short_directory / "secured"
    directory.mkdir()
    passwords = {user: secrets.token_hex(8) for user in USERS}
    async with SecuredKafka(directory / "kafka", passwords=passwords) as kafka:
        yield Locked(kafka, dict(scripts_environment({})), directory)


@pytest.fixture
async def running(locked: Locked, database: str) -> AsyncIterator[Locked]:
    """Topics made by the operator, a worker and a keeper, each with its own rights alone."""
    log = locked.directory / "mock.log"
    mock = Process([sys.executable, "-m", "sluice_devstack.mock_provider", "--port", "0"], log=log)
    await eventually(lambda: log.exists() and b"http://" in log.read_bytes())
    document = configuration(log.read_text().split()[0], "") | {
        "kafka": {"partitions": 2},
        "tenants": {"acme": {}, "beta": {}},
        "intake": {"unsigned": "tenant:acme"},
    }
    config = locked.directory / "sluice.yaml"
    config.write_text(yaml.safe_dump(document))
    locked.common.update(
        SLUICE_DATABASE=database,
        SLUICE_CONFIG=str(config),
        SLUICE_MASTER_KEY=secrets.token_hex(32),
    )
    code, said = await locked.sluice("topics", "acls", "--json")
    assert code == 0, said
    await locked.kafka.grant(json.loads(said))
    code, said = await locked.sluice("topics", "create")
    assert code == 0, said
    processes = [mock, locked.start("worker"), locked.start("keeper")]
    try:
        for command in ("worker", "keeper"):
            log = locked.directory / f"{command}.log"
            await eventually(lambda log=log: b".ready" in log.read_bytes(), within_s=30.0)
        yield locked
    finally:
        for process in processes:
            process.kill()
            await process.stop()


def connection(locked: Locked, user: str) -> Connection:
    return Connection.from_environment(locked.environment(user))


def refusals(locked: Locked) -> Sequence[str]:
    """What the processes were not allowed to do."""
    logs = [locked.directory / "worker.log", locked.directory / "keeper.log"]
    lines = [line for log in logs for line in log.read_text().splitlines()]
    return [line for line in lines if "uthoriz" in line]


async def test_all_that_is_needed_is_granted_and_no_more(running: Locked) -> None:
    body: dict[str, Any] = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
    async with Client(connection(running, "acme"), tenant="acme") as client:
        result = await client.complete(body, timeout=30)
        assert (result.state, result.report["account"]) == ("succeeded", "mock")
        async with client.stream(body, timeout=30) as stream:
            chunks = [chunk async for chunk in stream]
        assert len(chunks) > 1
        # The control topic is another one.
        await client.cancel(id="00000000-0000-0000-0000-000000000000")

    consumer = AIOKafkaConsumer(**connection(running, "beta").arguments())
    await consumer.start()
    try:
        assert await consumer.topics() == {"llm.results.beta.v1", "llm.replies.beta.v1"}
    finally:
        await consumer.stop()
    # Unsigned records are acme's here, so beta may write none.
    with pytest.raises(NotConnected, match="may write"):
        async with Client(connection(running, "beta"), tenant="beta"):
            pass

    code, said = await running.sluice("doctor")
    assert code == 0, said
    assert refusals(running) == []


async def test_who_is_not_let_in_is_told_why_at_once(running: Locked) -> None:
    code, said = await running.sluice("worker", user="sluice-worker", password="wrong")
    assert code != 0
    assert "refuses the login" in said
    assert "SLUICE_KAFKA_SASL_PASSWORD" in said
    assert "Traceback" not in said
    other = running.directory / "other.pem"
    certify(running.directory / "other-store.pem", other)
    code, said = await running.sluice("doctor", SLUICE_KAFKA_SSL_CAFILE=str(other))
    assert code != 0
    assert "SLUICE_KAFKA_SSL_CAFILE" in said
