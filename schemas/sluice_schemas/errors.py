"""The closed list of error codes, and what each means to the program that receives it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ErrorCode(StrEnum):
    """Every code that a result, a dead letter or an HTTP error can carry."""

    INVALID_RECORD = "invalid_record"
    INVALID_SIGNATURE = "invalid_signature"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    UNKNOWN_MODEL = "unknown_model"
    UNSUPPORTED_URL = "unsupported_url"
    UNKNOWN_PROJECT = "unknown_project"
    REPLY_NOT_ALLOWED = "reply_not_allowed"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    BUDGET_EXCEEDED = "budget_exceeded"
    BUDGET_BUSY = "budget_busy"
    CONCURRENCY_EXCEEDED = "concurrency_exceeded"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_TIMEOUT = "provider_timeout"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_INVALID_RESPONSE = "provider_invalid_response"
    PROVIDER_AUTH = "provider_auth"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    CONTENT_FILTERED = "content_filtered"
    STREAM_INTERRUPTED = "stream_interrupted"
    OUTCOME_UNKNOWN = "outcome_unknown"
    GUARDRAIL_BLOCKED = "guardrail_blocked"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorMeaning:
    """What a code tells its receiver.

    `status` is the HTTP status an edge answers with; `retryable` says whether the same job, sent
    again as a new one, can succeed without a change; `advice` is one sentence for a person.
    """

    status: int
    retryable: bool
    advice: str


def _means(status: int, retryable: bool, advice: str) -> ErrorMeaning:
    return ErrorMeaning(status=status, retryable=retryable, advice=advice)


MEANINGS: Final[dict[ErrorCode, ErrorMeaning]] = {
    ErrorCode.INVALID_RECORD: _means(
        400, False, "Correct the record as the message says and send it again."
    ),
    ErrorCode.INVALID_SIGNATURE: _means(
        401,
        False,
        "Sign the ten lines and the value with the key's secret, with a ce_time that is now.",
    ),
    ErrorCode.UNAUTHORIZED: _means(
        401, False, "Sign with a key that exists and is neither expired nor revoked."
    ),
    ErrorCode.FORBIDDEN: _means(
        403, False, "Ask the platform team for a key or topic that allows this."
    ),
    ErrorCode.UNKNOWN_MODEL: _means(404, False, "Use a model name that the gateway's models list."),
    ErrorCode.UNSUPPORTED_URL: _means(
        404, False, "Use /v1/chat/completions, /v1/responses or /v1/embeddings."
    ),
    ErrorCode.UNKNOWN_PROJECT: _means(
        400, False, "Name a project, team and app of this tenant that the key or topic allows."
    ),
    ErrorCode.REPLY_NOT_ALLOWED: _means(
        403, False, "Use llm.replies.{tenant}.v1, or have the topic added to the tenant's list."
    ),
    ErrorCode.IDEMPOTENCY_CONFLICT: _means(
        409, False, "Use another idempotency key for another request."
    ),
    ErrorCode.TOO_LARGE: _means(
        413, False, "Make the job smaller, or have the limit that it cannot fit raised."
    ),
    ErrorCode.RATE_LIMITED: _means(429, True, "Send again later, or allow a longer max_wait_s."),
    ErrorCode.BUDGET_EXCEEDED: _means(
        402, False, "Have the budget raised, or send again in its next period."
    ),
    ErrorCode.BUDGET_BUSY: _means(
        429, True, "Send again when running jobs have given back what they reserve."
    ),
    ErrorCode.CONCURRENCY_EXCEEDED: _means(
        429, True, "Send again later, or allow a longer max_wait_s."
    ),
    ErrorCode.DEADLINE_EXCEEDED: _means(504, True, "Send again with a later deadline."),
    ErrorCode.CANCELLED: _means(
        409, False, "The job was cancelled; send it again if it is wanted."
    ),
    ErrorCode.PROVIDER_ERROR: _means(502, False, "Read the provider's answer in the response."),
    ErrorCode.PROVIDER_TIMEOUT: _means(
        504, True, "Send again; where the provider is slow, raise the account's timeouts."
    ),
    ErrorCode.PROVIDER_UNAVAILABLE: _means(503, True, "Send again later."),
    ErrorCode.PROVIDER_RATE_LIMITED: _means(429, True, "Send again after retry_after_s."),
    ErrorCode.PROVIDER_INVALID_RESPONSE: _means(
        502, True, "Send again; the provider's answer could not be read and may have been billed."
    ),
    ErrorCode.PROVIDER_AUTH: _means(
        502, False, "The platform team must correct the account's credentials."
    ),
    ErrorCode.CONTEXT_LENGTH_EXCEEDED: _means(
        400, False, "Shorten the prompt or use a model with a longer context."
    ),
    ErrorCode.CONTENT_FILTERED: _means(400, False, "The provider's content policy refused this."),
    ErrorCode.STREAM_INTERRUPTED: _means(
        502, True, "Send again; what was delivered has been billed."
    ),
    ErrorCode.OUTCOME_UNKNOWN: _means(
        504, False, "The call may have been billed; send again only if paying twice is acceptable."
    ),
    ErrorCode.GUARDRAIL_BLOCKED: _means(400, False, "The gateway's policy refused this."),
    ErrorCode.INTERNAL: _means(500, True, "Send again; if it recurs, tell the platform team."),
}
"""Every code's default status, whether a retry can help, and what to do."""
