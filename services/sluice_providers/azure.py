"""Azure OpenAI: OpenAI's form, at a deployment's path or on the v1 surface, with a key or a token of Entra's."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from sluice_core.config.compatible import NATIVE
from sluice_providers.compatible import PlainChunks
from sluice_providers.openai import PATHS, OpenAIAdapter, OpenAIStream, usage_asked
from sluice_providers.port import Call

API_VERSION: Final = "2024-10-21"
"""The newest of the dated versions that is not a preview; `options: {api_version: …}` names another."""
_V1: Final = "/openai/v1"
_QUIRKS: Final = NATIVE["azure.ai.openai"]


class AzureAdapter(OpenAIAdapter):
    """The model of a target is the name of its deployment."""

    def url(self, call: Call) -> str:
        """The deployment's, under a dated version; the v1 surface where `base_url` ends with it or no other has it."""
        target = call.target
        base, version = target.base_url.rstrip("/"), target.options.get("api_version")
        if base.endswith(_V1) or call.operation == "responses":
            root = base.removesuffix(_V1).removesuffix("/openai") + _V1
            asked = f"?api-version={version}" if version and base.endswith(_V1) else ""
            return root + PATHS[call.operation] + asked
        deployment = quote(target.model, safe="")
        root = base.removesuffix("/openai") + "/openai/deployments/" + deployment
        return f"{root}{PATHS[call.operation]}?api-version={version or API_VERSION}"

    def headers(self, call: Call) -> tuple[tuple[str, str], ...]:
        """A key has a header of its own."""
        if call.target.options.get("auth") == "bearer":
            return super().headers(call)
        return (("api-key", call.api_key),)

    def chat_stream(self, call: Call, document: Mapping[str, Any]) -> OpenAIStream:
        """Begin a stream, among whose chunks are some that say only what the content filter found."""
        return OpenAIStream(
            model=call.target.model_requested,
            usage_asked=usage_asked(document),
            plain=PlainChunks(_QUIRKS),
        )
