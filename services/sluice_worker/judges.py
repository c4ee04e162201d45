"""Judges of answers: what others install as entry points of the group `sluicegate.judges`."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import structlog

from sluice_core.config.routing import JUDGES, Judge

Judgement = Callable[[Mapping[str, Any], Mapping[str, Any]], float | Awaitable[float]]
"""Takes a request and its answer in OpenAI's form, returns how sure it is that the answer is good, from 0 to 1."""

_log = structlog.stdlib.get_logger(__name__)


_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="judge")
"""Their own: one that never returns keeps nothing else from its thread."""


async def confidence(
    judge: Judge, request: Mapping[str, Any], answer: Mapping[str, Any], *, within_s: float
) -> float | None:
    """What a judge says; None where it is not there, fails or is late (its timeout, or `within_s`): no answer is lost for that.

    A plain function runs in a thread, so that it may take its time.
    """
    judgement = _load(judge.name)
    if judgement is None:
        return None
    try:
        async with asyncio.timeout(min(judge.timeout, within_s)):
            if inspect.iscoroutinefunction(judgement):
                said = await judgement(request, answer)
            else:
                loop = asyncio.get_running_loop()
                said = await loop.run_in_executor(_threads, judgement, request, answer)
                if inspect.isawaitable(said):
                    said = await said
            return float(said)
    except TimeoutError:
        _log.warning("judge.late", judge=judge.name, timeout_s=judge.timeout)
    except Exception as exc:  # noqa: BLE001 - it is somebody else's
        _log.warning("judge.failed", judge=judge.name, error=repr(exc))
    return None


@cache
def _load(name: str) -> Any:
    found = entry_points(group=JUDGES, name=name)
    for entry in found:
        try:
            return entry.load()
        except Exception as exc:  # noqa: BLE001 - as above
            _log.error("judge.not_loaded", judge=name, error=repr(exc))
            return None
    _log.error("judge.missing", judge=name, group=JUDGES)
    return None
