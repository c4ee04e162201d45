"""Which verdicts of intake are denials, and how they are recorded; pure."""

from typing import Final
from uuid import UUID

from sluice_core.intake.model import DeadLetter, Rejection
from sluice_core.policies.model import Denial
from sluice_schemas.base import UNALLOCATED
from sluice_schemas.errors import ErrorCode

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
        rule=None if verdict.rule is None else verdict.rule.replace("\x00", "")[:2048],
    )


def _key_id(verdict: Rejection | DeadLetter) -> str | None:
    if isinstance(verdict, Rejection) and verdict.key_id is not None:
        return verdict.key_id
    return None if verdict.named_key is None else verdict.named_key.id


def _named(name: str) -> str | None:
    return None if name == UNALLOCATED else name
