"""Statements on holds: each change is one statement with its audit entry and the word to all processes."""

from typing import Final

import asyncpg

from sluice_core.holds.model import Hold, HoldKind, Holds


class HoldRepository:
    """Reads and writes what is held."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def all(self) -> list[Hold]:
        """Everything that is held, the newest first."""
        rows = await self._pool.fetch(
            "select kind, name, nullif(tenant, '') as tenant, at, actor from sluice.holds order by at desc, kind, name"
        )
        return [Hold(**dict(row)) for row in rows]

    async def current(self) -> Holds:
        """What is held, as a value that decides."""
        return Holds.of(await self.all())

    async def hold(self, kind: HoldKind, name: str, tenant: str | None, *, actor: str) -> bool:
        """Hold something; false where it is held already."""
        return await self._change(_HOLD, actor, "hold", kind, name, tenant or "")

    async def resume(self, kind: HoldKind, name: str, tenant: str | None, *, actor: str) -> bool:
        """Let something go on; false where it is not held."""
        return await self._change(_RESUME, actor, "resume", kind, name, tenant or "")

    async def _change(self, statement: str, *values: object) -> bool:
        count: int = await self._pool.fetchval(statement + _ANNOUNCED, *values)
        return count > 0


# Each change is a CTE `changed (kind, name, tenant, before, after)`; $1 is the actor, $2 the action.
_HOLD: Final = """
    with changed as (
      insert into sluice.holds (kind, name, tenant, actor) values ($3, $4, $5, $1) on conflict do nothing
      returning kind, name, tenant, null::jsonb as before, jsonb_build_object('at', at) as after)
"""
_RESUME: Final = """
    with changed as (
      delete from sluice.holds where kind = $3 and name = $4 and tenant = $5
      returning kind, name, tenant, jsonb_build_object('at', at, 'actor', actor) as before, null::jsonb as after)
"""
_ANNOUNCED: Final = """,
    noted as (
      insert into sluice.audit (actor, action, subject, before, after)
      select $1, c.kind || '.' || $2, case c.tenant when '' then c.name else c.tenant || '/' || c.name end, c.before, c.after
        from changed c),
    bumped as (
      update sluice.versions v set version = v.version + 1 from changed where v.name = 'config')
    select count(pg_notify('sluice_config', c.kind)) from changed c
"""
