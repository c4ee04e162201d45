"""AWS's binary event streams (`application/vnd.amazon.eventstream`): bytes in, events out, however the bytes are cut.

A message is its length, its headers' length and a CRC of both, then headers and payload, then a CRC of it all. An
event's kind is its `:event-type`; that of an exception begins with `!`.
"""

import binascii
import struct
from collections.abc import Iterator
from typing import Final

import orjson

from sluice_providers.sse import BrokenEventError, Event, EventTooLargeError

_PRELUDE: Final = struct.Struct(">III")
_CRC: Final = struct.Struct(">I")
_STRING: Final = 7
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of the values of a fixed size, by type; the others (bytes and strings) say theirs."""


class EventStreamParser:
    """An incremental parser; `limit` bounds one message, in bytes."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes and give the events that they complete, those before a broken one too.

        Raises EventTooLargeError, BrokenEventError.
        """
        self._buffer += chunk
        while len(self._buffer) >= _PRELUDE.size:
            size = self._size()
            if len(self._buffer) < size:
                return
            message = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield _event(message)

    def _size(self) -> int:
        size, headers, checksum = _PRELUDE.unpack_from(self._buffer)
        if binascii.crc32(self._buffer[:8]) != checksum:
            raise BrokenEventError("the checksum of a message's length is wrong")
        if size < _PRELUDE.size + headers + _CRC.size:
            raise BrokenEventError("a message is shorter than its headers")
        if size > self._limit:
            raise EventTooLargeError(f"a message of more than {self._limit} bytes")
        return int(size)


def _event(message: bytes) -> Event:
    (checksum,) = _CRC.unpack(message[-_CRC.size :])
    if binascii.crc32(message[: -_CRC.size]) != checksum:
        raise BrokenEventError("the checksum of a message is wrong")
    end = _PRELUDE.size + _PRELUDE.unpack_from(message)[1]
    headers = _headers(message[_PRELUDE.size : end])
    payload = message[end : -_CRC.size]
    match headers.get(":message-type"):
        case b"exception":
            return Event(b"!" + headers.get(":exception-type", b""), payload)
        case b"error":
            said = headers.get(":error-message", b"").decode(errors="replace")
            return Event(b"!" + headers.get(":error-code", b""), orjson.dumps({"message": said}))
    return Event(headers.get(":event-type", b""), payload)


def _headers(block: bytes) -> dict[str, bytes]:
    """The headers that are strings."""
    found: dict[str, bytes] = {}
    place = 0
    try:
        while place < len(block):
            end = place + 1 + block[place]
            name, kind = block[place + 1 : end].decode(), block[end]
            place = end + 1
            size = _SIZES.get(kind)
            if size is None:
                (size,) = struct.unpack_from(">H", block, place)
                place += 2
            if place + size > len(block):
                raise BrokenEventError("a message's header ends behind its headers")
            if kind == _STRING:
                found[name] = block[place : place + size]
            place += size
    except (IndexError, UnicodeDecodeError, struct.error) as exc:
        raise BrokenEventError("a message's headers cannot be read") from exc
    return found
