"""Which refusals are denials, and how they are recorded: with their batch at admission, by the log before a call."""

from typing import Final
from uuid import UUID

import structlog

from sluice_core.intake.model import DeadLetter, Rejection
from sluice_core.jobs.model import Job
from sluice_core.policies.model import Denial
from sluice_core.policies.repository import DenialRepository
from sluice_platform.batching import Batcher
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.base import UNALLOCATED
from sluice_schemas.errors import ErrorCode
from sluice_schemas.identity import denial_id

CAP: Final = 100
LINGER_S: Final = 0.05

_log = structlog.stdlib.get_logger(__name__)
_DENIED: Final = frozenset(
    {
        ErrorCode.UNAUTHORIZED,
        ErrorCode.FORBIDDEN,
        ErrorCode.UNKNOWN_PROJECT,
        ErrorCode.REPLY_NOT_ALLOWED,
    }
)


def is_denial(verdict: object) -> bool:
    """Whether a caller was refused, not a record that is no job; of a bad signature only under a known key."""
    if not isinstance(verdict, Rejection | DeadLetter):
        return False
    if verdict.code is ErrorCode.INVALID_SIGNATURE:
        return _key_id(verdict) is not None
    return verdict.code in _DENIED


def denial_of(verdict: Rejection | DeadLetter, record_id: UUID, user_id: str | None) -> Denial:
    """The entry of a denial; `record_id` is that of its record, `user_id` a pseudonym."""
    if isinstance(verdict, DeadLetter):
        key = verdict.named_key
        return Denial(
            record=record_id,
            tenant=None if key is None else key.tenant,
            key_id=_key_id(verdict),
            team=None,
            project=None,
            app=None,
            user_id=None,
            topic=verdict.record.topic,
            model=None,
            code=verdict.code.value,
            rule=None,
        )
    return Denial(
        record=record_id,
        tenant=verdict.tenant,
        key_id=_key_id(verdict),
        team=_named(verdict.team),
        project=_named(verdict.project),
        app=_named(verdict.app),
        user_id=user_id,
        topic=verdict.record.topic,
        model=verdict.model,
        code=verdict.code.value,
        rule=_bounded(verdict.rule),
    )


def denial_of_job(job: Job, code: ErrorCode, rule: str | None) -> Denial:
    """The entry of a job that was refused just before its call: once for each execution."""
    facts = job.facts
    return Denial(
        record=denial_id(job.id, job.execution),
        tenant=facts.tenant,
        key_id=facts.key_id,
        team=_named(facts.team),
        project=_named(facts.project),
        app=_named(facts.app),
        user_id=facts.user_id,
        topic=None,
        model=facts.model,
        code=code.value,
        rule=_bounded(rule),
    )


class DenialLog:
    """Records refusals before a call, a batch at a time and behind them: the job's own result is durable anyway."""

    def __init__(self, denials: DenialRepository) -> None:
        self._denials = denials
        self._batches: Batcher[Denial] = Batcher(self._write, cap=CAP, linger_s=LINGER_S)

    async def run(self) -> None:
        """Write until cancelled."""
        await self._batches.run()

    def note(self, job: Job, code: ErrorCode, rule: str | None) -> None:
        """Record a refusal with the next batch, where it is a denial."""
        if code in _DENIED:
            self._batches.add(denial_of_job(job, code, rule))

    async def _write(self, denials: list[Denial]) -> None:
        try:
            await self._denials.record(denials)
        except DATABASE_ERRORS as exc:
            _log.error("denials.not_recorded", count=len(denials), error=str(exc))


def _bounded(rule: str | None) -> str | None:
    return None if rule is None else rule.replace("\x00", "")[:2048]


def _key_id(verdict: Rejection | DeadLetter) -> str | None:
    if isinstance(verdict, Rejection) and verdict.key_id is not None:
        return verdict.key_id
    return None if verdict.named_key is None else verdict.named_key.id


def _named(name: str | None) -> str | None:
    return None if name == UNALLOCATED else name
