"""What tests stand on: the real servers, a migrated database each, a prefix of topics each."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sluice_devstack.stack import Stack

_TEMPLATE = "migrated_template"


@pytest.fixture(scope="session")
def short_directory() -> Iterator[Path]:
    """A directory that other accounts can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
async def stack(short_directory: Path) -> AsyncIterator[Stack]:
    """One PostgreSQL and one Kafka per test process; their absence fails the tests."""
    async with Stack(short_directory / "stack") as running:
        yield running


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A migrated database that nobody is connected to, and how to reach its server."""

    admin_dsn: str
    name: str

    def dsn_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.admin_dsn)._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
async def migrated_template(stack: Stack) -> Template:
    from sluice_migrations.run import upgrade

    template = Template(admin_dsn=stack.postgres.dsn, name=_TEMPLATE)
    await _execute(template.admin_dsn, f'create database "{_TEMPLATE}"')
    await asyncio.to_thread(upgrade, template.dsn_of(_TEMPLATE))
    return template


@pytest.fixture
async def database(migrated_template: Template) -> AsyncIterator[str]:
    """The DSN of a migrated, empty database of this test alone."""
    name = f"test_{secrets.token_hex(6)}"
    await _execute(migrated_template.admin_dsn, f'create database "{name}" template "{_TEMPLATE}"')
    yield migrated_template.dsn_of(name)
    await _execute(migrated_template.admin_dsn, f'drop database "{name}" with (force)')


@pytest.fixture
def kafka_prefix() -> str:
    """A prefix of topics, groups and transactions that no other test has."""
    return f"t{secrets.token_hex(3)}."


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
