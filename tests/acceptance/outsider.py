"""A program that knows the contract alone: raw records in, raw records out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self
from uuid import NAMESPACE_URL, uuid4, uuid5

from aiokafka import AIOKafkaProducer, ConsumerRecord
from tests.conftest import Template
from tests.system import Collector, System, database_from

from sluice_devstack.stack import Stack

Header = tuple[str, bytes | None]
RECORD_BYTES = 1024**2


def config_of(prefix: str, mock_url: str) -> dict[str, Any]:
    """The configuration that the contract tests run on, laid over every system's."""
    return {
        "providers": {
            # Nothing listens on the port of `absent`.
            "absent": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"},
            "hasty": {
                "kind": "openai",
                "base_url": f"{mock_url}/v1",
                "provider": "openai",
                "timeouts": {"first_byte": "700ms"},
            },
        },
        "models": {
            # Half a nano-dollar a token in, one and a half out: rounding shows.
            "odd": {
                "targets": [{"account": "mock", "model": "gpt-4o-mini"}],
                "prices": {"input": "0.0005", "cached_input": "0.0001", "output": "0.0015"},
            },
            "hasty": {
                "targets": [{"account": "hasty", "model": "gpt-4o-mini"}],
                "prices": {"input": "1", "output": "2"},
                "default_max_tokens": 100,
            },
        },
        "tenants": {
            "default": {
                "teams": {"ml": {}},
                "projects": {"search": {"team": "ml", "apps": ["web"]}},
                "reply_topics": [f"{prefix}own"],
            },
            "other": {"projects": {"theirs": {}}},
        },
        "limits": {"record_bytes": RECORD_BYTES},
        "intake": {"topics": [{"name": f"{prefix}theirs", "class": "bulk", "tenant": "other"}]},
    }


class OutsideWorld:
    """`async with OutsideWorld(stack, template) as outside:` a gateway, and a program outside it."""

    def __init__(self, stack: Stack, template: Template) -> None:
        self._stack = stack
        self._template = template
        self.prefix = f"o{uuid4().hex[:6]}."

    async def __aenter__(self) -> "Outsider":
        self._database = database_from(self._template.admin_dsn, self._template.name)
        dsn = await self._database.__aenter__()
        self._system = System(
            self._stack,
            database_dsn=dsn,
            kafka_prefix=self.prefix,
            config=partial(config_of, self.prefix),
        )
        system = await self._system.__aenter__()
        self._outsider = Outsider(system)
        return await self._outsider.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self._outsider.__aexit__()
        await self._system.__aexit__(None)
        await self._database.__aexit__(None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A record as the broker has it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    correlation: bytes


class Outsider:
    """Sends records to a gateway and reads every topic it writes."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.topics = system.topics

    async def __aenter__(self) -> Self:
        self.producer = AIOKafkaProducer(
            bootstrap_servers=self.system.stack.kafka.bootstrap, max_request_size=64 * 1024**2
        )
        await self.producer.start()
        cluster = self.producer.client.cluster
        self.own_topic = f"{self.topics.prefix}own"
        self.results = await self.system.consume(self.topics.results("default"))
        self.replies = await self.system.consume(self.topics.replies("default"))
        self.own = await self.system.consume(self.own_topic)
        self.usage = await self.system.consume(self.topics.usage)
        self.letters = await self.system.consume(self.topics.dead_letters)
        self.cluster_id = await self._cluster_id()
        assert cluster is not None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.producer.stop()

    async def _cluster_id(self) -> str:
        from aiokafka.admin import AIOKafkaAdminClient

        client = AIOKafkaAdminClient(bootstrap_servers=self.system.stack.kafka.bootstrap)
        await client.start()
        try:
            return str((await client.describe_cluster())["cluster_id"])
        finally:
            await client.close()

    def jobs(self, job_class: str = "realtime") -> str:
        """The topic of a class."""
        return f"{self.topics.prefix}jobs.{job_class}.v1"

    async def put(
        self,
        value: bytes | None,
        headers: Sequence[Header] = (),
        *,
        topic: str | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        correlation: bytes = b"",
    ) -> Sent:
        """Put one record as it is."""
        at = await self.producer.send_and_wait(
            topic or self.jobs(), value=value, key=key, partition=partition, headers=list(headers)
        )
        return Sent(
            topic=at.topic,
            partition=at.partition,
            offset=at.offset,
            timestamp_ms=at.timestamp,
            correlation=correlation,
        )

    async def send(
        self,
        body: object,
        *,
        job_class: str = "realtime",
        headers: Sequence[Header] = (),
        reply_to: str | None = None,
        key: bytes | None = None,
        line: dict[str, Any] | None = None,
        **options: object,
    ) -> Sent:
        """Put a job that asks for a reply under a correlation id of its own."""
        correlation = uuid4().hex.encode()
        document = {"body": body, **(line or {})}
        if options:
            document["options"] = options
        address = (reply_to or self.topics.replies("default")).encode()
        return await self.put(
            json.dumps(document).encode(),
            [("correlation_id", correlation), ("reply_to", address), *headers],
            topic=self.jobs(job_class),
            key=key,
            correlation=correlation,
        )

    async def ask(self, body: object, **arguments: Any) -> ConsumerRecord:
        """Put a job and return the record of its reply."""
        return await self.reply_to(await self.send(body, **arguments))

    async def reply_to(self, sent: Sent, within_s: float = 15.0) -> ConsumerRecord:
        """The result that came for a record on the tenant's reply topic."""
        (record, *_) = await self.replies.wait_for(
            lambda: results_in(self.replies, sent.correlation), within_s=within_s
        )
        return record

    async def result_of(self, job_id: str, within_s: float = 15.0) -> ConsumerRecord:
        """The first result of a job on the results topic."""
        (record, *_) = await self.results.wait_for(
            lambda: self.results.by_key(job_id.encode()), within_s=within_s
        )
        return record

    async def usage_rows(self, job_id: str, count: int = 1) -> list[Any]:
        """The rows of `finance.usage` of a job, in the order of its attempts."""
        from tests.waiting import eventually

        async def rows() -> list[Any]:
            found = await self.system.pool.fetch(
                "select * from finance.usage where job_id = $1 order by attempt, recorded_at",
                job_id,
            )
            return list(found)

        async def enough() -> bool:
            return len(await rows()) >= count

        await eventually(enough)
        return await rows()

    def record_id(self, sent: Sent, tenant: str = "default") -> str:
        """The identity of a record itself, by the contract's rule."""
        name = f"record:{self.cluster_id}/{sent.topic}/{sent.partition}/{sent.offset}/{sent.timestamp_ms}"
        return str(uuid5(tenant_namespace(tenant), name))


def tenant_namespace(tenant: str = "default") -> Any:
    """The namespace of a tenant's ids, by the contract's rule."""
    return uuid5(NAMESPACE_URL, f"urn:sluicegate:tenant:{tenant}")


def results_in(collector: Collector, correlation: bytes) -> list[ConsumerRecord]:
    """The results among the records that answer a correlation id."""
    return [
        record
        for record in collector.by_header("correlation_id", correlation)
        if ("ce_type", b"com.sluicegate.job.completed.v1") in record.headers
    ]


def value_of(record: ConsumerRecord) -> Any:
    """The value as JSON."""
    return json.loads(record.value)


def header(record: ConsumerRecord, name: str) -> bytes | None:
    """A header's value; None where it is absent. A repeated one is a fault."""
    found = [value for key, value in record.headers if key == name]
    assert len(found) <= 1, f"{name} repeats"
    return found[0] if found else None


def say(text: str, model: str = "odd", **more: object) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}
