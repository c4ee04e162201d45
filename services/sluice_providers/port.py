"""What the worker hands to a provider call and what it gets back."""

from collections.abc import Mapping
from dataclasses import field
from uuid import UUID

from sluice_core.config.compatible import Quirks
from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage, UsageSource
from sluice_platform.values import frozen_value
from sluice_schemas.errors import ErrorCode
from sluice_schemas.jobs import Operation


@frozen_value
class Target:
    """One provider account and model that a call goes to; times in seconds.

    `kind` names the wire format (`openai`, `anthropic`), `provider` the company in OpenTelemetry's
    `gen_ai.provider.name`. `model` is the provider's name, `model_requested` the caller's.
    `options` are what one kind alone asks for, such as a region or an API version.
    `quirks`: in what it differs from OpenAI's form.
    `tier` is the service tier that is asked for where a job names none. `default_max_tokens` is sent where the job names no limit. `first_byte_timeout_s` runs from the
    request's last byte to the status, and again from the status to the body's first byte.
    """

    account: str
    kind: str
    provider: str
    base_url: str
    model: str
    model_requested: str
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 120.0
    between_chunks_timeout_s: float = 60.0
    total_timeout_s: float = 600.0
    default_max_tokens: int | None = None
    tier: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    quirks: Quirks | None = None


@frozen_value
class Call:
    """One attempt of a job at one target.

    `body` is the request as a JSON object in OpenAI form. `deadline` is how many seconds may pass
    from the start of the call; the target's total timeout applies besides. `answer_bytes_limit` bounds
    what is read of the answer, in bytes on the wire after decompression. `api_key` is the secret that it goes with.
    """

    job_id: UUID
    attempt: int
    operation: Operation
    body: bytes
    stream: bool
    target: Target
    deadline: float
    answer_bytes_limit: int
    api_key: str = field(default="", repr=False)
    traceparent: str | None = None


@frozen_value
class Answer:
    """How one call ended; `failure` is None where it succeeded.

    `status` and `request_id` are the provider's. `body` is a success in OpenAI form under the model name
    that was asked for, or the provider's error in OpenAI's error form; None where neither is whole.
    `param` names the field that kept the request from being sent.
    `usage` is what the call used: reported, or else estimated once a 2xx had begun; None where nothing
    can have been billed or nobody knows. `sent` says that the whole request had left: a
    timeout or deadline without it costs nothing. `deltas` counts the chunks handed out, `finish` holds
    each choice's finish reason, `warnings` names what the provider's format could not carry. `exhausted_s`: a rate
    header says that nothing is left for so many seconds. `tier`: the service tier that served it.
    """

    failure: FailureKind | None
    code: ErrorCode | None
    message: str
    status: int | None
    request_id: str | None
    body: bytes | None
    usage: Usage | None
    usage_source: UsageSource
    retry_after_s: float | None
    deltas: int
    sent: bool
    provider_ms: int
    first_byte_ms: int | None
    finish: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    exhausted_s: float | None = None
    param: str | None = None
    tier: str | None = None
