"""Newline-delimited JSON: bytes in, one event a line out, however the bytes are cut."""

from sluice_providers.sse import Event, EventTooLargeError


class NdjsonParser:
    """An incremental parser; `limit` bounds one line, in bytes. What the end of the stream leaves unfinished is dropped."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._partial: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and give the lines that they complete. Raises EventTooLargeError."""
        head, newline, rest = chunk.partition(b"\n")
        self._keep(head)
        if not newline:
            return []
        lines = [b"".join(self._partial), *rest.split(b"\n")]
        self._partial, self._size = [], 0
        self._keep(lines.pop())
        return [Event(b"", line) for line in lines if line.strip()]

    def _keep(self, piece: bytes) -> None:
        self._partial.append(piece)
        self._size += len(piece)
        if self._size > self._limit:
            raise EventTooLargeError(f"a line of more than {self._limit} bytes")
