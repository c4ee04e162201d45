"""Statements on the record of denials."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg

from sluice_core.policies.model import Denial, DeniedAt

_COLUMNS: Final = (
    *("record", "tenant", "key_id", "team", "project", "app", "user_id"),
    *("topic", "model", "code", "rule"),
)
_TYPES: Final = ("uuid", *["text"] * 10)


class DenialRepository:
    """Writes denials and reads them; nothing changes one."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def record(self, denials: Sequence[Denial]) -> None:
        """Write denials; one of a record that stands there already is left out, so a batch may come again."""
        await self._pool.execute(
            _RECORD,
            *([getattr(denial, column) for denial in denials] for column in _COLUMNS),
        )

    async def since(self, at: datetime, tenant: str | None, limit: int) -> list[DeniedAt]:
        """Denials from a time on, the newest first, of one tenant or of all."""
        rows = await self._pool.fetch(
            f"select at, {', '.join(_COLUMNS)} from sluice.denials"  # noqa: S608 - column names of this module
            " where at >= $1 and ($2::text is null or tenant = $2) order by at desc limit $3",
            at,
            tenant,
            limit,
        )
        return [
            DeniedAt(at=row["at"], denial=Denial(**{name: row[name] for name in _COLUMNS}))
            for row in rows
        ]


_ARRAYS: Final = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(_TYPES, 1))
_RECORD: Final = f"""
    insert into sluice.denials ({", ".join(_COLUMNS)})
    select distinct on (d.record) d.* from unnest({_ARRAYS}) d({", ".join(_COLUMNS)})
     where not exists (select from sluice.denials x where x.record = d.record)
"""  # noqa: S608 - column names of this module
