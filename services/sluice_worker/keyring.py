"""The secrets of every account this worker calls, which outlive the configuration that named them first."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluice_core.config.model import ProviderConfig
from sluice_providers.credentials import Credentials, KeyPool, OneKey, Tokens
from sluice_providers.http import Transport
from sluice_providers.token_sources import token_source

LOOK_S: Final = 1.0
"""How often it is looked whether a token is to be renewed."""


@dataclass(slots=True)
class _Entry:
    account: ProviderConfig
    credentials: Credentials


class Keyring:
    """Gives an account's credentials; what is known of its keys stays when its configuration changes."""

    def __init__(self, transport: Transport | None = None) -> None:
        self._transport = transport
        self._entries: dict[str, _Entry] = {}

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
        keys = account.keys
        return KeyPool(name, keys) if len(keys) > 1 else OneKey(keys[0] if keys else "")

    def _changed(self, name: str, entry: _Entry, account: ProviderConfig) -> Credentials:
        before = entry.credentials
        if isinstance(before, KeyPool) and len(account.keys) > 1:
            before.change(account.keys)
            return before
        if isinstance(before, Tokens) and entry.account.secrets_alike(account):
            return before
        return self._made(name, account)

    async def run(self) -> None:
        """Renew tokens before they end."""
        try:
            while True:
                now = time.time()
                due = [t for t in self._tokens() if t.due(now)]
                # Each at its own pace: an endpoint that hangs keeps no other waiting.
                for tokens in due:
                    tokens.start_renewing()
                await asyncio.sleep(LOOK_S)
        finally:
            for tokens in self._tokens():
                await tokens.close()

    def _tokens(self) -> list[Tokens]:
        held = (entry.credentials for entry in self._entries.values())
        return [credentials for credentials in held if isinstance(credentials, Tokens)]
