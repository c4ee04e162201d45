"""Keys of provider accounts that the ledger keeps, encrypted under the master key: changed by people, followed by workers."""

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from sluice_core.keys.policy import MaterialUnreadableError, decrypt_any, encrypt
from sluice_core.keys.repository import ANNOUNCED, PROVIDER_PREFIX
from sluice_platform.errors import StartupError

MOST_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_log = structlog.stdlib.get_logger(__name__)


class ProviderKeyRefused(StartupError):
    """A provider's key cannot be kept or removed as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderKeyRecord:
    """A key that is kept, as far as people may see it."""

    account: str
    name: str
    fingerprint: str
    created_at: datetime


class ProviderKeys:
    """Statements on provider keys; each change, its audit entry and the keys' new version are one."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def all(self, master_keys: Sequence[bytes]) -> dict[str, tuple[str, ...]]:
        """The keys of each account, by name; one that does not open is left out and logged."""
        found: dict[str, tuple[str, ...]] = {}
        rows = await self._pool.fetch(
            "select account, name, sealed from sluice.provider_keys order by account, name"
        )
        for row in rows:
            account, name = row["account"], row["name"]
            try:
                opened = decrypt_any(
                    row["sealed"], master_keys=master_keys, key_id=_identity(account, name)
                )
            except MaterialUnreadableError:
                _log.error("provider_key.unreadable", account=account, name=name)
                continue
            found[account] = (*found.get(account, ()), opened.decode())
        return found

    async def records(self) -> list[ProviderKeyRecord]:
        """What is kept, without the keys themselves."""
        rows = await self._pool.fetch(
            "select account, name, fingerprint, created_at from sluice.provider_keys order by account, name"
        )
        return [ProviderKeyRecord(**row) for row in rows]

    async def put(
        self, account: str, name: str, secret: str, *, master_key: bytes, actor: str
    ) -> str:
        """Keep a key, in place of one of the same name; its fingerprint. Raises ProviderKeyRefused."""
        _check(name, secret)
        fingerprint = hashlib.sha256(secret.encode()).hexdigest()[:12]
        sealed = encrypt(secret.encode(), master_key=master_key, key_id=_identity(account, name))
        await self._pool.fetchval(
            _PUT + ANNOUNCED, actor, "provider_key.set", account, name, sealed, fingerprint
        )
        return fingerprint

    async def remove(self, account: str, name: str, *, actor: str) -> None:
        """Keep a key no longer. Raises ProviderKeyRefused where there is none."""
        gone = await self._pool.fetchval(
            _REMOVE + ANNOUNCED, actor, "provider_key.remove", account, name
        )
        if not gone:
            raise ProviderKeyRefused(
                f"no key {name} of {account} is kept: see `sluice provider-keys list`"
            )


_PUT: Final = """
    with changed as (
      insert into sluice.provider_keys (account, name, sealed, fingerprint) values ($3, $4, $5, $6)
      on conflict (account, name) do update set sealed = excluded.sealed, fingerprint = excluded.fingerprint, created_at = clock_timestamp()
      returning 'provider/' || account || '/' || name as subject, null::jsonb as before, jsonb_build_object('fingerprint', fingerprint) as after)
"""
_REMOVE: Final = """
    with changed as (
      delete from sluice.provider_keys where account = $3 and name = $4
      returning 'provider/' || account || '/' || name as subject, jsonb_build_object('fingerprint', fingerprint) as before, null::jsonb as after)
"""


class StoredKeys:
    """The keys of provider accounts as this process knows them, read again when the version that heartbeats bring moves."""

    def __init__(self, keys: ProviderKeys, master_keys: Sequence[bytes]) -> None:
        self._keys = keys
        self._master_keys = master_keys
        self._version = -1
        self._reading = asyncio.Lock()

    async def refresh(self, version: int) -> Mapping[str, tuple[str, ...]] | None:
        """All keys by account where they may have changed; None where not."""
        async with self._reading:
            if version == self._version:
                return None
            found = await self._keys.all(self._master_keys)
            self._version = version
            return found


def _identity(account: str, name: str) -> str:
    """What a sealed key is bound to, so that it opens in no other place."""
    return f"{PROVIDER_PREFIX}{account}/{name}"


def _check(name: str, secret: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ProviderKeyRefused(
            f"{name!r} names no key: letters, digits, dots and dashes, at most 63"
        )
    if not secret or not secret.isprintable() or len(secret.encode()) > MOST_BYTES:
        raise ProviderKeyRefused("the key is empty, too long, or holds control characters")
