"""Statements that measure the database server and the ledger; they change nothing."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from sluice_core.health.model import Ledger, Presence, Server

_DAYS_AHEAD: Final = 1


class HealthRepository:
    """Measures over a pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def server(self) -> Server:
        """The server's version, settings and clock."""
        await self._pool.fetchval("select 1")
        asked, started = time.time(), time.perf_counter()
        row = await self._pool.fetchrow(
            """
            select extract(epoch from clock_timestamp())::float8 as now,
                   current_setting('server_version_num')::int as version,
                   current_setting('server_version') as version_text,
                   current_setting('synchronous_commit') as synchronous_commit,
                   current_setting('fsync') = 'on' as fsync,
                   current_setting('full_page_writes') = 'on' as full_page_writes,
                   pg_is_in_recovery() as in_recovery
            """
        )
        took_s = time.perf_counter() - started
        standbys = await self._pool.fetch("select sync_state from pg_stat_replication")
        oldest = await self._pool.fetchval(
            """
            select coalesce(max(extract(epoch from clock_timestamp() - a.xact_start)), 0)::float8
              from pg_stat_activity a
             where a.backend_xmin is not null and a.pid <> pg_backend_pid() and a.datname = current_database()
            """
        )
        values = dict(row)
        return Server(
            answer_ms=took_s * 1000,
            clock_ahead_s=values.pop("now") - (asked + took_s / 2),
            standbys=tuple(standby["sync_state"] for standby in standbys),
            oldest_snapshot_s=oldest,
            **values,
        )

    async def ledger(self, revision: str | None, head: str | None) -> Ledger:
        """The ledger's state; asked only for its revision where there is none or another one."""
        if revision is None:
            return Ledger(revision=None, head=head)
        row = await self._pool.fetchrow(
            """
            select (select extract(epoch from clock_timestamp() - min(at))::float8 from sluice.outbox) as outbox_age_s,
                   (select count(*) from sluice.unresolved) as unresolved,
                   (select extract(epoch from clock_timestamp() - min(since))::float8 from sluice.unresolved)
                     as unresolved_age_s,
                   (select count(*) from sluice.keys where revoked_at is null) as keys
            """
        )
        return Ledger(
            revision=revision,
            head=head,
            partitions_missing=await self._partitions_missing(),
            processes=await self.processes(),
            **dict(row),
        )

    async def processes(self) -> tuple[Presence, ...]:
        """Every registered process, whether it lives or not."""
        rows = await self._pool.fetch(
            "select name, kind, pool, extract(epoch from clock_timestamp() - beat_at)::float8 as beat_age_s"
            " from sluice.workers order by kind, name"
        )
        return tuple(Presence(**dict(row)) for row in rows)

    async def _partitions_missing(self) -> tuple[str, ...]:
        """Partitions that today and tomorrow need and that do not exist."""
        missing: list[str] = await self._pool.fetchval(
            "select coalesce(array_agg(name order by name) filter (where to_regclass(name) is null), '{}')"
            " from unnest($1::text[]) name",
            partitions_needed(datetime.now(UTC)),
        )
        return tuple(missing)


def partitions_needed(now: datetime) -> list[str]:
    """The partitions that rows of `now` and of the next day go to, with their schema."""
    names: dict[str, None] = {}
    for moment in (now, now + timedelta(days=_DAYS_AHEAD)):
        monday = moment - timedelta(days=moment.weekday())
        for parent in ("requests", "responses", "attempts"):
            names[f"sluice.{parent}_{moment:%Y%m%d}"] = None
        names[f"sluice.jobs_past_{monday:%Y%m%d}"] = None
        names[f"finance.usage_{moment:%Y%m}"] = None
        names[f"sluice.denials_{moment:%Y%m}"] = None
    return list(names)
