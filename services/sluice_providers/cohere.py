"""Cohere's v2 wire format, spoken to callers in OpenAI's form: chat, embeddings and rankings."""

from collections.abc import Mapping
from typing import Any

import orjson

from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_core.usage.policy import part
from sluice_providers.adapter import MalformedError, Outgoing, Refusal, Whole
from sluice_providers.chat_answer import NOT_IN_FORM, counted, embeddings
from sluice_providers.chat_request import offered, unlike_a_chat
from sluice_providers.cohere_answer import CohereStream, tokens, translate
from sluice_providers.cohere_embed import embed_request, vectors_of
from sluice_providers.cohere_request import translate as translate_request
from sluice_providers.errors import kind_of, told
from sluice_providers.framing import SSE
from sluice_providers.parsing import parse_object
from sluice_providers.port import Call
from sluice_providers.rerank import ranking, request_of


class CohereAdapter:
    """Translates chat, embeddings and rankings."""

    framing = SSE

    def outgoing(self, call: Call, document: dict[str, Any]) -> Outgoing:
        """Translate the request."""
        offered(call.operation, "chat", "embeddings", "rerank")
        target = call.target
        try:
            if call.operation == "embeddings":
                path, (request, warnings) = "embed", embed_request(call, document)
            elif call.operation == "rerank":
                path, (request, warnings) = "rerank", request_of(call, document)
            else:
                path = "chat"
                request, warnings = translate_request(
                    document,
                    model=target.model,
                    stream=call.stream,
                    default_max_tokens=target.default_max_tokens,
                )
        except NOT_IN_FORM as exc:
            raise unlike_a_chat(exc) from exc
        base = target.base_url.rstrip("/").removesuffix("/v1").removesuffix("/v2")
        return Outgoing(
            url=f"{base}/v2/{path}",
            headers=(("authorization", f"Bearer {call.api_key}"),),
            content=orjson.dumps(request),
            warnings=warnings,
        )

    def whole(self, call: Call, body: bytes, _headers: Mapping[str, str]) -> Whole:
        """Translate a whole answer."""
        document = parse_object(body)
        if call.operation == "chat":
            return translate(call, document)
        if call.operation == "rerank":
            return ranking(call, document)
        try:
            rows = vectors_of(document)
        except NOT_IN_FORM as exc:
            raise MalformedError("the answer has no list of embeddings") from exc
        return embeddings(call, rows, usage=counted(_embedded, document.get("meta")))

    def stream(self, call: Call, document: Mapping[str, Any]) -> CohereStream:
        """Begin a stream."""
        return CohereStream(call, document)

    def refusal(self, status: int, body: bytes, _headers: Mapping[str, str]) -> Refusal:
        """Translate `{message}`. 498 is a token that is no longer valid, or a text that is blocked."""
        message, content = told(status, body, "message")
        kind = kind_of(status, code="", message=message)
        if status == 498:
            blocked = "blocked" in message.lower()
            kind = FailureKind.CONTENT_POLICY if blocked else FailureKind.KEY_REFUSED
        return Refusal(kind=kind, message=message, body=content)


def _embedded(document: dict[str, Any]) -> Usage:
    return Usage(input_tokens=tokens(part(document, "billed_units"), "input_tokens"))
