"""Statements on keys."""

import asyncpg

from sluice_core.keys.model import Key
from sluice_core.keys.policy import decrypt
from sluice_platform.errors import StartupError


class KeyRepository:
    """Reads and writes keys; signing material is encrypted under the master key at rest."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def all(self, master_key: bytes | None) -> dict[str, Key]:
        """Every key by its id, revoked and expired ones too.

        Raises StartupError where there are keys and no master key to open them with.
        """
        rows = await self._pool.fetch(
            "select *, extract(epoch from expires_at)::float8 as expires, extract(epoch from revoked_at)::float8 as revoked"
            " from sluice.keys"
        )
        if rows and master_key is None:
            raise StartupError(
                "there are API keys, and SLUICE_MASTER_KEY is not set: "
                "write the 64 hexadecimal digits they were created under"
            )
        assert master_key is not None or not rows
        return {
            row["id"]: Key(
                id=row["id"],
                tenant=row["tenant"],
                team=row["team"],
                project=row["project"],
                app=row["app"],
                grants=frozenset(row["grants"]),
                hmac_key=decrypt(row["signing"], master_key=master_key or b"", key_id=row["id"]),
                reply_topics=tuple(row["reply_topics"]),
                expires_at=row["expires"],
                revoked_at=row["revoked"],
            )
            for row in rows
        }
