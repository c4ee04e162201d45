"""Anthropic's wire format: messages, spoken to callers in OpenAI's form."""

from collections.abc import Mapping
from typing import Any

import orjson

from sluice_providers.adapter import Outgoing, Refusal, UntranslatableError, Whole
from sluice_providers.anthropic_answer import AnthropicStream, error_text, translate
from sluice_providers.anthropic_request import to_bytes
from sluice_providers.anthropic_request import translate as translate_request
from sluice_providers.errors import error_body, kind_of, wrap
from sluice_providers.framing import SSE
from sluice_providers.port import Call

_VERSION = "2023-06-01"


class AnthropicAdapter:
    """Translates chat requests and answers; knows no embeddings."""

    framing = SSE

    def outgoing(self, call: Call, document: dict[str, Any]) -> Outgoing:
        """Translate the request."""
        if call.operation != "chat":
            raise UntranslatableError("url", f"this provider has no {call.operation}")
        target = call.target
        try:
            request, warnings = translate_request(
                document,
                model=target.model,
                stream=call.stream,
                default_max_tokens=target.default_max_tokens,
            )
        except (AttributeError, KeyError, TypeError) as exc:
            raise UntranslatableError("body", _unlike_a_chat(exc)) from exc
        base = target.base_url.rstrip("/").removesuffix("/v1")
        return Outgoing(
            url=f"{base}/v1/messages",
            headers=(("x-api-key", call.api_key), ("anthropic-version", _VERSION)),
            content=to_bytes(request),
            warnings=warnings,
        )

    def whole(self, call: Call, body: bytes, _headers: Mapping[str, str]) -> Whole:
        """Translate a whole message."""
        return translate(call, body)

    def stream(self, call: Call, document: Mapping[str, Any]) -> AnthropicStream:
        """Begin a stream."""
        return AnthropicStream(call, document)

    def refusal(self, status: int, body: bytes, _headers: Mapping[str, str]) -> Refusal:
        """Translate `{type: error, error: {type, message}}`; Anthropic's type serves as OpenAI's code."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict) or not isinstance(document.get("error"), dict):
            message, content = wrap(status, body)
            return Refusal(
                kind=kind_of(status, code="", message=message), message=message, body=content
            )
        kind, message = error_text(document)
        return Refusal(
            kind=kind_of(status, code=kind, message=message),
            message=message,
            body=error_body(message, kind=kind, code=kind),
        )


def _unlike_a_chat(exc: Exception) -> str:
    """What is wrong with a request that translation fell over: a field that is not there, or one of another kind."""
    what = "lacks a field" if isinstance(exc, KeyError) else "is of another kind than expected"
    return f"is not a valid chat request: a part of it {what}"
