"""What a wire form of the mock is: the paths it answers, how it answers and how it refuses."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from aiohttp import web

from sluice_devstack.mock_provider.behaviour import Behaviour


class Answer(Protocol):
    """One answer in a form: `usage` as it reports it, its whole body, and its stream's pieces (none: it cannot stream)."""

    usage: dict[str, Any] | None

    def body(self) -> bytes:
        """The whole answer."""
        ...

    def events(self) -> Iterable[bytes]:
        """The stream's pieces in order, each as it goes over the wire."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as its form reads it: the model that it names, wherever it names it, and whether it wants a stream."""

    model: str
    operation: str
    streams: bool
    body: Mapping[str, Any]


class Form(Protocol):
    """One wire form. `stream_type` is the content type of its streams, `stream_error` an error in the middle of one."""

    stream_type: str
    stream_error: bytes

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """Read a POST; None: the path is none of this form's. Raises KeyError or TypeError for a body without a model."""
        ...

    def key(self, request: web.BaseRequest) -> str:
        """The API key that a request carries; empty: none."""
        ...

    def complaint(self, request: web.BaseRequest, asked: Asked) -> str | None:
        """What the provider would refuse about a request, or None."""
        ...

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, seq: int) -> Answer:
        """The answer under the model's name without its behaviour."""
        ...

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """The error body for a status; `code` replaces the usual code of that status."""
        ...


@runtime_checkable
class HeadedAnswer(Protocol):
    """An answer that says something in headers."""

    headers: dict[str, str]


@runtime_checkable
class HeadedErrors(Protocol):
    """A form whose errors have headers of their own."""

    def error_headers(self, status: int, code: str) -> dict[str, str]:
        """The headers of an error."""
        ...
