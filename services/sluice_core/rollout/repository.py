"""Statements on applied configurations."""

import asyncpg

from sluice_core.rollout.model import Applied


class RolloutRepository:
    """Stores versions; a version never changes."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def latest(self) -> Applied | None:
        """The version in force; None before the first."""
        row = await self._pool.fetchrow(
            "select * from sluice.config_versions order by version desc limit 1"
        )
        return None if row is None else Applied(**dict(row))

    async def apply(self, document: str, actor: str) -> int:
        """Store a version with its audit entry, and tell every process; returns its number."""
        version: int = await self._pool.fetchval(
            """
            with stored as (
              insert into sluice.config_versions (actor, document) values ($1, $2) returning version),
            noted as (
              insert into sluice.audit (actor, action, subject, before, after)
              select $1, 'config.apply', s.version::text,
                     jsonb_build_object('version', (select max(version) from sluice.config_versions)),
                     jsonb_build_object('version', s.version)
                from stored s),
            bumped as (
              update sluice.versions set version = version + 1 where name = 'config')
            select version, pg_notify('sluice_config', version::text) from stored
            """,
            actor,
            document,
        )
        return version
