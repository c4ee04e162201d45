"""Google's Gemini wire format, spoken to callers in OpenAI's form: the Gemini API, with a key."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import count
from sluice_providers.adapter import MalformedError, Outgoing, Refusal, Whole
from sluice_providers.chat_answer import NOT_IN_FORM, counted, embeddings
from sluice_providers.chat_request import inputs, left_out, offered, unlike_a_chat
from sluice_providers.errors import error_body, kind_of, wrap
from sluice_providers.framing import SSE
from sluice_providers.gemini_answer import GeminiStream, reported, translate
from sluice_providers.gemini_errors import code_of, error_of, retry_delay_s
from sluice_providers.gemini_request import translate as translate_request
from sluice_providers.parsing import parse_object
from sluice_providers.port import Call

_VERSIONS = ("/v1", "/v1beta", "/v1alpha")
EMBEDDING_FIELDS = frozenset({"input", "dimensions", "encoding_format", "task_type"})


class GeminiAdapter:
    """Translates chat and embeddings."""

    framing = SSE

    def outgoing(self, call: Call, document: dict[str, Any]) -> Outgoing:
        """Translate the request."""
        offered(call.operation, "chat", "embeddings")
        try:
            if call.operation == "embeddings":
                method = self.embedding_method
                request, warnings = self.embedding_request(call, document)
            else:
                method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
                request, warnings = translate_request(
                    document,
                    model=call.target.model,
                    default_max_tokens=call.target.default_max_tokens,
                )
        except NOT_IN_FORM as exc:
            raise unlike_a_chat(exc) from exc
        return Outgoing(
            url=f"{self.model_url(call)}:{method}",
            headers=(self.proof(call),),
            content=orjson.dumps(request),
            warnings=warnings,
        )

    embedding_method = "batchEmbedContents"

    def model_url(self, call: Call) -> str:
        """Where the model is; under `v1beta` where the base names no version."""
        base = call.target.base_url.rstrip("/")
        if not base.endswith(_VERSIONS):
            base += "/v1beta"
        return f"{base}/{quote(_resource(call.target.model), safe='/@=,:')}"

    def proof(self, call: Call) -> tuple[str, str]:
        """The header with the key."""
        return "x-goog-api-key", call.api_key

    def embedding_request(
        self, call: Call, document: dict[str, Any]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """All inputs of a request as one batch."""
        shared: dict[str, Any] = {"model": _resource(call.target.model)}
        if document.get("dimensions"):
            shared["outputDimensionality"] = document["dimensions"]
        if document.get("task_type"):
            shared["taskType"] = document["task_type"]
        rows = [shared | {"content": {"parts": [{"text": text}]}} for text in inputs(document)]
        return {"requests": rows}, left_out(document, EMBEDDING_FIELDS)

    def whole(self, call: Call, body: bytes, _headers: Mapping[str, str]) -> Whole:
        """Translate a whole answer."""
        document = parse_object(body)
        if "error" in document:
            raise reported(document)
        if call.operation == "chat":
            return translate(call, document)
        try:
            vectors, usage = self.vectors(document)
        except NOT_IN_FORM as exc:
            raise MalformedError("the answer has no list of embeddings") from exc
        return embeddings(call, vectors, usage=usage)

    def vectors(self, document: dict[str, Any]) -> tuple[list[Any], Usage | None]:
        """The vectors of an answer, and its usage, which older models leave out."""
        rows = [row["values"] for row in document["embeddings"]]
        return rows, counted(_embedded, document.get("usageMetadata"))

    def stream(self, call: Call, document: Mapping[str, Any]) -> GeminiStream:
        """Begin a stream."""
        return GeminiStream(call, document)

    def refusal(self, status: int, body: bytes, _headers: Mapping[str, str]) -> Refusal:
        """Translate `{error: {code, message, status, details}}`; its reason or status serves as OpenAI's code."""
        error = error_of(body)
        if error is None:
            message, content = wrap(status, body)
            kind = kind_of(status, code="", message=message)
            return Refusal(kind=kind, message=message, body=content)
        code, message = code_of(error), str(error.get("message") or "")
        message = message or f"the provider answered {status}"
        return Refusal(
            kind=kind_of(status, code=code, message=message),
            message=message,
            body=error_body(message, kind=str(error.get("status") or "provider_error"), code=code),
            retry_after_s=retry_delay_s(error),
        )


def _resource(model: str) -> str:
    """The model's name as a resource; tuned models have their own collection."""
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


def _embedded(document: dict[str, Any]) -> Usage:
    return Usage(input_tokens=count(document, "promptTokenCount"))
