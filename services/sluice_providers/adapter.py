"""The seam every wire format implements: pure translation, out and back.

AdapterError
├── UntranslatableError   the request cannot be said in this format
├── MalformedError        the answer cannot be read
├── EmptyError            the answer is readable and holds nothing
└── ReportedError         a 2xx answer that carries an error
"""

from collections.abc import Mapping
from typing import Any, Protocol

from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_platform.values import frozen_value
from sluice_providers.framing import Framing
from sluice_providers.port import Call
from sluice_providers.sse import Event


class AdapterError(Exception):
    """The root of what translation can raise; the message is safe to show."""


class UntranslatableError(AdapterError):
    """The request holds something that the provider's format cannot carry; `param` names it."""

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(f"{param}: {reason}")
        self.param = param


class MalformedError(AdapterError):
    """The answer is not what the format promises."""


class EmptyError(AdapterError):
    """The answer is well formed and has no content at all."""


class ReportedError(AdapterError):
    """An error inside an answer that began with 2xx; `body` is in OpenAI's error form.

    `kind`: what it is, where that is known better than that it was in the answer. `usage`: what it reports all the same.
    """

    def __init__(
        self,
        message: str,
        body: bytes,
        *,
        kind: FailureKind | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.body, self.kind, self.usage = body, kind, usage


@frozen_value
class Outgoing:
    """A request ready to be sent by POST."""

    url: str
    headers: tuple[tuple[str, str], ...]
    content: bytes
    warnings: tuple[str, ...] = ()


@frozen_value
class Whole:
    """A translated answer; `output_bytes` is the size of its text, for an estimate.

    `tier`: the service tier that served it, in OpenAI's words, where the provider says so.
    """

    body: bytes
    usage: Usage | None
    finish: tuple[str, ...]
    output_bytes: int
    tier: str | None = None


@frozen_value
class Refusal:
    """A translated error answer: what kind it is, its message, and its body in OpenAI's error form.

    `retry_after_s`: when to come back, where the body says so instead of a header.
    """

    kind: FailureKind
    message: str
    body: bytes
    retry_after_s: float | None = None


class StreamReader(Protocol):
    """Translates one stream; fed event by event, asked for the whole at the end."""

    @property
    def done(self) -> bool:
        """Whether nothing is missing if the stream ends here."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the stream's own end was seen, after which nothing can follow."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What was reported so far."""
        ...

    @property
    def output_bytes(self) -> int:
        """The size of the text received so far."""
        ...

    def feed(self, event: Event) -> list[bytes]:
        """Take one event and give the OpenAI chunks to hand out. Raises AdapterError."""
        ...

    def whole(self) -> Whole:
        """The assembled answer. Raises EmptyError."""
        ...


class Adapter(Protocol):
    """One wire format; `framing` is that of its streams."""

    framing: Framing

    def outgoing(self, call: Call, document: dict[str, Any]) -> Outgoing:
        """Translate the request; `document` is the parsed body and may be changed. Raises UntranslatableError."""
        ...

    def whole(self, call: Call, body: bytes, headers: Mapping[str, str], /) -> Whole:
        """Translate a success. Raises AdapterError."""
        ...

    def stream(self, call: Call, document: Mapping[str, Any]) -> StreamReader:
        """Begin to translate a stream; `document` is the caller's own request."""
        ...

    def refusal(self, status: int, body: bytes, headers: Mapping[str, str], /) -> Refusal:
        """Translate an answer with a status of 300 or more; never raises."""
        ...
