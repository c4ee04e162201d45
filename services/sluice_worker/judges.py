"""Judges of answers: what others install as entry points of the group `sluicegate.judges`."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import structlog

from sluice_core.config.routing import JUDGES, Judge

Judgement = Callable[[Mapping[str, Any], Mapping[str, Any]], float | Awaitable[float]]
"""Takes a request and its answer in OpenAI's form, returns how sure it is that the answer is good, from 0 to 1."""

_log = structlog.stdlib.get_logger(__name__)


async def confidence(
    judge: Judge, request: Mapping[str, Any], answer: Mapping[str, Any]
) -> float | None:
    """What a judge says; None where it is not there, fails or is late: an answer is not lost for that.

    A plain function runs in a thread, so that it may take its time.
    """
    judgement = _load(judge.name)
    if judgement is None:
        return None
    try:
        async with asyncio.timeout(judge.timeout):
            if inspect.iscoroutinefunction(judgement):
                said = await judgement(request, answer)
            else:
                said = await asyncio.to_thread(judgement, request, answer)
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
