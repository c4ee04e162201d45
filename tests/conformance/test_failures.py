"""Every way a call can fail, made by a real fault and told apart."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import orjson
import pytest
from tests.conformance.driver import Calls, Mock
from tests.waiting import eventually

from sluice_core.jobs.fates import FailureKind
from sluice_providers.calls import call
from sluice_providers.http import Transport
from sluice_schemas.errors import ErrorCode

STREAM_START = {"openai": 3, "anthropic": 5, "azure": 4}
"""After how many of the mock's events something has been handed out."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "kind", "code"),
    [
        ("status=400", FailureKind.STATUS_ERROR, ErrorCode.PROVIDER_ERROR),
        (
            "status=400,code=context_length_exceeded",
            FailureKind.CONTEXT_LENGTH,
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        ),
        ("status=401", FailureKind.KEY_REFUSED, ErrorCode.PROVIDER_AUTH),
        ("status=402", FailureKind.OUT_OF_FUNDS, ErrorCode.PROVIDER_AUTH),
        ("status=403", FailureKind.STATUS_ERROR, ErrorCode.PROVIDER_AUTH),
        ("status=404", FailureKind.STATUS_ERROR, ErrorCode.PROVIDER_ERROR),
        ("status=429", FailureKind.STATUS_ERROR, ErrorCode.PROVIDER_RATE_LIMITED),
        ("status=500", FailureKind.STATUS_ERROR, ErrorCode.PROVIDER_UNAVAILABLE),
        ("status=503", FailureKind.STATUS_ERROR, ErrorCode.PROVIDER_UNAVAILABLE),
        ("status=504", FailureKind.STATUS_ERROR, ErrorCode.PROVIDER_TIMEOUT),
        ("status=529", FailureKind.STATUS_ERROR, ErrorCode.PROVIDER_UNAVAILABLE),
    ],
)
async def test_statuses(
    calls: Calls, stream: bool, behaviour: str, kind: FailureKind, code: ErrorCode
) -> None:
    answer = await calls(stream=stream, behaviour=behaviour)
    assert (answer.failure, answer.code) == (kind, code)
    assert answer.status == int(behaviour[7:10])
    assert answer.usage is None
    assert answer.sent
    error = orjson.loads(answer.body or b"")["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == answer.message != ""


async def test_content_policy(openai_calls: Calls) -> None:
    answer = await openai_calls(behaviour="status=400,code=content_filter")
    assert (answer.failure, answer.code) == (FailureKind.CONTENT_POLICY, ErrorCode.CONTENT_FILTERED)


async def test_an_account_without_funds_is_told_from_one_that_asks_too_much(
    openai_calls: Calls,
) -> None:
    spent = await openai_calls(behaviour="status=429,code=insufficient_quota")
    assert (spent.failure, spent.code) == (FailureKind.OUT_OF_FUNDS, ErrorCode.PROVIDER_AUTH)
    busy = await openai_calls(behaviour="status=429,code=rate_limit_exceeded")
    assert busy.failure is FailureKind.STATUS_ERROR


@pytest.mark.parametrize(
    ("text", "low", "high"), [("7", 7, 7), ("ms:1500", 1.5, 1.5), ("date:60", 50, 61)]
)
async def test_retry_after(calls: Calls, text: str, low: float, high: float) -> None:
    answer = await calls(behaviour=f"status=429,retry_after={text}")
    assert answer.retry_after_s is not None
    assert low <= answer.retry_after_s <= high


@pytest.mark.parametrize("stream", [False, True])
async def test_no_status_is_unknown(calls: Calls, stream: bool) -> None:
    hung = await calls(stream=stream, behaviour="fault=hang", first_byte_timeout_s=0.2)
    assert (hung.failure, hung.code) == (FailureKind.TIMEOUT_NO_STATUS, ErrorCode.OUTCOME_UNKNOWN)
    reset = await calls(stream=stream, behaviour="fault=cut_before_status")
    assert (reset.failure, reset.code) == (FailureKind.RESET_NO_STATUS, ErrorCode.OUTCOME_UNKNOWN)
    assert reset.message == "the connection ended before an answer"
    for answer in (hung, reset):
        assert answer.sent
        assert (answer.status, answer.usage, answer.body) == (None, None, None)


async def test_a_kept_connection_that_dies_is_not_called_again(
    openai_calls: Calls, mock: Mock
) -> None:
    assert (await openai_calls()).failure is None
    answer = await openai_calls(behaviour="fault=cut_before_status")
    assert answer.failure is FailureKind.RESET_NO_STATUS
    assert mock.counts()[f"{openai_calls.job}/1"] == 1


async def test_whole_answers_that_break(calls: Calls) -> None:
    for behaviour, kind in (
        ("fault=cut_body", FailureKind.CUT_AFTER_STATUS),
        ("fault=malformed", FailureKind.MALFORMED),
        ("fault=wrong_type", FailureKind.MALFORMED),
        ("fault=empty", FailureKind.EMPTY),
    ):
        answer = await calls(behaviour=behaviour)
        assert answer.failure is kind, behaviour
        if kind is FailureKind.CUT_AFTER_STATUS:
            assert answer.message == "the answer's body was cut short"
        assert answer.code is ErrorCode.PROVIDER_INVALID_RESPONSE
        assert answer.usage is not None
        assert answer.usage.input_tokens >= 3
        assert answer.usage.output_tokens >= 1
        assert answer.usage_source == "estimated"


@pytest.mark.parametrize("stream", [False, True])
async def test_too_large(calls: Calls, stream: bool) -> None:
    answer = await calls(stream=stream, behaviour="size=2mb", limit=1_000_000)
    assert (answer.failure, answer.code) == (FailureKind.TOO_LARGE, ErrorCode.TOO_LARGE)
    assert answer.body is None
    assert answer.usage is not None
    assert answer.usage.output_tokens > 100_000


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize(
    ("fault", "before", "after"),
    [
        ("cut_stream", FailureKind.STREAM_CUT_BEFORE_DELTA, FailureKind.STREAM_CUT_AFTER_DELTA),
        ("malformed", FailureKind.MALFORMED, FailureKind.STREAM_CUT_AFTER_DELTA),
        ("empty", FailureKind.STREAM_CUT_BEFORE_DELTA, FailureKind.STREAM_CUT_AFTER_DELTA),
        (
            "stream_error",
            FailureKind.IN_STREAM_ERROR_BEFORE_DELTA,
            FailureKind.IN_STREAM_ERROR_AFTER_DELTA,
        ),
    ],
)
async def test_streams_that_break(
    calls: Calls, started: bool, fault: str, before: FailureKind, after: FailureKind
) -> None:
    events = STREAM_START[calls.kind] if started else 0
    answer = await calls(stream=True, behaviour=f"fault={fault},after={events}")
    assert answer.failure is (after if started else before)
    assert bool(answer.deltas) is started
    assert answer.deltas == len(calls.chunks)
    assert answer.status == 200
    assert answer.usage is not None
    assert answer.usage.input_tokens >= 3
    assert answer.usage_source == "estimated"
    if fault == "stream_error":
        assert "error" in orjson.loads(answer.body or b"")
    if started:
        assert answer.code is ErrorCode.STREAM_INTERRUPTED


async def test_a_stream_that_pauses_too_long(calls: Calls) -> None:
    answer = await calls(stream=True, behaviour="chunk_delay=5s", between_chunks_timeout_s=0.2)
    # Azure's first event says only what its filter found, and waits for the next.
    azure = calls.kind == "azure"
    assert answer.failure is (
        FailureKind.STREAM_CUT_BEFORE_DELTA if azure else FailureKind.STREAM_CUT_AFTER_DELTA
    )


async def test_the_deadline_ends_a_call(calls: Calls) -> None:
    answer = await calls(behaviour="fault=hang", deadline=0.2)
    assert (answer.failure, answer.code) == (FailureKind.DEADLINE, ErrorCode.DEADLINE_EXCEEDED)
    assert answer.sent


async def test_the_total_timeout_ends_a_slow_stream(calls: Calls) -> None:
    answer = await calls(stream=True, behaviour="words=500,chunk_delay=20ms", total_timeout_s=0.3)
    assert answer.failure is FailureKind.STREAM_CUT_AFTER_DELTA


async def test_cancelling_closes_the_connection(calls: Calls, mock: Mock) -> None:
    task = asyncio.create_task(
        call(calls.build(behaviour="fault=hang"), transport=calls.transport, on_chunks=None)
    )
    job = f"{calls.job}/1"
    await eventually(lambda: [row["outcome"] for row in mock.requests(job)] == ["pending"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: [row["outcome"] for row in mock.requests(job)] == ["client_gone"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_what_never_left_costs_nothing(calls: Calls, mock: Mock) -> None:
    for base_url, kind, message in (
        (
            "http://does-not-exist.invalid/v1",
            FailureKind.DNS_FAILED,
            "the name of the provider's host cannot be resolved",
        ),
        (
            f"http://127.0.0.1:{_free_port()}/v1",
            FailureKind.CONNECT_FAILED,
            "the provider's host cannot be connected to",
        ),
        (
            mock.url.replace("http://", "https://"),
            FailureKind.TLS_FAILED,
            "no secure connection to the provider's host can be made",
        ),
    ):
        answer = await calls(base_url=base_url)
        assert (answer.failure, answer.code) == (kind, ErrorCode.PROVIDER_UNAVAILABLE)
        assert answer.message == message
        assert not answer.sent
        assert answer.usage is None


@contextlib.asynccontextmanager
async def _half_reader(*, reset: bool) -> AsyncIterator[str]:
    """A server that takes a little of a request, then resets the connection or reads no more."""
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        if reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await release.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        release.set()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_request_that_left_in_part(calls: Calls, reset: bool) -> None:
    async with _half_reader(reset=reset) as base_url:
        answer = await calls(base_url=base_url, prompt="x" * 30_000_000, first_byte_timeout_s=0.5)
    assert (answer.failure, answer.code) == (FailureKind.NOT_SENT, ErrorCode.PROVIDER_UNAVAILABLE)
    if reset:
        assert answer.message == "the connection ended before the whole request was sent"
    assert not answer.sent
    assert answer.usage is None


async def test_waiting_for_a_pooled_connection_counts_as_connecting(mock: Mock) -> None:
    async with Transport(connections=1) as small:
        calls = Calls(small, "openai", f"{mock.url}/v1")
        hung = asyncio.create_task(
            call(calls.build(behaviour="fault=hang"), transport=small, on_chunks=None)
        )
        job = f"{calls.job}/1"
        await eventually(lambda: bool(mock.requests(job)))
        answer = await calls(connect_timeout_s=0.2)
        assert answer.failure is FailureKind.CONNECT_FAILED
        hung.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hung


async def test_what_anthropic_cannot_say_is_named_and_not_sent(
    transport: Transport, mock: Mock
) -> None:
    calls = Calls(transport, "anthropic", mock.url)
    answer = await calls(body={"n": 2})
    assert (answer.failure, answer.code) == (FailureKind.UNTRANSLATABLE, ErrorCode.INVALID_RECORD)
    assert answer.param == "body.n"
    assert orjson.loads(answer.body or b"")["error"]["param"] == "n"
    assert not answer.sent
    embeddings = await calls(operation="embeddings", body={"input": "x"})
    assert (embeddings.failure, embeddings.param) == (FailureKind.UNTRANSLATABLE, "url")


@pytest.mark.parametrize("quoted", [b"sk-secret", rb"\u0073k\u002Dsecret"])
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 401 No\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n",
    ],
)
async def test_a_provider_that_quotes_the_key_does_not_leak_it(
    openai_calls: Calls, head: bytes, quoted: bytes
) -> None:
    streamed = b"event-stream" in head
    body = b'{"error": {"message": "bad key %b", "type": "x", "param": null, "code": null}}'
    body = (b"data: %b\n\n" if streamed else b"%b") % (body % quoted)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await openai_calls(base_url=f"http://127.0.0.1:{port}/v1", stream=streamed)
    assert answer.failure is not None
    assert orjson.loads(answer.body or b"")["error"]["message"] == "bad key [key]"
    assert answer.message == "bad key [key]"


async def test_a_server_that_answers_a_stream_whole_is_understood(openai_calls: Calls) -> None:
    content = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head % len(content) + content)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await openai_calls(stream=True, base_url=f"http://127.0.0.1:{port}/v1")
    assert (answer.failure, answer.deltas, answer.finish) == (None, 0, ("stop",))
    assert answer.usage_source == "estimated"
