"""Server-sent events: bytes in, events out, however the bytes are cut.

Follows the WHATWG HTML standard, section 9.2.6, but for two things: `id` and `retry` are not kept, and an event
that the end of the stream leaves unfinished is dropped (as there).
"""

from typing import NamedTuple

_LF, _CR = 0x0A, 0x0D
_BOM = b"\xef\xbb\xbf"


class EventTooLargeError(ValueError):
    """One event has more bytes than allowed."""


class BrokenEventError(ValueError):
    """The bytes are no event in the framing."""


class Event(NamedTuple):
    """One event: its type (empty where not named) and its data lines joined by line feeds."""

    kind: bytes
    data: bytes


class SseParser:
    """An incremental parser; `limit` bounds one event, in bytes."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._partial: list[bytes] = []
        self._partial_size = 0
        self._data_size = 0
        self._kind = b""
        self._data: list[bytes] = []
        self._after_cr = False
        self._started = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and give the events that they complete. Raises EventTooLargeError."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == _LF:
                chunk = chunk[1:]
        if not chunk:
            return []
        if (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and chunk.count(b"\n") == 2
            and b"\r" not in chunk
            and not (self._partial or self._data or self._kind)
        ):
            # One whole event of one line, which is how nearly all come.
            self._started = True
            return [Event(b"", chunk[6:-2])]
        if b"\n" not in chunk and b"\r" not in chunk:
            self._partial.append(chunk)
            self._partial_size += len(chunk)
            self._check()
            return []
        lines = (b"".join(self._partial) + chunk).splitlines(keepends=True)
        last = lines[-1][-1]
        self._partial = [] if last in {_LF, _CR} else [lines.pop()]
        self._partial_size = len(self._partial[0]) if self._partial else 0
        self._after_cr = last == _CR
        return self._take(lines)

    def _take(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        if not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(_BOM)
        for ended in lines:
            line = ended.rstrip(b"\r\n")
            if not line:
                if self._data:
                    events.append(Event(self._kind, b"\n".join(self._data)))
                self._kind, self._data, self._data_size = b"", [], 0
            else:
                self._field(line)
        self._check()
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_size += len(value)
        elif name == b"event":
            self._kind = value

    def _check(self) -> None:
        if self._partial_size + self._data_size > self._limit:
            raise EventTooLargeError(f"an event of more than {self._limit} bytes")
