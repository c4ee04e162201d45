"""Keeps the cache within its bounds."""

from sluice_core.caching.repository import CacheRepository
from sluice_core.config.model import Config

EVERY_S = 15.0
BATCH = 2_000


class Cache:
    """Removes stored answers whose time is over, and the oldest beyond `cache.bytes`."""

    def __init__(self, cache: CacheRepository, config: Config) -> None:
        self._cache = cache
        self._most_bytes = config.cache.bytes

    async def once(self) -> bool:
        """One pass; True where there may be more."""
        gone = await self._cache.purge(self._most_bytes, BATCH)
        if await self._cache.has_meanings():
            gone = max(gone, await self._cache.purge_meanings(BATCH))
        return gone >= BATCH
