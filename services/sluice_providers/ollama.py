"""Ollama's own wire format, spoken to callers in OpenAI's form: chat as newline-delimited JSON, and embeddings."""

from collections.abc import Mapping
from typing import Any

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import count
from sluice_providers.adapter import MalformedError, Outgoing, Refusal, Whole
from sluice_providers.chat_answer import NOT_IN_FORM, counted, embeddings
from sluice_providers.chat_request import inputs, left_out, offered, unlike_a_chat
from sluice_providers.errors import kind_of, told
from sluice_providers.framing import NDJSON
from sluice_providers.ollama_answer import OllamaStream, reported, translate
from sluice_providers.ollama_request import translate as translate_request
from sluice_providers.parsing import parse_object
from sluice_providers.port import Call

_EMBEDDING_FIELDS = frozenset({"input", "dimensions", "encoding_format", "keep_alive", "options"})


class OllamaAdapter:
    """Translates chat and embeddings."""

    framing = NDJSON

    def outgoing(self, call: Call, document: dict[str, Any]) -> Outgoing:
        """Translate the request; a key is sent where there is one, as ollama.com wants it."""
        offered(call.operation, "chat", "embeddings")
        try:
            if call.operation == "embeddings":
                path, (request, warnings) = "embed", _embed(call, document)
            else:
                path = "chat"
                request, warnings = translate_request(document, call.target, stream=call.stream)
        except NOT_IN_FORM as exc:
            raise unlike_a_chat(exc) from exc
        base = call.target.base_url.rstrip("/").removesuffix("/v1").removesuffix("/api")
        return Outgoing(
            url=f"{base}/api/{path}",
            headers=(("authorization", f"Bearer {call.api_key}"),) if call.api_key else (),
            content=orjson.dumps(request),
            warnings=warnings,
        )

    def whole(self, call: Call, body: bytes, _headers: Mapping[str, str]) -> Whole:
        """Translate a whole answer."""
        document = parse_object(body)
        if "error" in document:
            raise reported(document)
        if call.operation == "chat":
            return translate(call, document)
        rows = document.get("embeddings")
        if not isinstance(rows, list):
            raise MalformedError("the answer has no list of embeddings")
        return embeddings(call, rows, usage=counted(_embedded, document))

    def stream(self, call: Call, document: Mapping[str, Any]) -> OllamaStream:
        """Begin a stream."""
        return OllamaStream(call, document)

    def refusal(self, status: int, body: bytes, _headers: Mapping[str, str]) -> Refusal:
        """Translate `{error: "…"}`."""
        message, content = told(status, body, "error")
        kind = kind_of(status, code="", message=message)
        return Refusal(kind=kind, message=message, body=content)


def _embed(call: Call, document: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    # Ollama would cut an input that is too long and not say so.
    request: dict[str, Any] = {
        "model": call.target.model,
        "input": inputs(document),
        "truncate": False,
    }
    for name in ("dimensions", "keep_alive", "options"):
        if document.get(name) is not None:
            request[name] = document[name]
    return request, left_out(document, _EMBEDDING_FIELDS)


def _embedded(document: dict[str, Any]) -> Usage:
    return Usage(input_tokens=count(document, "prompt_eval_count"))
