"""The HTTP seam before servers that are unusual, in ways that real ones are."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest
import structlog
from tests.conformance.driver import Calls

from sluice_core.jobs.fates import FailureKind
from sluice_providers.calls import call
from sluice_schemas.errors import ErrorCode


@contextlib.asynccontextmanager
async def _answering(answer: bytes) -> AsyncIterator[str]:
    """A server that reads a request's head, says `answer`, and then ends its side."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.write_eof()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


WHOLE = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'


async def test_a_refusal_before_the_request_was_taken_whole_counts(openai_calls: Calls) -> None:
    refusal = b"HTTP/1.1 413 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    async with _answering(refusal) as base_url:
        answer = await openai_calls(base_url=base_url, prompt="x" * 30_000_000)
    assert (answer.failure, answer.status) == (FailureKind.STATUS_ERROR, 413)


async def test_an_answer_compressed_unasked_is_read(openai_calls: Calls) -> None:
    content = gzip.compress(WHOLE)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(content)
    async with _answering(head + content) as base_url:
        answer = await openai_calls(base_url=base_url)
    assert (answer.failure, answer.finish) == (None, ("stop",))
    async with _answering(head + content[:-9]) as base_url:
        answer = await openai_calls(base_url=base_url)
    assert answer.failure is FailureKind.CUT_AFTER_STATUS


async def test_early_hints_are_no_answer(openai_calls: Calls) -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nx-request-id: \xe9\r\ncontent-length: %d\r\n\r\n" % len(WHOLE)
    async with _answering(hints + head + WHOLE) as base_url:
        answer = await openai_calls(base_url=base_url)
    assert (answer.failure, answer.finish, answer.request_id) == (None, ("stop",), "é")


async def test_what_is_no_http_is_no_answer(openai_calls: Calls) -> None:
    for garbage in (b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n"):
        async with _answering(garbage) as base_url:
            answer = await openai_calls(base_url=base_url)
        assert (answer.failure, answer.status) == (FailureKind.RESET_NO_STATUS, None)
        assert answer.sent


async def test_a_body_that_only_its_end_delimits(openai_calls: Calls) -> None:
    async with _answering(b"HTTP/1.1 200 OK\r\n\r\n" + WHOLE) as base_url:
        answer = await openai_calls(base_url=base_url)
    assert (answer.failure, answer.finish) == (None, ("stop",))


async def test_a_header_of_two_lines_is_not_sent(openai_calls: Calls) -> None:
    async with _answering(b"") as base_url:
        answer = await call(
            replace(openai_calls.build(base_url=base_url), traceparent="00\r\nx: y"),
            transport=openai_calls.transport,
            on_chunks=None,
        )
    assert (answer.failure, answer.code) == (FailureKind.UNPREPARED, ErrorCode.INTERNAL)
    assert (answer.sent, answer.status, answer.usage) == (False, None, None)


@pytest.mark.parametrize("wrong", [{"kind": "smoke-signals"}, {"base_url": "http://[::1"}])
async def test_a_request_that_our_own_code_fails_to_make_is_not_sent(
    openai_calls: Calls, wrong: dict[str, str]
) -> None:
    made = openai_calls.build(base_url="http://127.0.0.1:1/v1")
    with structlog.testing.capture_logs() as logs:
        answer = await call(
            replace(made, target=replace(made.target, **wrong)),  # type: ignore[arg-type]
            transport=openai_calls.transport,
            on_chunks=None,
        )
    assert (answer.failure, answer.code) == (FailureKind.UNPREPARED, ErrorCode.INTERNAL)
    assert (answer.sent, answer.status, answer.usage) == (False, None, None)
    assert answer.message == "the gateway failed before the request was sent"
    ((event, job),) = [(entry["event"], entry["job_id"]) for entry in logs]
    assert (event, job) == ("call.unprepared", str(made.job_id))
    assert "smoke" not in str(logs)


async def test_a_defect_once_the_request_has_left_raises_nothing(openai_calls: Calls) -> None:
    def fail(_chunks: list[bytes]) -> None:
        raise RuntimeError("what the prompt was")

    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\nx-request-id: req-7\r\ncontent-type: text/event-stream\r\n\r\n"
    async with _answering(head + chunk) as base_url:
        with structlog.testing.capture_logs() as logs:
            answer = await call(
                openai_calls.build(base_url=base_url, stream=True),
                transport=openai_calls.transport,
                on_chunks=fail,
            )
    assert (answer.failure, answer.code) == (FailureKind.DEFECT, ErrorCode.INTERNAL)
    assert (answer.sent, answer.status, answer.request_id) == (True, 200, "req-7")
    assert [entry["event"] for entry in logs] == ["call.defect"]
    assert "prompt" not in str(logs)


async def test_an_encoding_that_cannot_be_undone_is_an_answer_cut_short(
    openai_calls: Calls,
) -> None:
    garbage = b"\x1f\x8bno gzip at all"
    head = b"HTTP/1.1 %s\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    async with _answering(head % (b"200 OK", len(garbage)) + garbage) as base_url:
        answer = await openai_calls(base_url=base_url)
    assert (answer.failure, answer.status) == (FailureKind.CUT_AFTER_STATUS, 200)
    async with _answering(head % (b"503 Busy", len(garbage)) + garbage) as base_url:
        answer = await openai_calls(base_url=base_url)
    assert (answer.failure, answer.status) == (FailureKind.STATUS_ERROR, 503)


async def test_what_a_server_says_unasked_answers_nobody(openai_calls: Calls) -> None:
    def response(text: bytes) -> bytes:
        content = WHOLE.replace(b"hi", text)
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content

    more = asyncio.Event()
    said = asyncio.Event()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"asked"))
        await more.wait()
        writer.write(response(b"somebody else's"))
        said.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        first = await openai_calls(base_url=base_url)
        more.set()
        await said.wait()
        for _ in range(100):  # what was said has to cross the socket
            await asyncio.sleep(0)
        second = await openai_calls(base_url=base_url)
    for answer in (first, second):
        assert answer.body is not None
        assert b'"asked"' in answer.body
    assert connections == 2


@pytest.mark.parametrize("hints", [b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"])
@pytest.mark.parametrize("extra", [b"\x00garbage", b"<html>", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n"])
async def test_bytes_after_a_whole_answer_leave_it_whole_and_end_the_connection(
    openai_calls: Calls, extra: bytes, hints: bytes
) -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(WHOLE), WHOLE),
        b"HTTP/1.1 503 Busy\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n",
    ]
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        await reader.readuntil(b"\r\n\r\n")
        writer.write(hints + answers[connections] + extra)
        connections += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        first = await openai_calls(base_url=base_url)
        second = await openai_calls(base_url=base_url)
    assert (first.failure, first.status, first.finish) == (None, 200, ("stop",))
    assert (second.failure, second.status) == (FailureKind.STATUS_ERROR, 503)
    assert second.retry_after_s == 3
    assert connections == 2


@pytest.mark.parametrize("cut", [1, 2, 3])
async def test_a_head_that_is_cut_within_its_end_is_read_all_the_same(
    openai_calls: Calls, cut: int
) -> None:
    answers = [
        (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(WHOLE), WHOLE + b"\x00garbage"),
        (b"HTTP/1.1 503 Busy\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n", b"<html>"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"\x00garbage"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"\x00garbage"),
    ]
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        head, rest = answers[connections]
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head[:-cut])
        for _ in range(100):  # the two parts must be two reads
            await asyncio.sleep(0)
        writer.write(head[-cut:] + rest)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        whole, refused, short, broken = [
            await openai_calls(
                base_url=base_url, first_byte_timeout_s=1.0, between_chunks_timeout_s=1.0
            )
            for _ in answers
        ]
    assert (whole.failure, whole.status, whole.finish) == (None, 200, ("stop",))
    assert (refused.failure, refused.status) == (FailureKind.STATUS_ERROR, 503)
    assert refused.retry_after_s == 3
    assert (short.failure, short.status) == (FailureKind.MALFORMED, 200)
    assert (broken.failure, broken.status) == (FailureKind.CUT_AFTER_STATUS, 200)
    assert connections == len(answers)


async def test_what_follows_the_end_of_a_stream_is_no_part_of_it(openai_calls: Calls) -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":"stop"}]}\n\n'
    stream = chunk % b"in time" + b"data: [DONE]\n\n" + chunk % b"too late"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with _answering(head + stream) as base_url:
        answer = await openai_calls(base_url=base_url, stream=True)
    assert answer.failure is None
    assert answer.body is not None
    assert b"in time" in answer.body
    assert b"too late" not in answer.body


@pytest.mark.parametrize(
    ("tools", "wrong"),
    [
        ([{"type": "function"}], "lacks a field"),
        ([7], "is of another kind than expected"),
    ],
)
async def test_a_request_that_translation_falls_over_is_refused_in_plain_words(
    openai_calls: Calls, tools: list[object], wrong: str
) -> None:
    made = openai_calls.build(base_url="http://127.0.0.1:1/v1")
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": tools}
    answer = await call(
        replace(made, body=orjson.dumps(body), target=replace(made.target, kind="anthropic")),
        transport=openai_calls.transport,
        on_chunks=None,
    )
    assert (answer.failure, answer.param) == (FailureKind.UNTRANSLATABLE, "body")
    assert answer.message == f"body: is not a valid chat request: a part of it {wrong}"
