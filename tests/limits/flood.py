"""Keeps more jobs waiting than a limit lets through, for as long as it is wanted."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from tests.system import System

from sluice_schemas.classes import JobClass

LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """Jobs of one kind. `words`: how many words a prompt has, between these; `topic`: instead of the class's own."""

    model: str
    job_class: JobClass = JobClass.REALTIME
    words: tuple[int, int] = (8, 8)
    topic: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def topic_in(self, system: System) -> str:
        return self.topic or system.topics.jobs(self.job_class)


class Sender:
    """`async with Sender(system, seed=1) as sender:` writes jobs to Kafka; `sent` counts them by press."""

    def __init__(self, system: System, *, seed: int = 1) -> None:
        self.system = system
        self.sent: Counter[Press] = Counter()
        self._chance = random.Random(seed)

    async def __aenter__(self) -> Self:
        bootstrap = self.system.stack.kafka.bootstrap
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
        await self._producer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._producer.stop()

    async def send(self, press: Press, count: int = 1, **options: Any) -> None:
        """Send jobs; returns once Kafka has them."""
        topic = press.topic_in(self.system)
        chosen = {"timeout_s": 3600, "max_wait_s": 3600, **press.options, **options}
        acks = []
        for _ in range(count):
            self.sent[press] += 1
            words = "water " * self._chance.randint(*press.words)
            said = [{"role": "user", "content": f"{self.sent[press]} {words}"}]
            body = {"model": press.model, "messages": said}
            value = json.dumps({"body": body, "options": chosen}).encode()
            acks.append(await self._producer.send(topic, value))
        await asyncio.gather(*acks)


@dataclass
class Flood:
    """`async with Flood(sender, presses, backlog=200):` keeps that many of each waiting until it is left."""

    sender: Sender
    presses: Sequence[Press]
    backlog: int

    async def __aenter__(self) -> Self:
        await self._top_up()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._top_up()

    async def _top_up(self) -> None:
        rows = await self.sender.system.pool.fetch(
            "select l.class, l.tenant, l.model, count(*) as begun from sluice.jobs j join sluice.lanes l on l.id = j.lane"
            " where j.attempt > 0 group by 1, 2, 3"
        )
        begun = {(row["class"], row["tenant"], row["model"]): row["begun"] for row in rows}
        tenants = {
            topic["name"]: topic["tenant"]
            for topic in self.sender.system.document["intake"].get("topics", ())
        }
        for press in self.presses:
            tenant = tenants.get(press.topic or "", "default")
            done = begun.get((press.job_class, tenant, press.model), 0)
            missing = self.backlog - (self.sender.sent[press] - done)
            if missing > 0:
                await self.sender.send(press, missing)
