"""Gathers single items into micro-batches: while one batch is written, the next one fills."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """One writer with at most one batch of `cap` items in flight, after waiting `linger_s` for company.

    `write` takes a batch and must not raise; what becomes of an item is its own affair.
    """

    def __init__(
        self, write: Callable[[list[Item]], Awaitable[None]], *, cap: int, linger_s: float = 0.0
    ) -> None:
        self._write = write
        self._cap = cap
        self._linger_s = linger_s
        self._waiting: deque[Item] = deque()
        self._wake = asyncio.Event()
        self._writing = 0

    def __len__(self) -> int:
        """Items that are waiting or in flight."""
        return len(self._waiting) + self._writing

    def add(self, item: Item) -> None:
        """Put an item into the next batch."""
        self._waiting.append(item)
        self._wake.set()

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._wake.wait()
            if self._linger_s and len(self._waiting) < self._cap:
                await asyncio.sleep(self._linger_s)
            batch = [self._waiting.popleft() for _ in range(min(self._cap, len(self._waiting)))]
            if not self._waiting:
                self._wake.clear()
            if not batch:
                continue
            self._writing = len(batch)
            await self._write(batch)
            self._writing = 0
