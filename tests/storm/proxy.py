"""A TCP proxy before Postgres that can drop an answer on its way back: the COMMIT happened, nobody was told."""

import asyncio
import random
from urllib.parse import urlsplit, urlunsplit

from tests.forwarder import Forwarder


class CuttingProxy(Forwarder):
    """Forwards connections; `cut(share)` makes it drop that share of live connections at their next answer."""

    def __init__(self, dsn: str) -> None:
        self._parts = urlsplit(dsn)
        assert self._parts.hostname is not None
        super().__init__(self._parts.port or 5432, self._parts.hostname)
        self._doomed: set[asyncio.StreamWriter] = set()
        self.cuts = 0

    @property
    def dsn(self) -> str:
        """The database's, by way of the proxy."""
        login = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{login}@127.0.0.1:{self.port}"))

    def cut(self, share: float, chance: random.Random) -> None:
        """Doom some connections: the next bytes the server sends on them are lost, and so are they."""
        self._doomed |= {link for link in self._links if chance.random() < share}

    def _lets_through(self, writer: asyncio.StreamWriter) -> bool:
        if writer not in self._doomed:
            return True
        self._doomed.discard(writer)
        self.cuts += 1
        return False
