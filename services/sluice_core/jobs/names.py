"""The rows that names stand for: lanes, runs, users, the tenants' pseudonym keys."""

from typing import Any

import asyncpg

from sluice_core.jobs.model import Lane
from sluice_schemas.classes import JobClass


class NameRepository:
    """Looks a name's row up, and makes it where it is new; callers remember what they got."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lanes(self, after: int = 0) -> list[Lane]:
        """Every lane there is with an id above `after`."""
        rows = await self._pool.fetch("select * from sluice.lanes where id > $1 order by id", after)
        return [
            Lane(
                id=row["id"],
                job_class=JobClass(row["class"]),
                pool=row["pool"],
                tenant=row["tenant"],
                project=row["project"],
                model=row["model"],
            )
            for row in rows
        ]

    async def ensure_lane(
        self, job_class: JobClass, pool: str, tenant: str, project: str, model: str
    ) -> int:
        """The lane of this combination, made if new."""
        lane: int = await self._ensure(
            "insert into sluice.lanes (class, pool, tenant, project, model) values ($1, $2, $3, $4, $5)"
            " on conflict do nothing returning id",
            "select id from sluice.lanes"
            " where class = $1 and pool = $2 and tenant = $3 and project = $4 and model = $5",
            job_class,
            pool,
            tenant,
            project,
            model,
        )
        return lane

    async def ensure_run(self, tenant: str, name: str) -> int:
        """The run of this name, made if new."""
        run: int = await self._ensure(
            "insert into sluice.runs (tenant, name) values ($1, $2) on conflict do nothing returning id",
            "select id from sluice.runs where tenant = $1 and name = $2",
            tenant,
            name,
        )
        return run

    async def pseudonym_key(self, tenant: str, fresh: bytes) -> bytes:
        """The tenant's key for user pseudonyms; `fresh` becomes it where there is none."""
        await self._pool.execute(
            "insert into sluice.pseudonym_keys (tenant, key) values ($1, $2) on conflict do nothing",
            tenant,
            fresh,
        )
        key: bytes = await self._pool.fetchval(
            "select key from sluice.pseudonym_keys where tenant = $1", tenant
        )
        return key

    async def ensure_user(self, tenant: str, user_id: str, user: str) -> None:
        """Remember whom a pseudonym stands for."""
        await self._pool.execute(
            'insert into finance.users (tenant, user_id, "user") values ($1, $2, $3) on conflict do nothing',
            tenant,
            user_id,
            user,
        )

    async def _ensure(self, insert: str, select: str, *values: Any) -> Any:
        found = await self._pool.fetchval(select, *values)
        if found is None:
            found = await self._pool.fetchval(insert, *values)
        if found is None:  # another process was first
            found = await self._pool.fetchval(select, *values)
        return found
