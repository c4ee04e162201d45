"""Whether an answer of a cheaper tier is good enough; where it is not, the job goes up and the answer is kept."""

import asyncio
import time
from dataclasses import replace
from typing import Final

import orjson
import structlog

from sluice_core.config.routing import Check
from sluice_core.jobs.model import Outcome
from sluice_core.routing.escalation import shortcoming
from sluice_core.settlement.model import Problem, Report
from sluice_providers.port import Answer
from sluice_schemas.errors import ErrorCode
from sluice_worker.flight import Flight
from sluice_worker.judges import confidence

MOST_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Of answers that wait for a better one; beyond it an answer is given as it is."""
_THREAD_BYTES: Final = 64 * 1024
"""Requests (their schemas are compiled) and answers that are larger together are checked beside the loop."""

_log = structlog.stdlib.get_logger(__name__)


class Escalation:
    """Looks at answers, and keeps those that did not pass until there is a better one."""

    def __init__(self) -> None:
        self._bytes = 0

    async def shortcoming(self, flight: Flight, answer: Answer) -> str | None:
        """Why an answer does not pass its tier's check; None where it does, or where there is no tier above."""
        check = None if flight.route is None else flight.route.check
        if check is None or answer.failure is not None or answer.body is None:
            return None
        job = flight.job
        if job.attempts_made >= job.max_attempts or job.facts.operation != "chat":
            return None
        if self._bytes + len(answer.body) > MOST_KEPT_BYTES:
            return None
        try:
            # Half of what is left is the next tier's, if there is to be one.
            within_s = max(0.0, (job.deadline - time.time()) / 2)
            return await _look(check, job.body, answer.body, within_s=within_s)
        except Exception:  # noqa: BLE001 - a check that fails keeps nobody from the answer
            _log.exception("escalation.not_checked", job_id=str(job.id))
            return None

    def goes_up(self, flight: Flight, report: Report, why: str) -> Report:
        """The flight's next attempt is in the next tier; returns how the one that did not pass is booked."""
        self.let_go(flight)
        # Where it is given after all, who asked is told that it is the lesser one.
        warning = f"escalation: {why}; no better answer was to be had"
        flight.kept = replace(report, warnings=(*report.warnings, warning))
        self._bytes += len(report.body or b"")
        flight.level += 1
        flight.tried, flight.fell_back = frozenset(), None
        problem = Problem(code=ErrorCode.PROVIDER_INVALID_RESPONSE, message=f"did not pass: {why}")
        return replace(report, outcome=Outcome.FAILED, problem=problem)

    def let_go(self, flight: Flight) -> None:
        """Nothing is kept for a flight any more."""
        if flight.kept is not None:
            self._bytes -= len(flight.kept.body or b"")
            flight.kept = None


async def _look(check: Check, request: bytes, answer: bytes, *, within_s: float) -> str | None:
    asked, answered = orjson.loads(request), orjson.loads(answer)
    if len(request) + len(answer) > _THREAD_BYTES:
        why = await asyncio.to_thread(shortcoming, check, asked, answered)
    else:
        why = shortcoming(check, asked, answered)
    if why is not None or check.judge is None:
        return why
    sure = await confidence(check.judge, asked, answered, within_s=within_s)
    if sure is None or sure >= check.judge.below:
        return None
    return f"{check.judge.name} gives it {sure:.2f}, {check.judge.below:g} is asked for"
