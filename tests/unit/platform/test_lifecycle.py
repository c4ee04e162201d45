import asyncio
import os
import signal
import subprocess
import sys

import pytest

from sluice_platform.lifecycle import LoopFailed, TaskSet, run


def test_the_first_signal_stops_in_order() -> None:
    async def main(stop: asyncio.Event) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 5)
        return 7

    assert run(main) == 7


_DEAF = """
import asyncio
from sluice_platform.lifecycle import run

async def main(stop):
    print("ready", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await asyncio.sleep(60)
    return 0

run(main)
"""


def test_the_second_signal_ends_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", _DEAF], stdout=subprocess.PIPE, text=True) as deaf:
        assert deaf.stdout is not None
        assert deaf.stdout.readline() == "ready\n"
        deaf.terminate()
        while "stopping" not in deaf.stdout.readline():
            assert deaf.poll() is None
        deaf.terminate()
        assert deaf.wait(10) == 128 + signal.SIGTERM


def test_a_loop_that_raises_ends_the_process() -> None:
    async def broken() -> None:
        raise RuntimeError("boom")

    async def main(stop: asyncio.Event) -> int:
        async with TaskSet(stop) as tasks:
            tasks.start("publish", broken())
            await asyncio.wait_for(stop.wait(), 5)
        return 0

    assert run(main) == 1


async def test_a_loop_that_returns_early_is_a_failure() -> None:
    async def idle() -> None:
        return

    stop = asyncio.Event()
    with pytest.raises(LoopFailed, match="'sweep'"):
        async with TaskSet(stop) as tasks:
            tasks.start("sweep", idle())
            await asyncio.wait_for(stop.wait(), 5)


async def test_leaving_ends_the_loops_quietly() -> None:
    ended = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def polite(stop: asyncio.Event) -> None:
        await stop.wait()

    stop = asyncio.Event()
    async with TaskSet(stop) as tasks:
        tasks.start("forever", forever())
        polite_task = tasks.start("polite", polite(stop))
        stop.set()
        await asyncio.wait_for(polite_task, 5)
    assert ended == [True]


async def test_the_blocks_own_error_wins_over_the_loops() -> None:
    async def broken() -> None:
        raise RuntimeError("loop")

    stop = asyncio.Event()
    with pytest.raises(ValueError, match="block"):
        async with TaskSet(stop) as tasks:
            tasks.start("broken", broken())
            await asyncio.wait_for(stop.wait(), 5)
            raise ValueError("block")
