"""A load generator: jobs of about 0.5 KB in, replies out, and how long each took from send to reply."""

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from tests.system import System

from sluice_schemas.classes import JobClass

PROMPT = "Please summarise: " + "the water was let through the gate in the morning. " * 8
TENANT = "default"


@dataclass
class Driver:
    """Sends to the job topics and counts answers on the tenant's reply topic; used as a context manager.

    `distinct`: so many different requests, over and over; None: each is new.
    """

    system: System
    model: str = "bench"
    reply: bool = True
    distinct: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    first_deltas: list[float] = field(default_factory=list)
    done: int = 0
    deltas: int = 0
    _sent: dict[bytes, float] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)
    _run: str = field(default_factory=lambda: secrets.token_hex(4))

    async def __aenter__(self) -> Self:
        topics, bootstrap = self.system.topics, self.system.stack.kafka.bootstrap
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0
        )
        await self._producer.start()
        self._topic = topics.replies(TENANT) if self.reply else topics.results(TENANT)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        await self._consumer.start()
        numbers = await self._producer.partitions_for(self._topic)
        self._consumer.assign([TopicPartition(self._topic, n) for n in numbers])
        await self._consumer.seek_to_end()
        for partition in self._consumer.assignment():
            await self._consumer.position(partition)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._consumer.stop()
        await self._producer.stop()

    @property
    def outstanding(self) -> int:
        """Jobs sent and not answered."""
        return len(self._sent)

    async def send(self, job_class: JobClass, *, model: str | None = None) -> None:
        """Send one job; its answer is awaited in the background. `model`: a streaming one instead."""
        number = next(self._numbers)
        key = f"{self._run}-{number}".encode()
        prompt = number % self.distinct if self.distinct else number
        body: dict[str, Any] = {
            "model": model or self.model,
            "messages": [{"role": "user", "content": f"{prompt} {PROMPT}"}],
        }
        if model is not None:
            body["stream"] = True
        job: dict[str, Any] = {"custom_id": key.decode(), "body": body}
        if self.options:
            job["options"] = self.options
        value = json.dumps(job).encode()
        headers = [("correlation_id", key)]
        if self.reply:
            headers.append(("reply_to", self._topic.encode()))
        self._sent[key] = time.perf_counter()
        await self._producer.send(self.system.topics.jobs(job_class), value, headers=headers)

    async def closed(self, jobs: int, *, window: int, classes: Sequence[JobClass]) -> None:
        """Send `jobs` jobs, at most `window` unanswered, and wait for all of them."""
        mix = itertools.cycle(classes)
        for _ in range(jobs):
            while len(self._sent) >= window:
                await asyncio.sleep(0.001)
            await self.send(next(mix))
        await self.idle()

    async def paced(
        self, jobs: int, *, rate: float, job_class: JobClass, model: str | None = None
    ) -> None:
        """Send `jobs` jobs at `rate` a second, and wait for all of them."""
        start = time.perf_counter()
        for number in range(jobs):
            ahead = number / rate - (time.perf_counter() - start)
            if ahead > 0:
                await asyncio.sleep(ahead)
            await self.send(job_class, model=model)
        await self.idle()

    async def idle(self, within_s: float = 600.0) -> None:
        """Wait until everything sent is answered."""
        deadline = time.monotonic() + within_s
        while self._sent and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        if self._sent:
            raise TimeoutError(f"{len(self._sent)} jobs are not answered after {within_s:g} s")

    async def _read(self) -> None:
        while True:
            batch = await self._consumer.getmany(timeout_ms=1000)
            now = time.perf_counter()
            for records in batch.values():
                for record in records:
                    self._answer(record, now)

    def _answer(self, record: Any, now: float) -> None:
        headers = dict(record.headers)
        key = headers.get("correlation_id", b"")
        if b"job.delta" in headers.get("ce_type", b""):
            self.deltas += 1
            if b'"seq":0' in record.value[:120] and key in self._sent:
                self.first_deltas.append(now - self._sent[key])
            return
        started = self._sent.pop(key, None)
        if started is not None:
            self.done += 1
            self.latencies.append(now - started)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, in milliseconds to a tenth."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)
