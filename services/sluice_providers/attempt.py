"""What is known of one provider call so far, and the `Answer` that becomes of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
import structlog

from sluice_core.jobs.fates import FailureKind, fate
from sluice_core.usage.model import Usage
from sluice_core.usage.policy import estimate
from sluice_providers.adapter import (
    Adapter,
    EmptyError,
    MalformedError,
    Outgoing,
    ReportedError,
    StreamReader,
    UntranslatableError,
    Whole,
)
from sluice_providers.errors import error_body, hide_key, retry_after_s
from sluice_providers.faults import ExchangeError, place
from sluice_providers.framing import EventParser
from sluice_providers.http import header_text
from sluice_providers.port import Answer, Call
from sluice_providers.quota import exhausted_s
from sluice_providers.registry import adapter_for
from sluice_providers.sse import BrokenEventError, EventTooLargeError

OnChunks = Callable[[list[bytes]], None]
_ERROR_BYTES = 1024 * 1024
_REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "apim-request-id")
_FAILURES: tuple[tuple[type[Exception], FailureKind], ...] = (
    (EmptyError, FailureKind.EMPTY),
    (EventTooLargeError, FailureKind.TOO_LARGE),
    (BrokenEventError, FailureKind.MALFORMED),
    (MalformedError, FailureKind.MALFORMED),
)

_log = structlog.stdlib.get_logger(__name__)


class TooLargeError(Exception):
    """The answer went over its limit."""


class Attempt:
    """What is known of one call so far; the transport pushes the answer into it."""

    def __init__(self, call: Call, on_chunks: OnChunks | None) -> None:
        self._call = call
        self._on_chunks = on_chunks
        self._adapter: Adapter
        self._request: Mapping[str, Any] = {}
        self._started = time.monotonic()
        self._first_byte_ms: int | None = None
        self._status: int | None = None
        self._headers: Mapping[str, str] = {}
        self._pieces: list[bytes] = []
        self._size = 0
        self._refused = False
        self._limit = call.answer_bytes_limit
        self._parser: EventParser | None = None
        self._reader: StreamReader | None = None
        self._deltas = 0
        self._sent = False
        self._warnings: tuple[str, ...] = ()

    # --- out

    def prepare(self) -> Outgoing:
        """Translate the request and add the headers that every provider gets."""
        call = self._call
        self._adapter = adapter_for(call.target.kind)
        try:
            self._request = dict(orjson.loads(call.body))
        except (TypeError, ValueError) as exc:
            raise UntranslatableError("body", "is not a JSON object") from exc
        outgoing = self._adapter.outgoing(call, dict(self._request))
        self._warnings = outgoing.warnings
        common = [
            ("content-type", "application/json"),
            ("accept", self._adapter.framing.accept if call.stream else "application/json"),
            ("user-agent", "sluicegate"),
            ("x-sluice-attempt", f"{call.job_id}/{call.attempt}"),
        ]
        if call.traceparent:
            common.append(("traceparent", call.traceparent))
        return Outgoing(
            url=outgoing.url, headers=(*outgoing.headers, *common), content=outgoing.content
        )

    # --- in: the sink

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The status is there: a stream if both sides mean one."""
        self._status, self._headers = status, headers
        if status >= 300:
            self._refused = True
            self._limit = min(self._limit, _ERROR_BYTES)
        self._first_byte_ms = self._elapsed_ms()
        framing = self._adapter.framing
        streamed = framing.streamed(headers.get("content-type", ""))
        if self._call.stream and status < 300 and streamed:
            self._parser = framing.parser(self._call.answer_bytes_limit)
            self._reader = self._adapter.stream(self._call, self._request)

    def data(self, chunk: bytes) -> bool:
        """Take body bytes; a stream's chunks go out at once."""
        self._size += len(chunk)
        if self._size > self._limit:
            if self._refused:
                return False
            raise TooLargeError
        if self._parser is None or self._reader is None:
            self._pieces.append(chunk)
            return True
        self._translate(self._parser, self._reader, chunk)
        return not self._reader.ended

    def _translate(self, parser: EventParser, reader: StreamReader, chunk: bytes) -> None:
        chunks: list[bytes] = []
        try:
            for event in parser.feed(chunk):
                if reader.ended:
                    break  # what follows a stream's end in the same read is no part of it
                chunks += reader.feed(event)
        finally:
            # What came before an error in the same read has been delivered all the same.
            if chunks and self._on_chunks is not None:
                self._on_chunks(chunks)
                self._deltas += len(chunks)

    # --- the end

    def finish(self) -> Answer:
        """The exchange ended by itself."""
        if self._refused:
            return self._refusal()
        if self._reader is not None and not self._reader.done:
            return self._cut("the stream ended before its end")
        try:
            if self._reader is not None:
                whole = self._reader.whole()
            else:
                whole = self._adapter.whole(self._call, b"".join(self._pieces), self._headers)
        except ReportedError as exc:
            return self.reported(exc)
        except (EmptyError, MalformedError) as exc:
            return self.unreadable(exc)
        return self._succeeded(whole)

    def _succeeded(self, whole: Whole) -> Answer:
        usage = whole.usage or self._estimate(whole.output_bytes)
        return self._answer(
            usage=usage,
            reported=whole.usage is not None,
            body=whole.body,
            finish=whole.finish,
            tier=whole.tier,
        )

    def _refusal(self) -> Answer:
        assert self._status is not None
        body = self._hide_key(b"".join(self._pieces))
        refusal = self._adapter.refusal(self._status, body, self._headers)
        return self._answer(
            refusal.kind,
            refusal.message,
            body=refusal.body,
            retry_after=retry_after_s(self._headers, now=time.time()) or refusal.retry_after_s,
        )

    def _hide_key(self, body: bytes) -> bytes:
        """A provider that quotes the key in its error must not carry it into results."""
        return hide_key(body, self._call.api_key)

    def untranslatable(self, exc: UntranslatableError) -> Answer:
        """The request cannot be said in the provider's format, so it was not sent."""
        body = error_body(str(exc), kind="invalid_request_error", param=exc.param)
        # As every other message on a record names it.
        param = exc.param if exc.param in {"body", "url"} else f"body.{exc.param}"
        answer = self._answer(FailureKind.UNTRANSLATABLE, str(exc), body=body)
        return replace(answer, param=param)

    def note(self, event: str, exc: BaseException) -> None:
        """Log a defect of ours."""
        call = self._call
        _log.error(event, job_id=str(call.job_id), attempt=call.attempt, defect=place(exc))

    def defective(self) -> Answer:
        """Our own code failed once the request had left; a refusal is one all the same."""
        self._sent = True
        # The others may be what it failed on.
        self._headers = {
            name: self._headers[name] for name in _REQUEST_IDS if name in self._headers
        }
        if self._refused:
            return self._answer(FailureKind.STATUS_ERROR, f"the provider answered {self._status}")
        return self._answer(FailureKind.DEFECT, "the gateway failed on this answer")

    def broken(self, error: ExchangeError) -> Answer:
        """The exchange ended early."""
        self._sent = error.sent
        if self._refused:
            return self._refusal()
        if error.kind is not FailureKind.CUT_AFTER_STATUS:
            return self.failed(error.kind, str(error))
        if self._reader is not None and self._reader.done:
            return self.finish()
        return self._cut(str(error))

    def _cut(self, message: str) -> Answer:
        if self._reader is None:
            return self.failed(FailureKind.CUT_AFTER_STATUS, message)
        if self._deltas:
            return self.failed(FailureKind.STREAM_CUT_AFTER_DELTA, message)
        return self.failed(FailureKind.STREAM_CUT_BEFORE_DELTA, message)

    def reported(self, exc: ReportedError) -> Answer:
        """A 2xx answer carried an error."""
        kind = exc.kind or FailureKind.IN_STREAM_ERROR_BEFORE_DELTA
        if self._deltas:
            kind = FailureKind.IN_STREAM_ERROR_AFTER_DELTA
        message = self._hide_key(str(exc).encode(errors="replace")).decode(errors="replace")
        body = self._hide_key(exc.body)
        if exc.usage is not None:
            return self._answer(kind, message, body=body, usage=exc.usage, reported=True)
        return self.failed(kind, message, body=body)

    def unreadable(self, exc: Exception) -> Answer:
        """The answer cannot be read; once deltas are out, that is a broken stream."""
        if self._deltas:
            return self.failed(FailureKind.STREAM_CUT_AFTER_DELTA, str(exc))
        kind = next(kind for error, kind in _FAILURES if isinstance(exc, error))
        return self.failed(kind, str(exc))

    def failed(self, kind: FailureKind, message: str, *, body: bytes | None = None) -> Answer:
        """A failure; once a 2xx had begun, its usage is what was reported, or else an estimate."""
        if self._status is None or self._refused:
            return self._answer(kind, message, body=body)
        reader = self._reader
        usage = None if reader is None else reader.usage
        guess = self._estimate(self._size if reader is None else reader.output_bytes)
        if usage is None:
            return self._answer(kind, message, body=body, usage=guess)
        # Counters that came before the end say what went in, but not yet what came out.
        if usage.output_tokens < guess.output_tokens:
            usage = replace(usage, output_tokens=guess.output_tokens)
            return self._answer(kind, message, body=body, usage=usage)
        reported = reader is not None and reader.done
        return self._answer(kind, message, body=body, usage=usage, reported=reported)

    def _estimate(self, output_bytes: int) -> Usage:
        return estimate(self._request, output_bytes=output_bytes)

    def _request_id(self) -> str | None:
        for name in _REQUEST_IDS:
            value = self._headers.get(name)
            if value is not None:
                return header_text(value)
        return None

    def _elapsed_ms(self) -> int:
        return int((time.monotonic() - self._started) * 1000)

    def _answer(
        self,
        failure: FailureKind | None = None,
        message: str = "",
        *,
        body: bytes | None = None,
        usage: Usage | None = None,
        reported: bool = False,
        finish: tuple[str, ...] = (),
        retry_after: float | None = None,
        tier: str | None = None,
    ) -> Answer:
        return Answer(
            failure=failure,
            code=None if failure is None else fate(failure, status=self._status).code,
            message=message,
            status=self._status,
            request_id=self._request_id(),
            body=body,
            usage=usage,
            usage_source="reported" if reported else "estimated",
            retry_after_s=retry_after,
            deltas=self._deltas,
            sent=self._sent or self._status is not None,
            provider_ms=self._elapsed_ms(),
            first_byte_ms=self._first_byte_ms,
            finish=finish,
            warnings=self._warnings,
            exhausted_s=exhausted_s(self._headers, now=time.time()),
            tier=tier,
        )
