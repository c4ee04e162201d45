"""The mock's Azure side: OpenAI's answers at Azure's paths, with what its content filter found."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Answer, Asked
from sluice_devstack.mock_provider.openai_form import DONE, Chat, OpenAIForm, error

_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/(chat/completions|embeddings)")
_V1 = "/openai/v1/"
_OPERATIONS = {"chat/completions": "chat", "embeddings": "embeddings"}
_FOUND = {
    name: {"filtered": False, "severity": "safe"}
    for name in ("hate", "self_harm", "sexual", "violence")
}
_FILTERED = {
    "code": "ResponsibleAIPolicyViolation",
    "content_filter_result": _FOUND | {"violence": {"filtered": True, "severity": "high"}},
}


class AzureForm(OpenAIForm):
    """Chat completions and embeddings, at a deployment's path and on the v1 surface."""

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """A deployment stands in the path, or as the model in the body."""
        found = _DEPLOYMENT.fullmatch(path)
        if found is not None:
            model, operation = found[1], _OPERATIONS[found[2]]
        elif path.removeprefix(_V1) in _OPERATIONS:
            model, operation = str(body["model"]), _OPERATIONS[path.removeprefix(_V1)]
        else:
            return None
        streams = bool(body.get("stream")) and operation == "chat"
        return Asked(model=model, operation=operation, streams=streams, body=body)

    def key(self, request: web.BaseRequest) -> str:
        """The `api-key` header, or a token."""
        return request.headers.get("api-key") or super().key(request)

    def complaint(self, request: web.BaseRequest, asked: Asked) -> str | None:
        """A deployment's path has a dated version; besides, what OpenAI checks."""
        if not request.path.startswith(_V1) and not request.query.get("api-version"):
            return "Missing required query parameter: api-version"
        return super().complaint(request, asked)

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, seq: int) -> Answer:
        """A completion with annotations, or embeddings."""
        if asked.operation == "embeddings":
            return super().answer(asked, model, behaviour, seq)
        return FilteredChat(asked.body, model, behaviour, seq)

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """As OpenAI's; of a filtered prompt also what was found."""
        document = orjson.loads(error(status, code, message))
        if code == "content_filter":
            document["error"] |= {"innererror": _FILTERED, "status": status}
        return orjson.dumps(document)


class FilteredChat(Chat):
    """A chat completion whose prompt and choices went through the content filter."""

    def body(self) -> bytes:
        """The whole answer."""
        document = orjson.loads(super().body())
        for choice in document["choices"]:
            choice["content_filter_results"] = _FOUND
        return orjson.dumps(document | {"prompt_filter_results": _prompt()})

    def events(self) -> Iterator[bytes]:
        """The stream's events: the prompt's annotations first, without a choice, those of the answer behind it."""
        first = {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": _prompt(),
        }
        yield b"data: " + orjson.dumps(first) + b"\n\n"
        told = False
        for event in super().events():
            if not told and (event == DONE or b'"choices":[]' in event):
                told = True
                choice: dict[str, Any] = {
                    "index": 0,
                    "finish_reason": None,
                    "content_filter_results": _FOUND,
                }
                choice["content_filter_offsets"] = {"check_offset": 0, "start_offset": 0}
                last = {"id": "", "object": "", "created": 0, "model": "", "choices": [choice]}
                yield b"data: " + orjson.dumps(last) + b"\n\n"
            yield event


def _prompt() -> list[dict[str, Any]]:
    return [{"prompt_index": 0, "content_filter_results": _FOUND}]
