import asyncpg
import pytest

pytestmark = pytest.mark.stack


async def test_every_test_has_a_migrated_database_of_its_own(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        schemas = await connection.fetch("select nspname from pg_namespace")
        assert {"sluice", "finance"} <= {row["nspname"] for row in schemas}
        await connection.execute("create table public.only_here ()")
    finally:
        await connection.close()


async def test_nothing_is_left_of_another_tests_database(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("select to_regclass('public.only_here')") is None
    finally:
        await connection.close()
