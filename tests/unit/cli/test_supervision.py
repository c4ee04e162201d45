import asyncio
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sluice_cli.supervision import LONGEST_PAUSE_S, ServerPart, ended, keep_running, pause_s
from sluice_devstack.errors import DevstackError
from sluice_devstack.processes import Process

_SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")


@dataclass(slots=True, kw_only=True)
class _Server:
    """A process that stands for a server; its first restarts may fail."""

    log: Path
    refusals: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.process = Process(_SLEEPS, log=self.log)

    async def start(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DevstackError("the port is taken")
        self.process = Process(_SLEEPS, log=self.log)
        self.started.set()


def test_pauses_grow_up_to_a_bound() -> None:
    assert [pause_s(ends) for ends in range(7)] == [0, 1, 2, 4, 8, 16, LONGEST_PAUSE_S]
    assert pause_s(10_000) == LONGEST_PAUSE_S


async def test_what_is_killed_is_said_and_started_again(tmp_path: Path) -> None:
    killed, other = _Server(log=tmp_path / "a.log", refusals=1), _Server(log=tmp_path / "b.log")
    parts = [ServerPart(name="Kafka", server=killed), ServerPart(name="other", server=other)]
    lines: list[str] = []
    stop = asyncio.Event()
    keeper = asyncio.create_task(keep_running(parts, stop, lines.append))
    killed.process.signal(signal.SIGKILL)
    untouched = other.process.pid
    await asyncio.wait_for(killed.started.wait(), 20)
    stop.set()
    await asyncio.wait_for(keeper, 5)
    assert killed.process.returncode is None
    assert (other.process.pid, other.process.returncode) == (untouched, None)
    assert lines[0].startswith("Kafka ended (status -9); it is started again")
    assert lines[1] == "Kafka could not be started: the port is taken"
    await asyncio.gather(killed.process.stop(), other.process.stop())


@pytest.mark.parametrize(("hasty_ends", "word"), [(0, "ended"), (2, "ended"), (3, "keeps ending")])
async def test_what_keeps_ending_is_said_with_its_log(
    tmp_path: Path, hasty_ends: int, word: str
) -> None:
    server = _Server(log=tmp_path / "worker-1.log")
    line = ended(ServerPart(name="worker-1", server=server), 1, hasty_ends)
    assert line.startswith(f"worker-1 {word} (status 1)")
    assert str(server.log) in line
    await server.process.stop()
