"""The secrets of every account this worker calls, which outlive the configuration that named them first."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from sluice_core.config.load import read_keys
from sluice_core.config.provider import ProviderConfig
from sluice_providers.credentials import Credentials, KeyPool, OneKey, Tokens
from sluice_providers.http import Transport
from sluice_providers.token_sources import token_source

LOOK_S: Final = 1.0
"""How often it is looked whether a token is to be renewed, or a file holds other keys."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Entry:
    account: ProviderConfig
    credentials: Credentials
    legible: bool = True


class Keyring:
    """Gives an account's credentials; what is known of its keys stays when its configuration changes."""

    def __init__(self, transport: Transport | None = None) -> None:
        self._transport = transport
        self._entries: dict[str, _Entry] = {}
        self._stored: Mapping[str, tuple[str, ...]] = {}

    def store(self, keys: Mapping[str, tuple[str, ...]]) -> None:
        """Go by these keys where an account's are kept in the ledger; calls under way end with theirs."""
        self._stored = keys
        for name, entry in self._entries.items():
            pool, found = entry.credentials, keys.get(name, ())
            if entry.account.api_key_store and isinstance(pool, KeyPool) and found != pool.secrets:
                pool.change(found)
                _log.info("key.store_followed", account=name, keys=len(found))

    def change(self, accounts: Mapping[str, ProviderConfig]) -> None:
        """Hold the secrets of these accounts and of no others."""
        for name in self._entries.keys() - accounts.keys():
            del self._entries[name]
        for name, account in accounts.items():
            self.of(name, account)

    def of(self, name: str, account: ProviderConfig) -> Credentials:
        """The credentials of an account as it is configured now."""
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(account, self._made(name, account))
        elif entry.account != account:
            entry.credentials = self._changed(name, entry, account)
            entry.account = account
        return entry.credentials

    def _made(self, name: str, account: ProviderConfig) -> Credentials:
        if self._transport is not None:
            fetch = token_source(account, self._transport)
            if fetch is not None:
                return Tokens(name, fetch)
        keys = self._keys(name, account)
        if _pooled(account):
            return KeyPool(name, keys)
        return OneKey(keys[0] if keys else "")

    def _changed(self, name: str, entry: _Entry, account: ProviderConfig) -> Credentials:
        before = entry.credentials
        if isinstance(before, KeyPool) and _pooled(account):
            before.change(self._keys(name, account))
            return before
        if isinstance(before, Tokens) and entry.account.secrets_alike(account):
            return before
        return self._made(name, account)

    def _keys(self, name: str, account: ProviderConfig) -> tuple[str, ...]:
        return self._stored.get(name, ()) if account.api_key_store else account.keys

    async def run(self) -> None:
        """Renew tokens before they end, and follow files of keys that change."""
        try:
            while True:
                await self._follow_files()
                now = time.time()
                due = [t for t in self._tokens() if t.due(now)]
                # Each at its own pace: an endpoint that hangs keeps no other waiting.
                for tokens in due:
                    tokens.start_renewing()
                await asyncio.sleep(LOOK_S)
        finally:
            for tokens in self._tokens():
                await tokens.close()

    async def _follow_files(self) -> None:
        """Go by the keys that files hold now; one that cannot be read, or holds none, changes nothing."""
        for name, entry in list(self._entries.items()):
            path, pool = entry.account.api_key_file, entry.credentials
            if path is None or not isinstance(pool, KeyPool):
                continue
            try:
                keys = await asyncio.to_thread(read_keys, path)
            except (OSError, ValueError) as exc:
                if entry.legible:
                    _log.warning("key.file_not_read", account=name, error=type(exc).__name__)
                entry.legible = False
                continue
            entry.legible = True
            if keys != pool.secrets:
                pool.change(keys)
                _log.info("key.file_followed", account=name, keys=len(keys))

    def _tokens(self) -> list[Tokens]:
        held = (entry.credentials for entry in self._entries.values())
        return [credentials for credentials in held if isinstance(credentials, Tokens)]


def _pooled(account: ProviderConfig) -> bool:
    """Whether its keys may be several, now or later."""
    return len(account.keys) > 1 or account.api_key_file is not None or account.api_key_store
