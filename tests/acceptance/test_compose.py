"""compose/compose.yaml as processes: the composed commands and environment, on the servers of the tests."""

import asyncio
import json
import re
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import yaml
from tests.waiting import eventually

from sluice_devstack.ground import free_port
from sluice_devstack.processes import Process
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.acceptance, pytest.mark.xdist_group("cli")]

COMPOSE = Path(__file__).parents[2] / "compose" / "compose.yaml"
PROVIDER_KEY = "sk-compose-test"
PROBE_PORT = "8081"
_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")


@dataclass(kw_only=True)
class Composed:
    """The services of the file. What a container would see under a path lies in `directory`."""

    directory: Path
    kafka: str
    document: dict[str, Any] = field(
        default_factory=lambda: yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    )
    ports: dict[str, str] = field(default_factory=dict)

    def service(self, name: str) -> Mapping[str, Any]:
        service: Mapping[str, Any] = self.document["services"][name]
        return service

    def environment(self, name: str) -> dict[str, str]:
        """What the container would have, and a PATH: no variable of this process gets through."""
        service = self.service(name)
        mounts = {f"/run/secrets/{secret}" for secret in service["secrets"]}
        mounts |= {config["target"] for config in service["configs"]}
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
        for variable, composed in service["environment"].items():
            value = _VARIABLE.sub(
                lambda found: {"OPENAI_API_KEY": PROVIDER_KEY}[found[1]], composed
            )
            if value.startswith("/"):
                assert value in mounts, f"{variable} of {name} names what is not mounted"
                value = f"{self.directory}{value}"
            environment[variable] = value.replace("kafka:9092", self.kafka)
        if "SLUICE_HEALTH" in environment:
            host, _, port = environment["SLUICE_HEALTH"].rpartition(":")
            assert (host, port) == ("0.0.0.0", PROBE_PORT)
            self.ports.setdefault(name, str(free_port()))
            environment["SLUICE_HEALTH"] = f"127.0.0.1:{self.ports[name]}"
        return environment

    def start(self, name: str, command: list[str] | None = None, **more: str) -> Process:
        """Run a service, or another command in its place."""
        return Process(
            command or self.service(name)["command"],
            log=self.log(name),
            environment={**self.environment(name), **more},
            directory=self.directory,
        )

    def probe(self, name: str) -> Process:
        """Run a service's health check once."""
        kind, *command = self.service(name)["healthcheck"]["test"]
        assert kind == "CMD"
        command = [part.replace(f":{PROBE_PORT}/", f":{self.ports[name]}/") for part in command]
        return self.start(name, command)

    async def healthy(self, name: str) -> bool:
        return await self.probe(name).wait(10.0) == 0

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"


@pytest.fixture
async def empty_database(stack: Stack) -> AsyncIterator[str]:
    name = f"composed_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(stack.postgres.dsn)
    await admin.execute(f'create database "{name}"')
    yield urlunsplit(urlsplit(stack.postgres.dsn)._replace(path=f"/{name}"))
    await admin.execute(f'drop database "{name}" with (force)')
    await admin.close()


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a mock provider."""
    log = tmp_path / "mock.log"
    process = Process(
        [sys.executable, "-m", "sluice_devstack.mock_provider", "--port", "0"], log=log, grace_s=2.0
    )
    await eventually(lambda: b"http://" in log.read_bytes())
    yield log.read_text(encoding="utf-8").split()[0]
    await process.stop()


@pytest.fixture
def composed(
    tmp_path: Path, stack: Stack, empty_database: str, provider: str, kafka_prefix: str
) -> Composed:
    """The secrets made as the file's head says, and its example configuration with the mock as provider."""
    mounted = tmp_path / "run" / "secrets"
    mounted.mkdir(parents=True)
    (mounted / "database").write_text(empty_database)
    (mounted / "master_key").write_text(f"{secrets.token_hex(32)}\n")
    found = Composed(directory=tmp_path, kafka=stack.kafka.bootstrap)
    assert found.document["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == (
        "BROKER://kafka:9092"
    )
    example = COMPOSE.parent / found.document["configs"]["sluice"]["file"]
    config = yaml.safe_load(example.read_text(encoding="utf-8"))
    config["providers"]["openai"]["base_url"] = f"{provider}/v1"
    config["kafka"] = {"prefix": kafka_prefix}
    path = tmp_path / "etc" / "sluice" / "sluice.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(config))
    return found


def test_only_workers_are_given_the_providers_keys() -> None:
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    given = {name for name, one in services.items() if "OPENAI_API_KEY" in one["environment"]}
    assert given == {"worker"}


async def test_the_composed_system_answers_a_job(composed: Composed) -> None:
    assert await composed.start("migrate").wait(30.0) == 0, composed.log("migrate").read_text()
    running = {name: composed.start(name) for name in ("worker", "keeper")}
    try:
        for name, process in running.items():
            await eventually(lambda name=name: composed.healthy(name), within_s=20.0)
            assert process.returncode is None
        await _submitted(composed)
        for process in running.values():
            process.terminate()
        for name, process in running.items():
            assert await process.wait(15.0) == 0, composed.log(name).read_text()
    finally:
        await asyncio.gather(*(process.stop() for process in running.values()))


async def _submitted(composed: Composed) -> None:
    """A key from the operator, and one job that an outsider signs with it."""
    keys = ["sluice", "keys", "create", "--tenant", "acme", "--project", "search", "--json"]
    key = json.loads(await _output(composed, keys))
    jobs, out = composed.directory / "jobs.jsonl", composed.directory / "ok.jsonl"
    body = {"model": "fast", "messages": [{"role": "user", "content": "one sluice"}]}
    jobs.write_text(json.dumps({"custom_id": "row-1", "body": body}) + "\n")
    submit = ["sluice", "submit", str(jobs), "--class", "realtime", "--tenant", "acme"]
    secret = f"{key['id']}:{key['secret']}"
    printed = await _output(
        composed, [*submit, "--wait", "--out", str(out), "--json"], SLUICE_KEY=secret
    )
    assert json.loads(printed)["states"] == {"succeeded": 1}
    (line,) = map(json.loads, out.read_text().splitlines())
    assert (line["custom_id"], line["error"]) == ("row-1", None)
    assert (line["response"]["status_code"], line["response"]["request_id"]) == (200, "req_1")
    assert line["response"]["body"]["model"] == "fast"


async def _output(composed: Composed, command: list[str], **more: str) -> str:
    """What a command prints in the place of `migrate`, which has no provider's key either."""
    composed.log("migrate").unlink()
    ended = await composed.start("migrate", command, **more).wait(30.0)
    printed = composed.log("migrate").read_text()
    assert ended == 0, printed
    return printed
