"""Statements on what all workers share of dispatch: the virtual times of scopes."""

from collections.abc import Iterable, Mapping

import asyncpg

from sluice_schemas.classes import JobClass

TENANT = 1
PROJECT = 3
"""Kinds of scopes, as in `sluice.scopes.kind`."""

Name = tuple[str, str | None]
"""A tenant, or a tenant and one of its projects."""


class VirtualTimeRepository:
    """Reads virtual times; `begin` and `settle` write them."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def workers(self) -> int:
        """How many workers there are."""
        count: int = await self._pool.fetchval(
            "select count(*) from sluice.workers where kind = 'worker'"
        )
        return count

    async def virtual_times(self, names: Iterable[Name]) -> Mapping[Name, Mapping[JobClass, float]]:
        """Tokens over weight, per class, of those names that the ledger has a row for."""
        asked = {
            (TENANT, tenant) if project is None else (PROJECT, f"{tenant}/{project}"): (
                tenant,
                project,
            )
            for tenant, project in names
        }
        if not asked:
            return {}
        rows = await self._pool.fetch(
            "select s.kind, s.name, s.virtual from unnest($1::smallint[], $2::text[]) n(kind, name)"
            " join sluice.scopes_now s on s.kind = n.kind and s.name = n.name",
            [kind for kind, _ in asked],
            [name for _, name in asked],
        )
        return {
            asked[row["kind"], row["name"]]: {c: row["virtual"][c] for c in JobClass}
            for row in rows
        }
