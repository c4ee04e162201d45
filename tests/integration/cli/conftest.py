"""A shell for each test, with a configuration and a ledger of its own."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from tests.integration.cli.shell import Shell

from sluice_devstack.processes import scripts_environment
from sluice_devstack.stack import Stack


@pytest.fixture
async def sluice(
    stack: Stack, database: str, kafka_prefix: str, tmp_path: Path
) -> AsyncIterator[Shell]:
    config = tmp_path / "sluice.yaml"
    config.write_text(
        f"kafka: {{prefix: {kafka_prefix}, partitions: 2}}\n"
        'providers: {openai: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: "${ABSENT}"}}\n'
        "tenants: {acme: {projects: {search: {apps: {web: {}}}}}}\n"
    )
    environment = scripts_environment(
        {
            "SLUICE_KAFKA": stack.kafka.bootstrap,
            "SLUICE_DATABASE": database,
            "SLUICE_CONFIG": str(config),
            "SLUICE_MASTER_KEY": secrets.token_hex(32),
            "COLUMNS": "200",
        }
    )
    async with await asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        yield Shell(
            environment=environment,
            pool=pool,
            config=config,
            prefix=kafka_prefix,
            bootstrap=stack.kafka.bootstrap,
        )
