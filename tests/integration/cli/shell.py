"""The `sluice` command as a user's shell runs it, and what tests of it share."""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

LIMITS = """\
    limits: {requests: {limit: 600, per: minute, burst: 5}}
    budgets: {usd: 2, per: month}
    users: {"*": {limits: {concurrency: 3}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(slots=True, kw_only=True)
class Shell:
    """Runs `sluice` as a user's shell would."""

    environment: dict[str, str]
    pool: asyncpg.Pool
    config: Path
    prefix: str
    bootstrap: str

    async def __call__(self, *arguments: str, typed: str | None = None) -> Ran:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sluice_cli.main",
            *arguments,
            stdin=None if typed is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )
        out, err = await asyncio.wait_for(
            process.communicate(None if typed is None else typed.encode()), 60
        )
        assert process.returncode is not None
        ran = Ran(code=process.returncode, out=out.decode(), err=err.decode())
        assert "Traceback" not in ran.err, ran.err
        return ran

    async def audited(self) -> list[str]:
        rows = await self.pool.fetch("select action from sluice.audit order by id")
        return [row["action"] for row in rows]


async def records(bootstrap: str, topic: str, count: int) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in range(2)])
        await consumer.seek_to_beginning()
        return [await asyncio.wait_for(consumer.getone(), 20) for _ in range(count)]


def limited(sluice: Shell, **parts: str) -> None:
    """A configuration with limits, a price and a policy; `parts` replaces text in it."""
    text = (
        f"kafka: {{prefix: {sluice.prefix}, partitions: 2}}\n"
        'providers: {openai: {kind: openai, base_url: "http://127.0.0.1:1/v1", limits: {concurrency: 10}}}\n'
        "models:\n"
        "  fast: {targets: [{account: openai, model: m}], prices: {input: 1, output: 10}}\n"
        "  smart: {targets: [{account: openai, model: m}], prices: {input: 1, output: 10}}\n"
        "tenants:\n  acme:\n    projects: {search: {apps: {web: {}}}}\n"
        + LIMITS
        + "    policy: {models: {deny: [smart]}}\n"
    )
    for old, new in parts.items():
        assert old in text
        text = text.replace(old, new)
    sluice.config.write_text(text)
