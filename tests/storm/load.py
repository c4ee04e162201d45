"""The jobs of a storm: three classes, duplicates, cancels before and after, some `on_unknown: retry`."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer

from sluice_schemas.classes import JobClass
from sluice_schemas.identity import id_by_key
from sluice_schemas.topics import Topics

TENANT = "default"
KINDS = 40
"""Of requests that a cache may answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One job as it was sent; `retries` is `on_unknown: retry`."""

    id: UUID
    key: str
    model: str
    job_class: JobClass
    retries: bool
    duplicates: int
    cancelled: bool


@dataclass(slots=True, kw_only=True)
class Load:
    """Sends `jobs` jobs at `rate` a second. The seed decides all of it but the timing."""

    topics: Topics
    bootstrap: str
    jobs: int
    rate: float
    seed: int
    models: Sequence[str] = ("fast",)
    duplicate_share: float = 0.05
    cancel_share: float = 0.04
    retry_share: float = 0.1
    sent: list[Sent] = field(default_factory=list)

    async def run(self) -> None:
        """Send everything; returns once Kafka has it."""
        chance = random.Random(self.seed)
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True, linger_ms=5
        )
        await producer.start()
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            for number in range(self.jobs):
                self.sent.append(await self._one(producer, number, chance))
                ahead = number / self.rate - (loop.time() - start)
                if ahead > 0.01:
                    await asyncio.sleep(ahead)
            await producer.flush()
        finally:
            await producer.stop()

    async def _one(self, producer: AIOKafkaProducer, number: int, chance: random.Random) -> Sent:
        key = f"storm-{self.seed}-{number}"
        job = Sent(
            id=id_by_key(TENANT, key),
            key=key,
            model=chance.choice(self.models),
            job_class=chance.choice(list(JobClass)),
            retries=chance.random() < self.retry_share,
            duplicates=int(chance.random() < self.duplicate_share),
            cancelled=chance.random() < self.cancel_share,
        )
        early = job.cancelled and chance.random() < 0.5
        if early:
            await self._cancel(producer, job)
        value = json.dumps(
            {
                "custom_id": key,
                "body": _body(job.model, number),
                "options": {
                    "idempotency_key": key,
                    "timeout_s": 3600,
                    "max_wait_s": 3600,
                    "max_attempts": 20,
                    "on_unknown": "retry" if job.retries else "stop",
                },
            }
        ).encode()
        for _ in range(1 + job.duplicates):
            await producer.send(self.topics.jobs(job.job_class), value)
        if job.cancelled and not early:
            await self._cancel(producer, job)
        return job

    async def _cancel(self, producer: AIOKafkaProducer, job: Sent) -> None:
        await producer.send(self.topics.control, json.dumps({"id": str(job.id)}).encode())


def _body(model: str, number: int) -> dict[str, Any]:
    """A request; of `kept` one of few, and of `tiered` one that wants JSON, which the mock never gives."""
    about = number % KINDS if model == "kept" else number
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": f"Job {about}: " + "water " * 70}],
    }
    if model == "tiered":
        body["response_format"] = {"type": "json_object"}
    return body
