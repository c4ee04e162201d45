"""Statements on keys."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
import structlog

from sluice_core.keys.model import Key, KeyRecord, KeyScope
from sluice_core.keys.policy import MaterialUnreadableError, decrypt, opens

_log = structlog.stdlib.get_logger(__name__)


class KeyRepository:
    """Reads and writes keys; signing material is encrypted under the master key at rest."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def all(self, master_key: bytes | None) -> dict[str, Key]:
        """Every key by its id, revoked and expired ones too; those that do not open are left out and logged.

        One key that was made under another master key must not silence all the others.
        """
        rows = await self._pool.fetch(
            "select *, extract(epoch from expires_at)::float8 as expires, extract(epoch from revoked_at)::float8 as revoked"
            " from sluice.keys"
        )
        keys: dict[str, Key] = {}
        for row in rows:
            try:
                keys[row["id"]] = _opened(row, master_key)
            except MaterialUnreadableError as exc:
                if row["revoked"] is None:
                    _log.error("key.unreadable", key_id=row["id"], error=str(exc))
        return keys

    async def any_usable(self) -> bool:
        """Whether there is a key that is not revoked."""
        found: bool = await self._pool.fetchval(
            "select exists (select from sluice.keys where revoked_at is null)"
        )
        return found

    async def unreadable(self, master_key: bytes) -> Sequence[str]:
        """The ids of keys that are not revoked and do not open under `master_key`, the oldest first."""
        rows = await self._pool.fetch(
            "select id, signing from sluice.keys where revoked_at is null order by created_at, id"
        )
        return [row["id"] for row in rows if not opens(row["signing"], master_key, row["id"])]

    async def records(self) -> Sequence[KeyRecord]:
        """Every key without its signing material, the newest first."""
        rows = await self._pool.fetch(
            "select id, tenant, team, project, app, grants, reply_topics, created_at, expires_at, revoked_at"
            " from sluice.keys order by created_at desc, id"
        )
        return [
            KeyRecord(
                id=row["id"],
                scope=KeyScope(
                    tenant=row["tenant"],
                    team=row["team"],
                    project=row["project"],
                    app=row["app"],
                    grants=frozenset(row["grants"]),
                    reply_topics=tuple(row["reply_topics"]),
                ),
                created_at=row["created_at"],
                expires_at=row["expires_at"],
                revoked_at=row["revoked_at"],
            )
            for row in rows
        ]

    async def insert(
        self,
        key_id: str,
        scope: KeyScope,
        signing: bytes,
        *,
        expires_in_s: float | None,
        actor: str,
    ) -> None:
        """Write a key."""
        await self._change(
            _INSERT,
            actor,
            "key.create",
            key_id,
            scope.tenant,
            scope.team,
            scope.project,
            scope.app,
            sorted(scope.grants),
            list(scope.reply_topics),
            signing,
            expires_in_s,
        )

    async def revoke(self, key_id: str, *, actor: str) -> bool:
        """End a key now; false where there is none that is not revoked."""
        return await self._change(_REVOKE, actor, "key.revoke", key_id)

    async def rotate(
        self, key_id: str, new_id: str, signing: bytes, *, overlap_s: float, actor: str
    ) -> bool:
        """Write a key of the same scope and let the old one expire; false where that is not valid."""
        return await self._change(
            _ROTATE, actor, "key.rotate", key_id, new_id, signing, float(overlap_s)
        )

    async def _change(self, statement: str, *values: object) -> bool:
        """Run a change with its audit entry, the keys' new version and the word to listeners."""
        count: int = await self._pool.fetchval(statement + _ANNOUNCED, *values)
        return count > 0


# Each change is a CTE `changed (subject, after)`; $1 is the actor, $2 the action, $3 the key.
_INSERT: Final = """
    with changed as (
      insert into sluice.keys (id, tenant, team, project, app, grants, reply_topics, signing, expires_at)
      values ($3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp() + make_interval(secs => $11))
      returning id as subject, jsonb_build_object('tenant', tenant, 'team', team, 'project', project, 'app', app,
        'grants', grants, 'reply_topics', reply_topics, 'expires_at', expires_at) as after)
"""
_REVOKE: Final = """
    with changed as (
      update sluice.keys set revoked_at = clock_timestamp() where id = $3 and revoked_at is null
      returning id as subject, jsonb_build_object('revoked_at', revoked_at) as after)
"""
_ROTATE: Final = """
    with retired as (
      update sluice.keys set expires_at = least(expires_at, clock_timestamp() + make_interval(secs => $6))
       where id = $3 and revoked_at is null and (expires_at is null or expires_at > clock_timestamp())
      returning *),
    changed as (
      insert into sluice.keys (id, tenant, team, project, app, grants, reply_topics, signing)
      select $4, tenant, team, project, app, grants, reply_topics, $5 from retired
      returning $3::text as subject, jsonb_build_object('replaced_by', id, 'overlap_s', $6::float8) as after)
"""
_ANNOUNCED: Final = """,
    noted as (
      insert into sluice.audit (actor, action, subject, after) select $1, $2, c.subject, c.after from changed c),
    bumped as (
      update sluice.versions v set version = v.version + 1 from changed where v.name = 'keys')
    select count(pg_notify('sluice_keys', c.subject)) from changed c
"""


def _opened(row: Mapping[str, Any], master_key: bytes | None) -> Key:
    if master_key is None:
        raise MaterialUnreadableError("SLUICE_MASTER_KEY is not set")
    return Key(
        id=row["id"],
        tenant=row["tenant"],
        team=row["team"],
        project=row["project"],
        app=row["app"],
        grants=frozenset(row["grants"]),
        hmac_key=decrypt(row["signing"], master_key=master_key, key_id=row["id"]),
        reply_topics=tuple(row["reply_topics"]),
        expires_at=row["expires"],
        revoked_at=row["revoked"],
    )
