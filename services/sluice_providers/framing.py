"""How a stream's bytes become events: one framing a wire format, the parsing of each in its own module."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from sluice_platform.values import frozen_value
from sluice_providers.eventstream import EventStreamParser
from sluice_providers.ndjson import NdjsonParser
from sluice_providers.sse import Event, SseParser


class EventParser(Protocol):
    """Takes bytes however they are cut and gives the events that they complete."""

    def feed(self, chunk: bytes) -> Iterable[Event]:
        """Take the next bytes; every event is taken before the next call. Raises EventTooLargeError, or BrokenEventError."""
        ...


@frozen_value
class Framing:
    """What a stream of this form is asked for with (`accept`), what its content type holds, and its parser by limit (bytes)."""

    accept: str
    marks: tuple[str, ...]
    parser: Callable[[int], EventParser]

    def streamed(self, content_type: str) -> bool:
        """Whether an answer of this content type is such a stream."""
        return any(mark in content_type for mark in self.marks)


SSE: Final = Framing(
    accept="text/event-stream",
    marks=("event-stream",),
    parser=lambda limit: SseParser(limit=limit),
)

NDJSON: Final = Framing(
    accept="application/x-ndjson",
    marks=("ndjson",),
    parser=lambda limit: NdjsonParser(limit=limit),
)

EVENT_STREAM: Final = Framing(
    accept="application/vnd.amazon.eventstream",
    marks=("vnd.amazon.eventstream",),
    parser=lambda limit: EventStreamParser(limit=limit),
)
