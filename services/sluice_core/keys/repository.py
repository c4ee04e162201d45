"""Statements on keys."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
import structlog

from sluice_core.keys.model import Key, KeyRecord, KeyScope, Seals
from sluice_core.keys.policy import MaterialUnreadableError, decrypt_any, opens

PROVIDER_PREFIX: Final = "provider/"
"""What the ids of providers' keys begin with, which are kept beside the tenants'."""

_log = structlog.stdlib.get_logger(__name__)


class KeyRepository:
    """Reads and writes keys; signing material is encrypted under the master key at rest."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def all(self, master_keys: Sequence[bytes]) -> dict[str, Key]:
        """Every key by its id, revoked and expired ones too; those that do not open are left out and logged.

        `master_keys`: the current one first. One key that was made under another must not silence all the rest.
        """
        rows = await self._pool.fetch(
            "select *, extract(epoch from expires_at)::float8 as expires, extract(epoch from revoked_at)::float8 as revoked"
            " from sluice.keys"
        )
        keys: dict[str, Key] = {}
        for row in rows:
            try:
                keys[row["id"]] = _opened(row, master_keys)
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

    async def seals(self, current: bytes, previous: bytes | None) -> Seals:
        """Which of the keys that are not revoked, and of the providers' that are kept, open under which master key."""
        rows = await self._pool.fetch(
            "select id, signing, created_at from sluice.keys where revoked_at is null"
            " union all select 'provider/' || account || '/' || name, sealed, created_at from sluice.provider_keys order by 3, 1"
        )
        ours: list[str] = []
        older: list[str] = []
        lost: list[str] = []
        for row in rows:
            if opens(row["signing"], current, row["id"]):
                ours.append(row["id"])
            elif previous is not None and opens(row["signing"], previous, row["id"]):
                older.append(row["id"])
            else:
                lost.append(row["id"])
        return Seals(current=tuple(ours), previous=tuple(older), neither=tuple(lost))

    async def sealed(self) -> list[tuple[str, bytes]]:
        """Every key's id and sealed signing material, revoked ones too, and the providers' keys."""
        rows = await self._pool.fetch(
            "select id, signing from sluice.keys"
            " union all select 'provider/' || account || '/' || name, sealed from sluice.provider_keys order by 1"
        )
        return [(row["id"], row["signing"]) for row in rows]

    async def reseal(self, renewed: Sequence[tuple[str, bytes, bytes]], *, actor: str) -> int:
        """Replace signing material, (id, as it was, as it becomes); how many still were as they were."""
        count = 0
        for statement, provider in ((_RESEAL, False), (_RESEAL_PROVIDER, True)):
            rows = [row for row in renewed if row[0].startswith(PROVIDER_PREFIX) is provider]
            if rows:
                values = ([row[place] for row in rows] for place in range(3))
                count += await self._change(statement, actor, "key.reseal", *values)
        return count

    async def mark_used(self, used: Mapping[str, float]) -> None:
        """Note when keys last signed a record that was read, in epoch seconds; a time never goes back."""
        await self._pool.execute(_MARK_USED, list(used), list(used.values()))

    async def records(self) -> Sequence[KeyRecord]:
        """Every key without its signing material, the newest first."""
        rows = await self._pool.fetch(
            'select id, tenant, team, project, app, "user", grants, reply_topics, created_at, expires_at, revoked_at,'
            " last_used_at from sluice.keys order by created_at desc, id"
        )
        return [
            KeyRecord(
                id=row["id"],
                scope=KeyScope(
                    tenant=row["tenant"],
                    team=row["team"],
                    project=row["project"],
                    app=row["app"],
                    user=row["user"],
                    grants=frozenset(row["grants"]),
                    reply_topics=tuple(row["reply_topics"]),
                ),
                created_at=row["created_at"],
                expires_at=row["expires_at"],
                revoked_at=row["revoked_at"],
                last_used_at=row["last_used_at"],
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
            scope.user,
        )

    async def revoke(self, key_id: str, *, actor: str) -> bool:
        """End a key now; false where there is none that is not revoked."""
        return await self._change(_REVOKE, actor, "key.revoke", key_id) > 0

    async def rotate(
        self, key_id: str, new_id: str, signing: bytes, *, overlap_s: float, actor: str
    ) -> bool:
        """Write a key of the same scope and let the old one expire; false where that is not valid."""
        changed = await self._change(
            _ROTATE, actor, "key.rotate", key_id, new_id, signing, float(overlap_s)
        )
        return changed > 0

    async def _change(self, statement: str, *values: object) -> int:
        """Run a change with its audit entries, the keys' new version and the word to listeners; how many changed."""
        count: int = await self._pool.fetchval(statement + ANNOUNCED, *values)
        return count


# Each change is a CTE `changed (subject, before, after)`; $1 is the actor, $2 the action, $3 the key.
_INSERT: Final = """
    with changed as (
      insert into sluice.keys (id, tenant, team, project, app, grants, reply_topics, signing, expires_at, "user")
      values ($3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp() + make_interval(secs => $11), $12)
      returning id as subject, null::jsonb as before, jsonb_build_object('tenant', tenant, 'team', team, 'project', project,
        'app', app, 'user', "user", 'grants', grants, 'reply_topics', reply_topics, 'expires_at', expires_at) as after)
"""
_REVOKE: Final = """
    with changed as (
      update sluice.keys set revoked_at = clock_timestamp() where id = $3 and revoked_at is null
      returning id as subject, jsonb_build_object('revoked_at', null, 'expires_at', expires_at) as before,
        jsonb_build_object('revoked_at', revoked_at, 'expires_at', expires_at) as after)
"""
_ROTATE: Final = """
    with valid as (
      select * from sluice.keys
       where id = $3 and revoked_at is null and (expires_at is null or expires_at > clock_timestamp()) for update),
    retired as (
      update sluice.keys k set expires_at = least(k.expires_at, clock_timestamp() + make_interval(secs => $6))
        from valid v where k.id = v.id
      returning k.*, v.expires_at as was),
    made as (
      insert into sluice.keys (id, tenant, team, project, app, grants, reply_topics, signing, "user")
      select $4, tenant, team, project, app, grants, reply_topics, $5, "user" from retired returning id),
    changed as (
      select r.id as subject, jsonb_build_object('expires_at', r.was) as before,
             jsonb_build_object('expires_at', r.expires_at, 'replaced_by', m.id, 'overlap_s', $6::float8) as after
        from retired r cross join made m)
"""
# Locked in order of their ids; a key that was resealed meanwhile is left as it is.
_RESEAL: Final = """
    with renewed as (
      select r.* from unnest($3::text[], $4::bytea[], $5::bytea[]) r(id, was, becomes)
        join sluice.keys k on k.id = r.id and k.signing = r.was order by k.id for update of k),
    changed as (
      update sluice.keys k set signing = r.becomes from renewed r where k.id = r.id
      returning k.id as subject, null::jsonb as before, jsonb_build_object('sealed_under', 'the current master key') as after)
"""
_RESEAL_PROVIDER: Final = """
    with renewed as (
      select k.account, k.name, r.becomes from unnest($3::text[], $4::bytea[], $5::bytea[]) r(id, was, becomes)
        join sluice.provider_keys k on 'provider/' || k.account || '/' || k.name = r.id and k.sealed = r.was
       order by k.account, k.name for update of k),
    changed as (
      update sluice.provider_keys k set sealed = r.becomes from renewed r where k.account = r.account and k.name = r.name
      returning 'provider/' || k.account || '/' || k.name as subject, null::jsonb as before,
        jsonb_build_object('sealed_under', 'the current master key') as after)
"""
ANNOUNCED: Final = """,
    noted as (
      insert into sluice.audit (actor, action, subject, before, after)
      select $1, $2, c.subject, c.before, c.after from changed c),
    bumped as (
      update sluice.versions v set version = v.version + 1 where v.name = 'keys' and exists (select from changed))
    select count(pg_notify('sluice_keys', c.subject)) from changed c
"""
_MARK_USED: Final = """
    with held as (
      select k.id, u.at from unnest($1::text[], $2::float8[]) u(id, at)
        join sluice.keys k on k.id = u.id order by k.id for update of k)
    update sluice.keys k set last_used_at = greatest(k.last_used_at, to_timestamp(h.at)) from held h where k.id = h.id
"""


def _opened(row: Mapping[str, Any], master_keys: Sequence[bytes]) -> Key:
    revoked = row["revoked"]
    return Key(
        id=row["id"],
        tenant=row["tenant"],
        team=row["team"],
        project=row["project"],
        app=row["app"],
        user=row["user"],
        grants=frozenset(row["grants"]),
        hmac_key=decrypt_any(row["signing"], master_keys=master_keys, key_id=row["id"]),
        reply_topics=tuple(row["reply_topics"]),
        expires_at=row["expires"],
        # Revoked means now, also where this machine's clock is behind the database's.
        revoked_at=None if revoked is None else min(revoked, time.time()),
    )
