"""The mock's Gemini side, on the paths of the Gemini API and on those of Vertex AI."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.answers import compose, pieces, read_prompt
from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Answer, Asked
from sluice_devstack.mock_provider.vectors import SIZE, tokens, vector

_PATH = re.compile(
    r"/v1(?:alpha|beta1?)?/(?P<vertex>projects/[^/]+/locations/[^/]+/publishers/google/)?"
    r"models/(?P<model>.+):(?P<method>\w+)"
)
_OPERATIONS = {
    "generateContent": "chat",
    "streamGenerateContent": "chat",
    "batchEmbedContents": "embeddings",
    "predict": "embeddings",
}
_ERRORS = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission."),
    404: ("NOT_FOUND", "models/x is not found for API version v1beta."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in 30.5s."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "The request timed out."),
}
_TOO_LONG = (
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
)
_TYPES = "type.googleapis.com/google.rpc."
_BLOCK = "block:"
"""Of a stop: the prompt is blocked for the reason that follows."""


def error(status: int, code: str, message: str = "") -> bytes:
    """`{error: {code, message, status, details}}`; `code` is an ErrorInfo's reason, and a 429 has a RetryInfo."""
    name, text = _ERRORS.get(status, ("INTERNAL", "An internal error has occurred."))
    if code == "context_length_exceeded":
        code, text = "", _TOO_LONG
    content: dict[str, Any] = {"code": status, "message": message or text, "status": name}
    details: list[dict[str, Any]] = []
    if code:
        details.append({"@type": f"{_TYPES}ErrorInfo", "reason": code, "domain": "googleapis.com"})
    if status == 429:
        details.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": "30.5s"})
    if details:
        content["details"] = details
    return orjson.dumps({"error": content})


def complaint(body: Mapping[str, Any]) -> str | None:
    """What Gemini would refuse about a chat request, or None."""
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        return "contents is not specified"
    for number, content in enumerate(contents):
        if content.get("role") not in {"user", "model"}:
            return "Please use a valid role: user, model."
        parts = content.get("parts")
        if not parts:
            return f"contents[{number}].parts: contents.parts must not be empty."
        called = sum("functionCall" in part for part in contents[number - 1]["parts"])
        answered = sum("functionResponse" in part for part in parts)
        if number and called and called != answered:
            return (
                "Please ensure that the number of function response parts is equal to the number "
                "of function call parts of the function call turn."
            )
    return None


class GeminiForm:
    """Chat, whole and streamed, and embeddings."""

    stream_type = "text/event-stream"
    stream_error = b"data: " + error(503, "") + b"\r\n\r\n"

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """The model and what is asked of it stand in the path."""
        found = _PATH.fullmatch(path)
        operation = _OPERATIONS.get(found["method"]) if found else None
        if found is None or operation is None:
            return None
        return Asked(
            model=found["model"],
            operation=operation,
            streams=found["method"] == "streamGenerateContent",
            body=body,
        )

    def key(self, request: web.BaseRequest) -> str:
        """The `x-goog-api-key` header, or Vertex's bearer token."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        return request.headers.get("x-goog-api-key") or bearer

    def complaint(self, request: web.BaseRequest, asked: Asked) -> str | None:
        """What Gemini checks: roles, parts, as many results as there were calls; the mock streams as SSE alone."""
        if asked.streams and request.query.get("alt") != "sse":
            return "this server streams with alt=sse alone"
        return complaint(asked.body) if asked.operation == "chat" else None

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, seq: int) -> Answer:
        """Candidates or embeddings."""
        if asked.operation == "embeddings":
            return Embedded(asked.body, behaviour)
        return Generated(asked.body, model, behaviour, seq)

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """`{error: {code, message, status}}`."""
        return error(status, code, message)


class Generated:
    """One call: its values, its whole body, and its stream."""

    def __init__(self, body: Mapping[str, Any], model: str, behaviour: Behaviour, seq: int) -> None:
        self._model, self._behaviour, self._id = model, behaviour, f"resp-{seq}"
        generation = body.get("generationConfig") or {}
        self._choices = int(generation.get("candidateCount") or 1)
        self._thinks = bool((generation.get("thinkingConfig") or {}).get("includeThoughts"))
        declared = [
            function["name"]
            for tool in body.get("tools") or ()
            for function in tool.get("functionDeclarations") or ()
        ]
        prompt = read_prompt(
            [_counted(content) for content in body["contents"]],
            _parts((body.get("systemInstruction") or {}).get("parts") or ()),
        )
        self._reply = compose(
            prompt,
            behaviour,
            tools=declared,
            parallel=True,
            limit=generation.get("maxOutputTokens"),
            choices=self._choices,
        )
        self.usage = self._usage(prompt.tokens)

    def _usage(self, given: int) -> dict[str, Any] | None:
        behaviour = self._behaviour
        if behaviour.usage == "none":
            return None
        usage = {
            "promptTokenCount": given,
            "candidatesTokenCount": self._reply.output_tokens - behaviour.reasoning,
            "totalTokenCount": given + self._reply.output_tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": given}],
        }
        if behaviour.cached:
            usage["cachedContentTokenCount"] = min(behaviour.cached, given)
        if behaviour.reasoning:
            usage["thoughtsTokenCount"] = behaviour.reasoning
        return usage

    @property
    def _stop(self) -> str:
        return self._behaviour.stop or ("MAX_TOKENS" if self._reply.cut else "STOP")

    def _spoken(self) -> list[dict[str, Any]]:
        """The parts of the answer as they are streamed."""
        found: list[dict[str, Any]] = []
        if self._behaviour.reasoning and self._thinks:
            found.append({"text": "Let me think.", "thought": True})
        found += [{"text": piece} for piece in pieces(self._reply.text)]
        for number, (name, arguments) in enumerate(self._reply.calls):
            part: dict[str, Any] = {"functionCall": {"name": name, "args": orjson.loads(arguments)}}
            if number == 0:
                part["thoughtSignature"] = "c2lnbmF0dXJl"
            found.append(part)
        return found

    def body(self) -> bytes:
        """The whole answer."""
        if self._stop.startswith(_BLOCK):
            return orjson.dumps(self._document([]))
        parts = [part for part in self._spoken() if "functionCall" in part or part.get("thought")]
        if self._reply.text:
            parts.append({"text": self._reply.text})
        return orjson.dumps(
            self._document([self._candidate(c, parts, self._stop) for c in range(self._choices)])
        )

    @staticmethod
    def _candidate(index: int, parts: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
        return candidate | ({"finishReason": stop} if stop else {})

    def _document(self, candidates: list[dict[str, Any]]) -> dict[str, Any]:
        document: dict[str, Any] = {"modelVersion": self._model, "responseId": self._id}
        if candidates:
            document["candidates"] = candidates
        else:
            document["promptFeedback"] = {"blockReason": self._stop.removeprefix(_BLOCK)}
        if self.usage is not None:
            document["usageMetadata"] = self.usage
        return document

    def events(self) -> Iterator[bytes]:
        """The stream's events in order; the last part of each candidate has its reason."""
        if self._stop.startswith(_BLOCK):
            yield _event(self._document([]))
            return
        parts = self._spoken() or [{"text": ""}]
        for index in range(self._choices):
            for number, part in enumerate(parts):
                stop = self._stop if number == len(parts) - 1 else None
                yield _event(self._document([self._candidate(index, [part], stop)]))


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\r\n\r\n"


def _counted(content: Mapping[str, Any]) -> dict[str, Any]:
    """A content as `answers` counts messages."""
    role = "assistant" if content.get("role") == "model" else "user"
    return {"role": role, "content": _parts(content.get("parts") or ())}


def _parts(parts: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in parts:
        if "text" in part:
            found.append({"type": "text", "text": part["text"]})
        elif "functionResponse" in part:
            result = part["functionResponse"]["response"]
            text = result.get("result") if isinstance(result.get("result"), str) else ""
            content = text or orjson.dumps(result).decode()
            found.append({"type": "tool_result", "tool_use_id": "", "content": content})
        else:
            found.append({"type": "tool_use" if "functionCall" in part else "image"})
    return found


class Embedded:
    """One batch of embeddings, in the Gemini API's form or in Vertex's."""

    def __init__(self, body: Mapping[str, Any], behaviour: Behaviour) -> None:
        self._vertex = "instances" in body
        if self._vertex:
            self._texts = [str(row["content"]) for row in body["instances"]]
            size = (body.get("parameters") or {}).get("outputDimensionality")
        else:
            rows = body["requests"]
            self._texts = ["".join(p["text"] for p in row["content"]["parts"]) for row in rows]
            size = rows[0].get("outputDimensionality")
        self._size = int(size or SIZE)
        self.usage: dict[str, Any] | None = {"promptTokenCount": tokens(self._texts)}
        if behaviour.usage == "none":
            self.usage = None

    def body(self) -> bytes:
        """The whole answer."""
        if self._vertex:
            return orjson.dumps({"predictions": [self._prediction(text) for text in self._texts]})
        rows = [{"values": vector(text, self._size)} for text in self._texts]
        document: dict[str, Any] = {"embeddings": rows}
        return orjson.dumps(document | ({"usageMetadata": self.usage} if self.usage else {}))

    def _prediction(self, text: str) -> dict[str, Any]:
        embedding: dict[str, Any] = {"values": vector(text, self._size)}
        if self.usage is not None:
            embedding["statistics"] = {"token_count": tokens([text]), "truncated": False}
        return {"embeddings": embedding}

    def events(self) -> Iterator[bytes]:
        """Embeddings are never streamed."""
        return iter(())
