"""Statements that read the audit; every change writes its own entry, in the statement that makes it."""

from datetime import datetime

import asyncpg
import orjson

from sluice_core.audit.model import AuditEntry


class AuditRepository:
    """Reads entries; nothing changes one."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def since(self, at: datetime, subject: str | None, limit: int) -> list[AuditEntry]:
        """Entries from a time on, the newest first, of one subject or of all."""
        rows = await self._pool.fetch(
            "select id, at, actor, action, subject, before, after from sluice.audit"
            " where at >= $1 and ($2::text is null or subject = $2) order by at desc, id desc limit $3",
            at,
            subject,
            limit,
        )
        return [
            AuditEntry(
                id=row["id"],
                at=row["at"],
                actor=row["actor"],
                action=row["action"],
                subject=row["subject"],
                before=None if row["before"] is None else orjson.loads(row["before"]),
                after=None if row["after"] is None else orjson.loads(row["after"]),
            )
            for row in rows
        ]
