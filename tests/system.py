"""A whole gateway for tests: configuration, topics, mock provider, workers and keepers as real processes."""

import asyncio
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import yaml
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import NewTopic
from tests.waiting import eventually

from sluice_devstack.processes import Process, installed_command, scripts_environment
from sluice_devstack.stack import Stack
from sluice_platform.kafka import admin
from sluice_platform.settings import load_settings
from sluice_schemas.topics import Topics, topic_specs

PARTITIONS = 4
START_S = 30.0
_TAIL_BYTES = 4_000


def prices(per_million_in: str, per_million_out: str) -> dict[str, str]:
    """The `prices` of a model, in dollars per million tokens."""
    return {"input": per_million_in, "output": per_million_out}


def configuration(mock_url: str, prefix: str) -> dict[str, Any]:
    """What every system starts from: accounts `mock` and `claude`, priced models, one tenant."""
    return {
        "kafka": {"prefix": prefix, "partitions": PARTITIONS},
        "providers": {
            "mock": {"kind": "openai", "base_url": f"{mock_url}/v1", "provider": "openai"},
            "claude": {"kind": "anthropic", "base_url": f"{mock_url}/v1", "provider": "anthropic"},
        },
        "models": {
            "fast": {
                "targets": [{"account": "mock", "model": "gpt-4o-mini"}],
                "prices": prices("0.15", "0.60"),
            },
            "smart": {
                "targets": [{"account": "claude", "model": "claude-sonnet-4-5"}],
                "prices": prices("3", "15"),
            },
            "*": {"targets": [{"account": "mock"}]},
        },
        "tenants": {"default": {"projects": {"search": {}}}},
        "intake": {"unsigned": "tenant:default"},
    }


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping."""
    result = dict(base)
    for name, value in changes.items():
        below = result.get(name)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[name] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


class MockProvider:
    """The administration of a mock provider's process."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def requests(self, after: int = 0) -> list[dict[str, Any]]:
        """Every request it saw with a greater `seq`."""
        return await self._ask("GET", f"requests?after={after}")  # type: ignore[no-any-return]

    async def calls_of(self, job_id: str) -> list[dict[str, Any]]:
        """The requests made for one job, in order."""
        return [r for r in await self.requests() if r["job"].startswith(job_id)]

    async def counts(self) -> dict[str, int]:
        """Calls per job header."""
        return await self._ask("GET", "counts")  # type: ignore[no-any-return]

    async def rule(self, behaviour: str, **rule: Any) -> int:
        """Add a rule (`match=`, `first=`, `probability=`); returns its id."""
        answer = await self._ask("POST", "rules", {"behaviour": behaviour, **rule})
        return int(answer["id"])

    async def forget_rule(self, number: int) -> None:
        """Remove a rule."""
        await self._ask("DELETE", f"rules/{number}")

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        async with self._session.request(method, f"{self.url}/_mock/{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()


class Collector:
    """Every record of one topic since its beginning, read in the background."""

    def __init__(self, topic: str, consumer: AIOKafkaConsumer) -> None:
        self.topic = topic
        self.records: list[ConsumerRecord] = []
        self._consumer = consumer
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=1000)).values():
                self.records += records

    async def close(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    def by_key(self, key: bytes) -> list[ConsumerRecord]:
        """The records with a key, in the order read."""
        return [record for record in self.records if record.key == key]

    def by_header(self, name: str, value: bytes) -> list[ConsumerRecord]:
        """The records that carry a header."""
        return [record for record in self.records if (name, value) in record.headers]

    async def wait_for(
        self, select: Callable[[], Sequence[ConsumerRecord]], count: int = 1, within_s: float = 15.0
    ) -> list[ConsumerRecord]:
        """What `select` finds once it finds `count` records."""
        await eventually(lambda: len(select()) >= count, within_s=within_s)
        return list(select())


class System:
    """`async with System(stack, database_dsn=…, kafka_prefix=…) as system:` runs a whole gateway.

    `process_dsn` is what workers and keepers connect to, where that is not the database itself.
    `config` is laid over `configuration`; a callable is given the mock provider's address. Workers
    and keepers are real processes; their logs lie in `directory`, and the ends of all logs are shown
    where the start fails or the block is left by an exception.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        database_dsn: str,
        kafka_prefix: str,
        workers: int = 1,
        keepers: int = 1,
        config: Mapping[str, Any] | Callable[[str], Mapping[str, Any]] | None = None,
        process_dsn: str | None = None,
    ) -> None:
        self.stack = stack
        self.database_dsn = database_dsn
        self._process_dsn = process_dsn or database_dsn
        self.topics = Topics(prefix=kafka_prefix)
        self.master_key = secrets.token_bytes(32)
        self.workers: dict[str, Process] = {}
        self.keepers: dict[str, Process] = {}
        self._wanted = (workers, keepers)
        self._config = config or {}
        self._collectors: dict[str, Collector] = {}

    async def __aenter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="sluice-system-")
        self.directory = Path(self._temporary.name)
        self._session = aiohttp.ClientSession()
        self.pool = await asyncpg.create_pool(self.database_dsn, min_size=1, max_size=4)
        try:
            await self._start()
        except BaseException:
            self.show_logs()
            await self._stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.show_logs()
        await self._stop()

    async def _start(self) -> None:
        await self.start_mock()
        changes = self._config(self.mock.url) if callable(self._config) else self._config
        document = self.document = merged(configuration(self.mock.url, self.topics.prefix), changes)
        self.config_path = self.directory / "sluice.yaml"
        self.config_path.write_text(yaml.safe_dump(document, sort_keys=False))
        await self._create_topics(document)
        workers, keepers = self._wanted
        for _ in range(workers):
            self.start_worker()
        for _ in range(keepers):
            self.start_keeper()
        for name in (*self.workers, *self.keepers):
            await self.ready(name)

    async def _stop(self) -> None:
        await asyncio.gather(*(c.close() for c in self._collectors.values()))
        processes = [*self.workers.values(), *self.keepers.values()]
        for process in processes:
            process.kill()
        await asyncio.gather(*(process.stop() for process in processes))
        if hasattr(self, "mock_process"):
            self.mock_process.kill()
            await self.mock_process.stop()
        await self._session.close()
        await self.pool.close()
        self._temporary.cleanup()

    async def start_mock(self, port: int = 0) -> None:
        """Start the mock provider; with the port of one that was killed it takes its place."""
        log = self.directory / "mock.log"
        record = self.directory / "mock.jsonl"
        seen = log.stat().st_size if log.exists() else 0
        command = [sys.executable, "-m", "sluice_devstack.mock_provider", "--port", str(port)]
        self.mock_process = Process([*command, "--record", record], log=log, grace_s=2.0)
        await self._until(lambda: b"http://" in log.read_bytes()[seen:])
        url = log.read_bytes()[seen:].decode().split()[0]
        self.mock = MockProvider(url, self._session)

    async def _create_topics(self, document: Mapping[str, Any]) -> None:
        extra = document["intake"].get("topics", ())
        specs = topic_specs(
            self.topics,
            record_bytes=self.record_bytes(document),
            tenants=document["tenants"],
            intake_jobs=[t["name"] for t in extra if t["class"] != "control"],
            intake_control=[t["name"] for t in extra if t["class"] == "control"],
        )
        listed = [NewTopic(s.name, PARTITIONS, 1, topic_configs=s.settings) for s in specs]
        own = {topic for t in document["tenants"].values() for topic in t.get("reply_topics", ())}
        listed += [NewTopic(name, 1, 1) for name in own]
        client = admin(load_settings(self.environment()))
        await client.start()
        try:
            await client.create_topics(listed)
        finally:
            await client.close()

    @staticmethod
    def record_bytes(document: Mapping[str, Any]) -> int:
        """`limits.record_bytes` of a configuration that names it as a number."""
        return int(document.get("limits", {}).get("record_bytes", 8 * 1024**2))

    def environment(self) -> dict[str, str]:
        """What every process of this system gets."""
        environment = scripts_environment(self.stack.environment())
        environment["SLUICE_DATABASE"] = self._process_dsn
        environment["SLUICE_MASTER_KEY"] = self.master_key.hex()
        if hasattr(self, "config_path"):
            environment["SLUICE_CONFIG"] = str(self.config_path)
        return environment

    def start_worker(
        self,
        name: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        pool: str = "default",
    ) -> Process:
        """Start a worker; `name` is its log's, `environment` adds to what every process gets."""
        name = name or f"worker-{len(self.workers) + 1}"
        return self._launch(self.workers, name, "worker", environment, "--pool", pool)

    def start_keeper(
        self, name: str | None = None, *, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a keeper."""
        name = name or f"keeper-{len(self.keepers) + 1}"
        return self._launch(self.keepers, name, "keeper", environment)

    def _launch(
        self,
        family: dict[str, Process],
        name: str,
        command: str,
        environment: Mapping[str, str] | None,
        *options: str,
    ) -> Process:
        family[name] = Process(
            [installed_command("sluice"), command, *options],
            log=self.directory / f"{name}.log",
            environment={**self.environment(), **(environment or {})},
        )
        return family[name]

    async def ready(self, name: str) -> None:
        """Returns once the process logs that it is ready; fails if it ended before."""
        process = self.workers.get(name) or self.keepers[name]

        def up() -> bool:
            assert process.returncode is None, f"{name} ended\n{self.log(name)}"
            return ".ready" in self.log(name)

        await self._until(up)

    async def _until(self, condition: Callable[[], object]) -> None:
        try:
            await eventually(condition, within_s=START_S)
        except AssertionError:
            self.show_logs()
            raise

    async def consume(self, topic: str) -> Collector:
        """The collector of a topic; the same one however often it is asked for."""
        if topic not in self._collectors:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.stack.kafka.bootstrap,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                max_partition_fetch_bytes=16 * 1024**2,
            )
            await consumer.start()
            assigned = [TopicPartition(topic, number) for number in await self._partitions(topic)]
            consumer.assign(assigned)
            await consumer.seek_to_beginning(*assigned)
            self._collectors[topic] = Collector(topic, consumer)
        return self._collectors[topic]

    async def _partitions(self, topic: str) -> list[int]:
        client = admin(load_settings(self.environment()))
        await client.start()
        try:
            (described,) = await client.describe_topics([topic])
        finally:
            await client.close()
        assert described["partitions"], f"no topic {topic}"
        return [int(partition["partition"]) for partition in described["partitions"]]

    async def command(self, *arguments: str) -> str:
        """What `sluice` with these arguments prints; fails where it fails."""
        process = await asyncio.create_subprocess_exec(
            installed_command("sluice"),
            *arguments,
            env=self.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()

    def log(self, name: str) -> str:
        """The whole log of a process, by its name."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def logs(self) -> dict[str, str]:
        """The logs of all workers and keepers."""
        return {name: self.log(name) for name in (*self.workers, *self.keepers)}

    def show_logs(self) -> None:
        """Print the end of every process's log."""
        for path in sorted(self.directory.glob("*.log")):
            tail = path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
            print(f"--- end of {path.name}\n{tail}")  # noqa: T201


@asynccontextmanager
async def database_from(admin_dsn: str, template: str) -> AsyncIterator[str]:
    """The DSN of a new database made from a template, dropped in the end."""
    name = f"system_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute(f'create database "{name}" template "{template}"')
        yield urlunsplit(urlsplit(admin_dsn)._replace(path=f"/{name}"))
        await connection.execute(f'drop database "{name}" with (force)')
    finally:
        await connection.close()
