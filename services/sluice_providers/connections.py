"""Connections to providers: aiohttp's, that lose no answer to what comes behind it."""

import functools
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

_HEAD_END: Final = b"\r\n\r\n"
_SEAM: Final = len(_HEAD_END) - 1
"""Bytes of a head's end that may have come with an earlier read."""


class _Protocol(ResponseHandler):
    """aiohttp's, which forgets an answer whose head ended in one read with bytes that are no HTTP: a head's end goes
    in alone."""

    _seam = b""

    def data_received(self, data: bytes) -> None:
        """Take what was read. What follows a whole answer then leaves it whole and closes the connection."""
        start, ended = 0, False
        while self._payload is None or self._payload.is_eof():
            end = self._head_end(data, start)
            ended = end == len(data)
            if end < 0 or ended:
                break
            self._seam = b""
            super().data_received(data[start:end])
            start = end
        else:
            ended = True
        rest = data[start:]
        self._seam = b"" if ended else (self._seam + rest[-_SEAM:])[-_SEAM:]
        super().data_received(rest)

    def _head_end(self, data: bytes, start: int) -> int:
        """Where the head that is being read ends; -1 where it does not yet."""
        seam = self._seam
        at = (seam + data[start : start + _SEAM]).find(_HEAD_END) if seam else -1
        if at >= 0:
            return start + at + len(_HEAD_END) - len(seam)
        at = data.find(_HEAD_END, start)
        return -1 if at < 0 else at + len(_HEAD_END)


class Connector(aiohttp.TCPConnector):
    """One whose connections speak so."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._factory = cast("Any", functools.partial(_Protocol, loop=self._loop))
