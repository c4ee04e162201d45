"""The mock provider's process: one low-level HTTP handler, so that benchmarks measure the gateway and not the mock.

A request is treated by the first rule that fires, then its model's suffix (`gpt-4o-mini@latency=60ms`), then its
`x-mock` header; each overrides the one before, key by key. See `behaviour.Behaviour` for the keys and `answers` for
the token formula. Administration:

    POST /_mock/rules     {"behaviour": "status=500", "match": {"model", "body"}, "first": 2, "probability": 0.1}
    GET, DELETE /_mock/rules[/ID]
    GET /_mock/requests?after=SEQ, DELETE /_mock/requests
    GET /_mock/counts     calls per `x-sluice-attempt` (else `x-request-id`) header
"""

import asyncio
import hashlib
import signal
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from sluice_devstack.mock_provider import openai_form
from sluice_devstack.mock_provider.behaviour import Behaviour, BehaviourError, Latency, Rules, parse
from sluice_devstack.mock_provider.form import Answer, Asked, Form, HeadedAnswer
from sluice_devstack.mock_provider.forms import form_of
from sluice_devstack.mock_provider.records import Record, Recorder
from sluice_devstack.mock_provider.responses import CutError, answer_json, cut, refusal
from sluice_devstack.mock_provider.tokens import answer_token, is_token_path

_JSON = "application/json"
_REQUEST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Turn:
    """One request under treatment; `model` is the name without its behaviour."""

    record: Record
    behaviour: Behaviour
    form: Form
    asked: Asked
    model: str


class Mock:
    """The handler and its state: rules, latencies, records."""

    def __init__(self, record: Path | None = None) -> None:
        self._rules = Rules()
        self._recorder = Recorder(record)
        self._latencies: dict[tuple[str, int], Latency] = {}

    def close(self) -> None:
        """Close the record file."""
        self._recorder.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        path = request.path
        if path.startswith("/_mock/"):
            return await self._administer(request, path.removeprefix("/_mock/"))
        if is_token_path(path):
            return answer_token(await request.read())
        if path == "/v1/models":
            return answer_json(openai_form.models())
        return await self._call(request, path)

    async def _call(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        raw = await request.read()
        headers = request.headers
        try:
            body = orjson.loads(raw) if request.method == "POST" else {}
            found = form_of(path, body)
        except (AttributeError, ValueError, KeyError, TypeError):
            return answer_json(
                openai_form.error(400, "", "The body is not a JSON object with a model"), 400
            )
        if found is None:
            return answer_json(openai_form.error(404, "", f"Unknown path {path}"), 404)
        form, asked = found
        named = asked.model
        model, _, suffix = named.partition("@")
        if "=" not in suffix:
            model, suffix = named, ""
        record = self._recorder.received(
            method=request.method,
            path=path,
            model=named,
            job=headers.get("x-sluice-attempt") or headers.get("x-request-id") or "",
            digest=hashlib.sha256(raw).hexdigest(),
        )
        try:
            behaviour = self._behaviour(named, raw, suffix, headers.get("x-mock", ""))
            response = await self._answer(request, _Turn(record, behaviour, form, asked, model))
            record.outcome = "answered"
        except CutError:
            record.outcome = "cut"
            response = web.Response()
        except ConnectionError:
            record.outcome = "client_gone"
            response = web.Response()
        except (BehaviourError, KeyError, TypeError, ValueError) as exc:
            response = self._done(record, answer_json(form.error(400, "", repr(exc)), 400))
            record.outcome = "answered"
        except asyncio.CancelledError:
            record.outcome = "client_gone"
            raise
        finally:
            self._recorder.finished(record)
        return response

    def _behaviour(self, model: str, raw: bytes, suffix: str, header: str) -> Behaviour:
        behaviour = self._rules.behaviour(model, raw)
        for text in (suffix, header):
            if text:
                behaviour = parse(text, behaviour)
        return behaviour

    async def _answer(self, request: web.BaseRequest, turn: "_Turn") -> web.StreamResponse:
        record, behaviour, form, asked = turn.record, turn.behaviour, turn.form, turn.asked
        if behaviour.latency:
            await asyncio.sleep(self._latency(behaviour.latency, behaviour.seed))
        if behaviour.fault == "hang":
            await asyncio.Event().wait()
        if behaviour.fault == "cut_before_status":
            cut(request)
        refused = refusal(request, behaviour, form, asked)
        if refused is not None:
            return self._done(record, refused)
        answer = form.answer(asked, turn.model, behaviour, record.seq)
        record.usage = answer.usage
        if asked.streams:
            return await self._stream(request, turn, answer)
        return await self._whole(request, record, behaviour, answer)

    async def _whole(
        self, request: web.BaseRequest, record: Record, behaviour: Behaviour, answer: Answer
    ) -> web.StreamResponse:
        content, kind = answer.body(), _JSON
        if behaviour.fault == "malformed":
            content = content[: len(content) // 2]
        elif behaviour.fault == "empty":
            content = b""
        elif behaviour.fault == "wrong_type":
            content, kind = b"<html><body>It works!</body></html>", "text/html"
        elif behaviour.fault == "cut_body":
            response = web.StreamResponse(
                headers={"content-type": _JSON, "x-request-id": _name(record)}
            )
            response.content_length = len(content)
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            record.status, record.bytes = 200, len(content) // 2
            cut(request)
        headers = {"content-type": kind, "x-request-id": _name(record)}
        if isinstance(answer, HeadedAnswer):
            headers |= answer.headers
        return self._done(record, web.Response(body=content, headers=headers))

    async def _stream(
        self, request: web.BaseRequest, turn: "_Turn", answer: Answer
    ) -> web.StreamResponse:
        record, behaviour = turn.record, turn.behaviour
        headers = {"content-type": turn.form.stream_type, "x-request-id": _name(record)}
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        record.status = 200
        for number, event in enumerate(answer.events()):
            if behaviour.fault is not None and number >= behaviour.after:
                await self._stream_fault(request, response, turn)
                break
            if number and behaviour.chunk_delay:
                await asyncio.sleep(self._latency(behaviour.chunk_delay, behaviour.seed))
            await response.write(event)
            record.bytes += len(event)
        await response.write_eof()
        return response

    @staticmethod
    async def _stream_fault(
        request: web.BaseRequest, response: web.StreamResponse, turn: "_Turn"
    ) -> None:
        if turn.behaviour.fault in {"cut_stream", "cut_body"}:
            cut(request)
        elif turn.behaviour.fault == "malformed":
            await response.write(b'data: {"id": "half\n\n')
        elif turn.behaviour.fault == "stream_error":
            await response.write(turn.form.stream_error)

    @staticmethod
    def _done(record: Record, response: web.Response) -> web.Response:
        record.status = response.status
        record.bytes = len(response.body) if isinstance(response.body, bytes) else 0
        if response.status >= 400:
            record.usage = None
        return response

    def _latency(self, text: str, seed: int) -> float:
        latency = self._latencies.get((text, seed))
        if latency is None:
            latency = self._latencies[text, seed] = Latency(text, seed)
        return latency.draw()

    async def _administer(self, request: web.BaseRequest, path: str) -> web.Response:
        name, _, rest = path.partition("/")
        match request.method, name:
            case "POST", "rules":
                try:
                    rule = self._rules.add(orjson.loads(await request.read()))
                except (BehaviourError, ValueError) as exc:
                    return answer_json(orjson.dumps({"error": str(exc)}), 400)
                return answer_json(orjson.dumps(rule.shown()), 201)
            case "GET", "rules":
                return answer_json(orjson.dumps(self._rules.shown()))
            case "DELETE", "rules":
                return answer_json(
                    orjson.dumps({"removed": self._rules.remove(int(rest) if rest else None)})
                )
            case "GET", "requests":
                after = int(request.query.get("after", 0))
                return answer_json(
                    orjson.dumps([asdict(entry) for entry in self._recorder.after(after)])
                )
            case "DELETE", "requests":
                self._recorder.clear()
                return answer_json(b"{}")
            case "GET", "counts":
                return answer_json(orjson.dumps(dict(self._recorder.counts())))
            case _:
                return answer_json(
                    orjson.dumps({"error": f"unknown: {request.method} {path}"}), 404
                )


def _name(record: Record) -> str:
    return f"req_{record.seq}"


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=_REQUEST_BYTES
    )


async def serve(
    host: str, port: int, *, record: Path | None, until: Callable[[], Coroutine[Any, Any, Any]]
) -> None:
    """Serve until `until()` returns; prints one line with the URL when ready."""
    mock = Mock(record)
    server = web.Server(
        mock.handle, request_factory=_request, handler_cancellation=True, access_log=None
    )
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=4096).start()
        address = runner.addresses[0]
        print(f"http://{host}:{address[1]}", flush=True)  # noqa: T201
        await until()
    finally:
        await runner.cleanup()
        mock.close()


def run(host: str, port: int, *, record: Path | None = None) -> None:
    """Serve on `host:port` (0 picks a free port) until SIGINT or SIGTERM."""
    import uvloop

    async def stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await stop.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(host, port, record=record, until=stopped))
