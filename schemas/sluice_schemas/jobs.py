"""A job: one line of an OpenAI Batch input file, with options."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from sluice_schemas.base import Value
from sluice_schemas.identity import DEFAULT_URL
from sluice_schemas.money import parse_usd
from sluice_schemas.times import parse_time

MAX_TEXT_BYTES: Final = 256
MAX_TAGS: Final = 16
MAX_TAG_NAME_BYTES: Final = 64
MAX_TAG_VALUE_BYTES: Final = 256
MAX_ATTEMPTS: Final = 100
DEFAULT_ATTEMPTS: Final = 5

Operation = Literal["chat", "embeddings", "responses", "rerank"]
OPERATIONS: Final[dict[str, Operation]] = {
    "/v1/chat/completions": "chat",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/v1/rerank": "rerank",
}
"""The urls that jobs may name, and the operation that each stands for."""
GENERATING: Final = frozenset({"chat", "responses"})
"""Operations whose answers are written token by token: they have a length, and may be streamed."""


def bounded(text: str, limit: int = MAX_TEXT_BYTES) -> str:
    """The text itself; ValueError where it is empty, over the bound in UTF-8 or holds a NUL."""
    if not text or "\x00" in text or len(text.encode()) > limit:
        raise ValueError(f"must be 1 to {limit} bytes of UTF-8 without NUL")
    return text


def _tag_name(text: str) -> str:
    return bounded(text, MAX_TAG_NAME_BYTES)


def _tag_value(text: str) -> str:
    return bounded(text, MAX_TAG_VALUE_BYTES) if text else text


def _money(text: str) -> str:
    parse_usd(text)
    return text


def _time(text: str) -> str:
    parse_time(text)
    return text


Text = Annotated[StrictStr, AfterValidator(bounded), Field(min_length=1, max_length=256)]
TagName = Annotated[StrictStr, AfterValidator(_tag_name)]
TagValue = Annotated[StrictStr, AfterValidator(_tag_value)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class Options(Value):
    """What a job may ask for besides its request; an option that is not known is ignored."""

    idempotency_key: Text | None = Field(default=None, description="Same key, same job.")
    on_duplicate: Literal["resend", "rerun"] | None = Field(
        default=None, description="Of a failed, expired or cancelled job. Default: resend."
    )
    run_id: Text | None = Field(default=None, description="Groups jobs.")
    timeout_s: Seconds | None = Field(
        default=None, description="Seconds from the record's timestamp."
    )
    deadline: Annotated[StrictStr, AfterValidator(_time)] | None = Field(
        default=None, description="RFC 3339 with an offset; with timeout_s the earlier holds."
    )
    max_wait_s: Seconds | None = Field(
        default=None, description="Longest wait for a limit, budget or slot."
    )
    project: Text | None = None
    team: Text | None = None
    app: Text | None = None
    user: Text | None = None
    tags: Annotated[dict[TagName, TagValue], Field(max_length=MAX_TAGS)] | None = None
    max_cost_usd: Annotated[StrictStr, AfterValidator(_money)] | None = Field(
        default=None, examples=["0.05"]
    )
    max_attempts: Annotated[StrictInt, Field(ge=1, le=MAX_ATTEMPTS)] | None = Field(
        default=None, description="Default: 5."
    )
    on_unknown: Literal["stop", "retry"] | None = Field(default=None, description="Default: stop.")
    on_budget: Literal["reject", "wait"] | None = Field(
        default=None, description="Default: reject."
    )
    cache: Literal["off", "exact", "semantic"] | None = None
    affinity: Text | None = Field(default=None, description="Default: run_id.")
    results: Literal["both", "reply"] | None = Field(default=None, description="Default: both.")


class Body(Value):
    """An OpenAI request; only what the gateway itself reads is named here."""

    model: Text
    stream: StrictBool | None = None
    messages: list[dict[str, Any]] | None = Field(default=None, min_length=1)
    input: str | list[Any] | None = None


class Job(Value):
    """The value of a job record."""

    model_config = ConfigDict(
        title="Job",
        json_schema_extra={
            "examples": [
                {
                    "custom_id": "row-17",
                    "method": "POST",
                    "url": DEFAULT_URL,
                    "body": {
                        "model": "fast",
                        "messages": [{"role": "user", "content": "Say hello."}],
                    },
                    "options": {"run_id": "nightly"},
                }
            ]
        },
    )

    custom_id: Text | None = None
    method: Literal["POST"] | None = None
    url: StrictStr | None = Field(default=None, description=f"Default: {DEFAULT_URL}.")
    body: Body
    options: Options | None = None
