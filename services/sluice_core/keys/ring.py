"""The keys as this process knows them, at most one heartbeat old, and when they were last used here."""

import asyncio
from collections.abc import Sequence

from sluice_core.keys.model import Key
from sluice_core.keys.repository import KeyRepository


class Keys:
    """Every key by its id; read again when the version that heartbeats bring has moved, or a notice comes."""

    def __init__(self, repository: KeyRepository, master_keys: Sequence[bytes]) -> None:
        self._repository = repository
        self._master_keys = master_keys
        self._keys: dict[str, Key] = {}
        self._version = 0
        self._used: dict[str, float] = {}
        self._reading = asyncio.Lock()

    def get(self, key_id: str, /) -> Key | None:
        """Find a key; revoked and expired ones are found too."""
        return self._keys.get(key_id)

    def used(self, key_id: str, at: float) -> None:
        """Remember that a key signed a record of this time (epoch seconds)."""
        self._used[key_id] = max(at, self._used.get(key_id, at))

    async def flush_uses(self) -> None:
        """Write what `used` remembers, in one statement; what cannot be written is remembered on."""
        if not self._used:
            return
        used, self._used = self._used, {}
        try:
            await self._repository.mark_used(used)
        except BaseException:
            self._used = used | self._used
            raise

    async def refresh(self, version: int) -> None:
        """Read the keys if `version` is not the one that was read last."""
        if version != self._version:
            await self.reload()
            self._version = version

    async def reload(self) -> None:
        """Read the keys now; one reading at a time, so that an older one never replaces a newer."""
        async with self._reading:
            self._keys = await self._repository.all(self._master_keys)
