"""The schema goes up, down and up again to the same thing, and says what it holds to."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from enum import IntEnum
from importlib.resources import files

import asyncpg
import pytest
from tests.conftest import Template

from sluice_core.jobs.model import Outcome, State
from sluice_core.jobs.policy import Admission, Begin, Duplicate, Settle
from sluice_core.ledger import REVISION, check_migrations
from sluice_migrations.run import downgrade, revisions, upgrade, upgrade_async

CATALOGUE = """
    select 'relation' as kind, n.nspname || '.' || c.relname as name,
           c.relkind::text || coalesce(c.reloptions::text, '') as shape
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('sluice', 'finance')
    union all
    select 'column', a.attrelid::regclass || '.' || a.attname, format_type(a.atttypid, a.atttypmod) || a.attnotnull
      from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
     where n.nspname in ('sluice', 'finance') and a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'c')
    union all
    select 'function', p.oid::regprocedure::text, md5(pg_get_functiondef(p.oid)) || coalesce(p.proacl::text, '')
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('sluice', 'finance')
    union all
    select 'constraint', c.conrelid::regclass || '.' || c.conname, pg_get_constraintdef(c.oid)
      from pg_constraint c join pg_namespace n on n.oid = c.connamespace where n.nspname in ('sluice', 'finance')
    union all
    select 'trigger', t.tgrelid::regclass || '.' || t.tgname, pg_get_triggerdef(t.oid)
      from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
     where n.nspname in ('sluice', 'finance') and not t.tgisinternal
"""


@pytest.fixture
async def empty(migrated_template: Template) -> AsyncIterator[str]:
    """The DSN of a database with nothing in it."""
    name = f"empty_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(migrated_template.admin_dsn)
    await admin.execute(f'create database "{name}"')
    yield migrated_template.dsn_of(name)
    await admin.execute(f'drop database "{name}" with (force)')
    await admin.close()


@pytest.fixture
async def owner(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def catalogue(dsn: str) -> set[tuple[str, str, str]]:
    connection = await asyncpg.connect(dsn)
    try:
        return {tuple(row) for row in await connection.fetch(CATALOGUE)}
    finally:
        await connection.close()


async def test_up_down_and_up_again_is_the_same(empty: str) -> None:
    assert await revisions(empty) == (None, REVISION)
    await asyncio.to_thread(upgrade, empty)
    assert await revisions(empty) == (REVISION, REVISION)
    first = await catalogue(empty)
    assert len(first) > 200
    await asyncio.to_thread(downgrade, empty, "base")
    assert await catalogue(empty) == set()
    assert (await revisions(empty))[0] is None
    await asyncio.to_thread(upgrade, empty)
    assert await catalogue(empty) == first
    await asyncio.to_thread(upgrade, empty)
    assert await catalogue(empty) == first


async def test_the_owner_chooses_whether_the_cache_is_written_ahead(database: str) -> None:
    connection = await asyncpg.connect(database)
    for unlogged, expected in ((True, "u"), (None, "u"), (False, "p"), (None, "p")):
        await upgrade_async(database, unlogged_cache=unlogged)
        found = await connection.fetchval(
            "select relpersistence from pg_class where oid = 'sluice.cache'::regclass"
        )
        assert found == expected.encode()
    await connection.close()


async def test_two_migrators_at_once_make_one_schema(empty: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(upgrade, empty) for _ in range(3)))
    pool = await asyncpg.create_pool(empty, min_size=1, max_size=1)
    await check_migrations(pool)
    await pool.close()


async def test_every_finance_column_has_a_comment(owner: asyncpg.Connection) -> None:
    bare = await owner.fetch(
        "select a.attrelid::regclass::text as relation, a.attname from pg_attribute a"
        " join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = 'finance' and c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped"
        " and col_description(a.attrelid, a.attnum) is null"
    )
    assert bare == []


@pytest.mark.parametrize(
    "statement",
    [
        "update {} set cost_usd = 0",
        "update {} set cost_usd = 0 where false or tenant = 'acme'",
        "delete from {}",
        "truncate {}",
    ],
)
async def test_usage_is_append_only_for_its_owner_too(
    owner: asyncpg.Connection, statement: str
) -> None:
    await owner.execute(USAGE_ROW)
    partitions = await owner.fetch(
        "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'finance.usage'::regclass"
    )
    names = ["finance.usage", *(row["name"] for row in partitions)]
    assert len(names) > 2
    filled = await owner.fetchval("select tableoid::regclass::text from finance.usage")
    for name in names:
        if name in ("finance.usage", filled) or statement.startswith("truncate"):
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await owner.execute(statement.format(name))
    assert await owner.fetchval("select count(*) from finance.usage where cost_usd = 1.5") == 1


async def test_audit_is_append_only(owner: asyncpg.Connection) -> None:
    await owner.execute("insert into sluice.audit (actor, action, subject) values ('a', 'b', 'c')")
    for statement in (
        "update sluice.audit set actor = ''",
        "delete from sluice.audit",
        "truncate sluice.audit",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute(statement)


async def test_a_new_months_partition_is_append_only_as_well(owner: asyncpg.Connection) -> None:
    assert await owner.fetchval("select sluice.ensure_partitions_v1(120)") > 100
    names = await owner.fetch(
        "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'finance.usage'::regclass"
    )
    for row in names:
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute(f"truncate {row['name']}")
        triggers = await owner.fetchval(
            "select count(*) from pg_trigger where tgrelid = $1::text::regclass and tgname = 'append_only'",
            row["name"],
        )
        assert triggers == 1


async def test_finance_reads_its_schema_and_nothing_else(owner: asyncpg.Connection) -> None:
    await owner.execute(USAGE_ROW)
    await owner.execute("set role sluice_finance")
    views = await owner.fetch(
        "select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = 'finance' and (c.relkind in ('p', 'v') or c.relname = 'users')"
    )
    assert {"finance.usage", "finance.usage_daily", "finance.unresolved", "finance.runs"} <= {
        row["name"] for row in views
    }
    for row in views:
        await owner.fetch(f"select * from {row['name']}")
    assert await owner.fetchval("select finance.watermark()")
    for refused in (
        "select * from sluice.jobs",
        "select sluice.ensure_partitions_v1()",
        "select * from public.schema_version",
        "insert into finance.users (tenant, user_id, \"user\") values ('a', 'b', 'c')",
        "update finance.usage set cost_usd = 0",
        "delete from finance.usage",
        "truncate finance.usage",
        "create table public.mine ()",
        "create table finance.mine ()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(refused)


async def test_finance_holds_no_snapshot_for_long(owner: asyncpg.Connection) -> None:
    settings = await owner.fetchval(
        "select rolconfig from pg_roles where rolname = 'sluice_finance'"
    )
    assert set(settings) == {"statement_timeout=60s", "idle_in_transaction_session_timeout=60s"}


@pytest.mark.parametrize("role", ["sluice_finance", "sluice_service"])
async def test_no_role_fills_the_disk_with_temporary_tables(empty: str, role: str) -> None:
    # A copy of a database has default rights of its own, so this one is migrated itself.
    await asyncio.to_thread(upgrade, empty)
    connection = await asyncpg.connect(empty)
    await connection.execute(f"set role {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="temporary"):
        await connection.execute("create temporary table mine ()")
    await connection.close()


@pytest.mark.parametrize(
    ("numbers", "file"),
    [
        (Admission, "admit_v1"),
        (Duplicate, "admit_v1"),
        (Begin, "begin_v2"),
        (Settle, "settle_v2"),
        (State, "0001_tables"),
    ],
)
def test_the_files_name_every_number(numbers: type[IntEnum], file: str) -> None:
    source = files("sluice_migrations.sql").joinpath(f"{file}.sql").read_text(encoding="utf-8")
    said = {
        int(n)
        for line in re.findall(r"^-- .*$", source, re.M)
        for n in re.findall(r"\b\d+\b", line)
    }
    assert {int(member) for member in numbers} <= said


def test_outcomes_are_what_usage_accepts() -> None:
    source = files("sluice_migrations.sql").joinpath("0001_finance.sql").read_text(encoding="utf-8")
    allowed = re.search(r"check \(outcome in \((.*?)\)\)", source)
    assert allowed is not None
    ended = {outcome.label for outcome in Outcome if outcome is not Outcome.READ_ON}
    assert ended | {"cached"} == set(re.findall(r"'(\w+)'", allowed.group(1)))


USAGE_ROW = """
    insert into finance.usage (usage_id, job_id, attempt, recorded_at, started_at, ended_at, tenant, project, tags, provider, account,
      model_requested, provider_model, operation, class, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
      reasoning_tokens, usage_source, meters, cost_usd, list_cost_usd, price_version, outcome, provider_ms)
    values (gen_random_uuid(), gen_random_uuid(), 1, clock_timestamp(), now(), now(), 'acme', 'p', '{}', 'openai', 'mock', 'm', 'm', 'chat', 'bulk',
      1, 0, 0, 1, 0, 'reported', '[]', 1.5, 1.5, 'v', 'succeeded', 1)
"""
