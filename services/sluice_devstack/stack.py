"""Both servers together, started at once and stopped in reverse."""

import asyncio
from pathlib import Path

from sluice_devstack.kafka import EmbeddedKafka
from sluice_devstack.postgres import EmbeddedPostgres


class Stack:
    """`async with Stack(data_dir) as stack:` runs PostgreSQL and Kafka until the block is left.

    Raises the DevstackError of whichever server cannot start; the other one is stopped first.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres: EmbeddedPostgres | None = None,
        kafka: EmbeddedKafka | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.postgres = postgres or EmbeddedPostgres(data_dir / "postgres")
        self.kafka = kafka or EmbeddedKafka(data_dir / "kafka")

    async def __aenter__(self) -> "Stack":
        started = await asyncio.gather(
            self.postgres.start(), self.kafka.start(), return_exceptions=True
        )
        failures = [result for result in started if isinstance(result, BaseException)]
        if failures:
            await self._stop()
            raise failures[0]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _stop(self) -> None:
        await asyncio.gather(self.kafka.stop(), self.postgres.stop())

    def environment(self) -> dict[str, str]:
        """`SLUICE_KAFKA` and `SLUICE_DATABASE` for processes that use this stack."""
        return {"SLUICE_KAFKA": self.kafka.bootstrap, "SLUICE_DATABASE": self.postgres.dsn}
