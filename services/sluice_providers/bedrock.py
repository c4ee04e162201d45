"""Amazon Bedrock, spoken to callers in OpenAI's form; signed with AWS keys or sent with a bearer token.

Chats go through Converse, embeddings and rankings through InvokeModel.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import orjson
from yarl import URL

from sluice_providers.adapter import Outgoing, Refusal, UntranslatableError, Whole
from sluice_providers.bedrock_answer import ConverseStream, translate
from sluice_providers.bedrock_invoke import invoke_answer, invoke_request
from sluice_providers.bedrock_request import translate as translate_request
from sluice_providers.chat_answer import NOT_IN_FORM
from sluice_providers.chat_request import offered, unlike_a_chat
from sluice_providers.errors import error_body, kind_of, wrap
from sluice_providers.framing import EVENT_STREAM
from sluice_providers.parsing import parse_object
from sluice_providers.port import Call
from sluice_providers.sigv4 import Keys, Signable, signed

_SERVICE: Final = "bedrock"


class BedrockAdapter:
    """Translates chat, embeddings and rankings."""

    framing = EVENT_STREAM

    def outgoing(self, call: Call, document: dict[str, Any]) -> Outgoing:
        """Translate the request and sign it."""
        offered(call.operation, "chat", "embeddings", "rerank")
        target = call.target
        try:
            if call.operation == "chat":
                if target.tier is not None:
                    document.setdefault("service_tier", target.tier)
                method = "converse-stream" if call.stream else "converse"
                request, warnings = translate_request(
                    document, model=target.model, default_max_tokens=target.default_max_tokens
                )
            else:
                method = "invoke"
                request, warnings = invoke_request(call, document)
        except NOT_IN_FORM as exc:
            raise unlike_a_chat(exc) from exc
        base = target.base_url.rstrip("/").removesuffix("/v1")
        url = f"{base}/model/{quote(target.model, safe='@=,:.')}/{method}"
        content = orjson.dumps(request)
        return Outgoing(
            url=url,
            headers=_proof(call, URL(url), content, at=datetime.now(UTC)),
            content=content,
            warnings=warnings,
        )

    def whole(self, call: Call, body: bytes, headers: Mapping[str, str]) -> Whole:
        """Translate a whole answer."""
        if call.operation == "chat":
            return translate(call, body)
        return invoke_answer(call, parse_object(body), headers)

    def stream(self, call: Call, document: Mapping[str, Any]) -> ConverseStream:
        """Begin a stream."""
        return ConverseStream(call, document)

    def refusal(self, status: int, body: bytes, headers: Mapping[str, str]) -> Refusal:
        """Translate `{message}`; the type in `x-amzn-errortype` serves as OpenAI's code."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        document = document if isinstance(document, dict) else {}
        named = headers.get("x-amzn-errortype") or str(document.get("__type") or "")
        code = named.partition(":")[0].rpartition("#")[2]
        said = document.get("message") or document.get("Message")
        if isinstance(said, str) and said:
            message, content = said, error_body(said, kind=code or "provider_error", code=code)
        else:
            message, content = wrap(status, body)
        return Refusal(
            kind=kind_of(status, code=code, message=message), message=message, body=content
        )


def _proof(call: Call, url: URL, content: bytes, *, at: datetime) -> tuple[tuple[str, str], ...]:
    """A bearer token, or a signature of the url as the transport sends it."""
    keys = keys_of(call.api_key)
    if keys is None:
        return (("authorization", f"Bearer {call.api_key}"),)
    host = url.host_port_subcomponent or ""
    request = Signable(
        method="POST",
        path=url.raw_path,
        query=url.raw_query_string,
        headers={"host": host},
        content=content,
    )
    region = call.target.options.get("region")
    if not region:
        raise UntranslatableError("url", "the account's options name no region")
    return tuple(signed(request, keys, region=region, service=_SERVICE, at=at).items())


def keys_of(secret: str) -> Keys | None:
    """The keys in `ACCESS:SECRET` or `ACCESS:SECRET:SESSION`; None: it is a bearer token, which holds no colon."""
    access, colon, rest = secret.partition(":")
    if not colon:
        return None
    secret, _, session = rest.partition(":")
    return Keys(access=access, secret=secret, session=session or None)
