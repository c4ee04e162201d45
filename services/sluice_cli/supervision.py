"""Starts again what ends by itself, and waits longer each time where that does not help."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from asyncpg import InterfaceError, PostgresError

from sluice_devstack.errors import DevstackError
from sluice_devstack.processes import Process

LONGEST_PAUSE_S: Final = 30.0
HASTE_S: Final = 5.0
_KEEPS_ENDING: Final = 3
_POLL_S: Final = 0.5

Report = Callable[[str], None]


class Part(Protocol):
    """Something that runs, and that can be started again in the same place once it ended."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def log(self) -> Path:
        """Where its output goes."""

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""

    async def start(self) -> None:
        """Start it again; DevstackError where it cannot start."""


class EmbeddedServer(Protocol):
    """A server of our own; `start` keeps its port and its data."""

    @property
    def process(self) -> Process:
        """The server's main process."""

    async def start(self) -> None:
        """Start it where it does not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPart:
    """An embedded server as a part."""

    name: str
    server: EmbeddedServer

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.server.process.log

    @property
    def returncode(self) -> int | None:
        """The exit status of the server's main process; None while it runs."""
        return self.server.process.returncode

    async def start(self) -> None:
        """Start it on the same port, over the same data."""
        await self.server.start()


def pause_s(hasty_ends: int) -> float:
    """Seconds to wait before the next start, after this many ends in haste one after another."""
    return min(LONGEST_PAUSE_S, 2.0 ** min(hasty_ends - 1, 10)) if hasty_ends else 0.0


async def keep_running(parts: Sequence[Part], stop: asyncio.Event, report: Report) -> None:
    """Start again each part that ends, until `stop` is set; no part's end touches another."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_keep(part, report)) for part in parts]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def _keep(part: Part, report: Report) -> None:
    started_at, hasty_ends = time.monotonic(), 0
    while True:
        status = part.returncode
        if status is None:
            await asyncio.sleep(_POLL_S)
            continue
        hasty_ends = hasty_ends + 1 if time.monotonic() - started_at < HASTE_S else 0
        report(ended(part, status, hasty_ends))
        await asyncio.sleep(pause_s(hasty_ends))
        try:
            await part.start()
        except (DevstackError, OSError, PostgresError, InterfaceError) as exc:
            report(f"{part.name} could not be started: {exc}")
        else:
            report(f"{part.name} runs again")
        # From here: however long the start took, it is no life.
        started_at = time.monotonic()


def ended(part: Part, status: int, hasty_ends: int) -> str:
    """The line that says that a part ended, and what follows."""
    pause = pause_s(hasty_ends)
    when = f"in {pause:g} s" if pause else "now"
    what = "keeps ending" if hasty_ends >= _KEEPS_ENDING else "ended"
    return f"{part.name} {what} (status {status}); it is started again {when} (see {part.log})"
