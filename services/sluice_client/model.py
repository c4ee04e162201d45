"""Values of the client: a job to send, what was sent, and a result as read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Self, TypedDict
from uuid import UUID

import orjson

from sluice_schemas import headers as names
from sluice_schemas.identity import id_by_event, id_by_key

ClassName = Literal["realtime", "standard", "bulk"]


class JobOptions(TypedDict, total=False):
    """The options of a job, as the contract names them."""

    idempotency_key: str
    on_duplicate: Literal["resend", "rerun"]
    run_id: str
    timeout_s: float
    deadline: str
    max_wait_s: float
    project: str
    team: str
    app: str
    user: str
    tags: dict[str, str]
    max_cost_usd: str
    max_attempts: int
    on_unknown: Literal["stop", "retry"]
    on_budget: Literal["reject", "wait"]
    cache: Literal["off", "exact", "semantic"]
    affinity: str
    results: Literal["both", "reply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request: an OpenAI body, and what goes with it in a line of a Batch file.

    `url` is `/v1/chat/completions` where it is not named.
    """

    body: Mapping[str, Any]
    custom_id: str | None = None
    url: str | None = None
    options: JobOptions = field(default_factory=JobOptions)

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Self:
        """The job that a line of a Batch input file says; KeyError where it has no body."""
        return cls(
            body=line["body"],
            custom_id=line.get("custom_id"),
            url=line.get("url"),
            options=line.get("options") or JobOptions(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventName:
    """The CloudEvents name of a record: who sent it, and its id there."""

    source: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job that was sent: its tenant and names, and what a later `attach` needs."""

    tenant: str
    event: EventName
    correlation_id: str
    idempotency_key: str | None
    topic: str

    @property
    def id(self) -> UUID:
        """The job's id, by the contract's rule."""
        if self.idempotency_key is not None:
            return id_by_key(self.tenant, self.idempotency_key)
        return id_by_event(self.tenant, self.event.source, self.event.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job did not succeed; `code` is of the contract's closed list."""

    code: str
    message: str
    retryable: bool
    status: int | None
    param: str | None
    retry_after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a job.

    `body` is the provider's answer (None without one, or where it did not fit in a record: then
    `dataref` is set), `request_id` the provider's own id of it, where it gave one. `report` is the
    contract's `job` object as it came. `duplicate` says that a stored result was sent again.
    """

    id: str
    custom_id: str | None
    state: str
    status_code: int | None
    request_id: str | None
    body: Any
    error: Failure | None
    report: Mapping[str, Any]
    dataref: str | None
    duplicate: bool

    @property
    def succeeded(self) -> bool:
        """Whether the job ended in `succeeded`."""
        return self.state == "succeeded"

    @property
    def cost_usd(self) -> Decimal:
        """What the job cost, in US dollars, exactly."""
        return Decimal(self.report["cost_usd"])

    @property
    def usage(self) -> Mapping[str, int]:
        """Tokens by the contract's names."""
        tokens: Mapping[str, int] = self.report["usage"]
        return tokens


def read_result(value: bytes, headers: Mapping[str, bytes]) -> Result:
    """Read the value and headers of a result record."""
    document = orjson.loads(value)
    report = document["job"]
    response = document["response"]
    error = report["error"]
    dataref = headers.get(names.CE_DATAREF)
    return Result(
        id=document["id"],
        custom_id=document["custom_id"],
        state=report["state"],
        status_code=None if response is None else response["status_code"],
        request_id=None if response is None else response["request_id"],
        body=None if response is None else response["body"],
        error=None if error is None else _failure(error),
        report=report,
        dataref=None if dataref is None else dataref.decode(),
        duplicate=names.DUPLICATE in headers,
    )


def _failure(error: Mapping[str, Any]) -> Failure:
    # By name: a field that a later gateway adds is not an error.
    return Failure(
        code=error["code"],
        message=error["message"],
        retryable=error["retryable"],
        status=error["status"],
        param=error["param"],
        retry_after_s=error["retry_after_s"],
    )


class Finished(NamedTuple):
    """A job of a map, and its result whatever its state."""

    job: Job
    result: Result
