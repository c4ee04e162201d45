"""The baseline: what one writes in an afternoon. One FastStream handler a message, httpx, SQLAlchemy, a reply."""

import asyncio
import os
import sys
from types import TracebackType
from typing import Self

from tests.system import System

from sluice_devstack.processes import Process
from sluice_schemas.classes import JobClass


class NaiveBaseline:
    """The naive worker as a process of its own."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def __aenter__(self) -> Self:
        system = self._system
        environment = system.environment() | {
            "NAIVE_TOPIC": system.topics.jobs(JobClass.STANDARD),
            "NAIVE_UPSTREAM": system.mock.url,
        }
        self._log = system.directory / "naive.log"
        self._process = Process(
            [sys.executable, "-m", "tests.bench.naive"], log=self._log, environment=environment
        )
        while b"ready" not in self._log.read_bytes():
            assert self._process.returncode is None, self._log.read_text()
            await asyncio.sleep(0.05)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._process.stop()

    def cpu_seconds(self) -> float:
        """Processor time of the process so far."""
        return self._process.cpu_seconds()


async def main() -> None:
    """The naive worker: default acknowledgement, 200 handlers at once."""
    import httpx
    from faststream import FastStream
    from faststream.kafka import KafkaBroker, KafkaMessage
    from sqlalchemy import Column, Integer, MetaData, String, Table, insert, update
    from sqlalchemy.ext.asyncio import create_async_engine

    metadata = MetaData()
    jobs = Table(
        "naive_jobs",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("body", String),
        Column("answer", String),
    )
    engine = create_async_engine(
        os.environ["SLUICE_DATABASE"].replace("postgresql://", "postgresql+asyncpg://"),
        pool_size=20,
    )
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    broker = KafkaBroker(os.environ["SLUICE_KAFKA"])
    http = httpx.AsyncClient(limits=httpx.Limits(max_connections=200), timeout=60)

    @broker.subscriber(
        os.environ["NAIVE_TOPIC"], group_id="naive", auto_offset_reset="earliest", max_workers=200
    )
    async def handle(job: dict[str, object], message: KafkaMessage) -> None:
        async with engine.begin() as connection:
            row = await connection.execute(insert(jobs).values(body=str(job)).returning(jobs.c.id))
            number = row.scalar_one()
        answer = await http.post(
            os.environ["NAIVE_UPSTREAM"] + "/v1/chat/completions", json=job["body"]
        )
        async with engine.begin() as connection:
            await connection.execute(
                update(jobs).where(jobs.c.id == number).values(answer=answer.text)
            )
        correlation = message.raw_message.headers
        await broker.publish(
            answer.json(),
            message.headers["reply_to"],
            headers={"correlation_id": dict(correlation)["correlation_id"].decode()},
        )

    app = FastStream(broker)

    @app.after_startup
    async def ready() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    await app.run()


if __name__ == "__main__":
    asyncio.run(main())
