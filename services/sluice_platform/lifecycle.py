"""Runs a process's main coroutine: signals, and background loops that never die silently."""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import structlog
import uvloop

_log = structlog.stdlib.get_logger(__name__)

Main = Callable[[asyncio.Event], Awaitable[int]]


class LoopFailed(Exception):
    """A background loop ended by itself; it was logged when it did, and is the cause."""


def run(main: Main) -> int:
    """Runs `main(stop)` under uvloop and returns its exit status; 1 after LoopFailed.

    The first SIGTERM or SIGINT sets `stop`: take no more, finish, leave. The second ends the
    process at once with 128 + the signal. Other exceptions of `main` are the caller's.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_guarded(main))
        except LoopFailed:
            return 1


async def _guarded(main: Main) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        _log.info("process.stopping", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled, number)
    return await main(stop)


def calm_collector() -> None:
    """Takes what start-up made out of the cyclic collector's sight, and lets it run less often.

    Imported modules and the price catalogue are some hundred thousand objects that never go; each full
    collection would visit all of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class TaskSet:
    """The background loops of a process: `async with TaskSet(stop) as tasks: tasks.start(…)`.

    A loop runs until `stop` is set. One that raises or returns earlier is logged, sets `stop` so
    that the process drains, and makes leaving the block raise LoopFailed. Leaving the block
    cancels what still runs.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._failure: LoopFailed | None = None

    def start(self, name: str, loop: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a loop in the background; `name` is what its log event says."""
        task = asyncio.create_task(loop, name=name)
        self._tasks[task] = name
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._tasks.pop(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None and self._stop.is_set():
            return
        _log.error("loop.failed", loop=name, exc_info=error)
        if self._failure is None:
            self._failure = LoopFailed(f"the background loop {name!r} ended")
            self._failure.__cause__ = error
        self._stop.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure is not None and error is None:
            raise self._failure
