"""The keys as this process knows them, at most one heartbeat old."""

from sluice_core.keys.model import Key
from sluice_core.keys.repository import KeyRepository


class Keys:
    """Every key by its id; read again when the version that heartbeats bring has moved."""

    def __init__(self, repository: KeyRepository, master_key: bytes | None) -> None:
        self._repository = repository
        self._master_key = master_key
        self._keys: dict[str, Key] = {}
        self._version = 0

    def get(self, key_id: str, /) -> Key | None:
        """Find a key; revoked and expired ones are found too."""
        return self._keys.get(key_id)

    async def refresh(self, version: int) -> None:
        """Read the keys if `version` is not the one that was read last."""
        if version != self._version:
            await self.reload()
            self._version = version

    async def reload(self) -> None:
        """Read the keys now."""
        self._keys = await self._repository.all(self._master_key)
