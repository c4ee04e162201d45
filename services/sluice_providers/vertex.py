"""Vertex AI: Gemini's wire format at a project and region of Google Cloud, with a service account's token."""

from typing import Any
from urllib.parse import quote

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import count
from sluice_providers.adapter import UntranslatableError
from sluice_providers.chat_answer import counted
from sluice_providers.chat_request import inputs, left_out
from sluice_providers.gemini import EMBEDDING_FIELDS, GeminiAdapter
from sluice_providers.port import Call


class VertexAdapter(GeminiAdapter):
    """Gemini's translation; embeddings are asked for in Vertex's own form."""

    embedding_method = "predict"

    def model_url(self, call: Call) -> str:
        """Where the model is: one of Google's by its name, any other (`endpoints/ID`) by its path in the region."""
        target = call.target
        base = target.base_url.rstrip("/").removesuffix("/v1")
        project, region = target.options.get("project"), target.options.get("region")
        if not project or not region:
            raise UntranslatableError("url", "the account's options name no project and region")
        google = f"publishers/google/models/{target.model}"
        model = target.model if "/" in target.model else google
        place = f"projects/{quote(project, safe='')}/locations/{quote(region, safe='')}"
        return f"{base}/v1/{place}/{quote(model, safe='/@=,:')}"

    def proof(self, call: Call) -> tuple[str, str]:
        """The header with the token."""
        return "authorization", f"Bearer {call.api_key}"

    def embedding_request(
        self,
        call: Call,  # noqa: ARG002 - the model stands in the path alone
        document: dict[str, Any],
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """One instance an input."""
        shared = {"task_type": document["task_type"]} if document.get("task_type") else {}
        # Otherwise an input that is too long would be cut and nobody told.
        parameters: dict[str, Any] = {"autoTruncate": False}
        if document.get("dimensions"):
            parameters["outputDimensionality"] = document["dimensions"]
        rows = [{"content": text} | shared for text in inputs(document)]
        request = {"instances": rows, "parameters": parameters}
        return request, left_out(document, EMBEDDING_FIELDS)

    def vectors(self, document: dict[str, Any]) -> tuple[list[Any], Usage | None]:
        """The vectors of an answer; its usage is the sum over them."""
        rows = [row["embeddings"] for row in document["predictions"]]
        return [row["values"] for row in rows], counted(_embedded, {"rows": rows})


def _embedded(document: dict[str, Any]) -> Usage:
    return Usage(
        input_tokens=sum(count(row.get("statistics"), "token_count") for row in document["rows"])
    )
