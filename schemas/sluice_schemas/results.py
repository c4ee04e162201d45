"""A result: one line of an OpenAI Batch output file, plus `job`; and the deltas of a stream."""

from typing import Any, Literal

from pydantic import Field

from sluice_schemas.base import Money, UuidText, Value
from sluice_schemas.errors import ErrorCode

TerminalState = Literal["succeeded", "failed", "rejected", "expired", "cancelled", "unknown"]
ClassName = Literal["realtime", "standard", "bulk"]


class Error(Value):
    """Why a job did not succeed."""

    code: ErrorCode
    message: str
    retryable: bool
    status: int | None
    param: str | None
    retry_after_s: float | None


class Response(Value):
    """The provider's answer; `model` in its body is the name that was asked for."""

    status_code: int
    request_id: str | None
    body: Any = Field(description="null where the result is too large: see ce_dataref.")


class TokenUsage(Value):
    """Tokens as OpenTelemetry GenAI counts them: the others are subsets, never added.

    `input_tokens` includes cache reads and writes, `output_tokens` includes reasoning.
    """

    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int


class JobReport(Value):
    """What became of the job."""

    state: TerminalState
    class_: ClassName = Field(alias="class")
    attempts: int
    run_id: str | None
    model: str | None
    account: str | None
    provider_model: str | None
    usage: TokenUsage
    cost_usd: Money
    execution: int = Field(ge=1, description="Counts reruns, from 1.")
    queued_ms: int
    provider_ms: int
    total_ms: int
    cache: str | None
    deltas: int
    warnings: list[str]
    error: Error | None


class Result(Value):
    """The value of a result: exactly one per execution of a job."""

    id: UuidText
    custom_id: str | None
    response: Response | None
    error: Error | None
    job: JobReport


class Delta(Value):
    """A piece of a stream, in order on the reply partition; `seq` starts at 0 per attempt."""

    id: UuidText
    attempt: int = Field(ge=1)
    seq: int = Field(ge=0)
    chunks: list[dict[str, Any]] = Field(description="OpenAI chunks.")
