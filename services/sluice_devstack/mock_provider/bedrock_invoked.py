"""The mock's models that Bedrock serves by InvokeModel: each maker's embeddings and rankings."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.ranking import ranked
from sluice_devstack.mock_provider.vectors import SIZE, tokens, vector


def operation_of(model: str) -> str:
    """What a model does."""
    return "rerank" if ".rerank" in model else "embeddings"


def invoked_complaint(model: str, body: Mapping[str, Any]) -> str | None:
    """What a model would refuse about a request, or None."""
    if ".rerank" in model:
        if "cohere." in model and body.get("api_version") != 2:
            return "Malformed input request: api_version is required"
        return None
    if "cohere." in model:
        needed, known = "input_type", {"texts", "input_type", "truncate", "embedding_types"}
        known = known | {"output_dimension"} if "v4" in model else known
    elif "nova" in model:
        needed, known = "taskType", {"schemaVersion", "taskType", "singleEmbeddingParams"}
    else:
        needed, known = "inputText", {"inputText", "dimensions", "normalize", "embeddingTypes"}
    if needed not in body:
        return f"Malformed input request: #: required key [{needed}] not found"
    extra = sorted(set(body) - known)
    return f"Malformed input request: #: extraneous key [{extra[0]}]" if extra else None


class Invoked:
    """One call; the tokens of its input are told in a header, whatever its body tells."""

    def __init__(self, body: Mapping[str, Any], model: str, behaviour: Behaviour) -> None:
        self._model, self._behaviour = model, behaviour
        if ".rerank" in model:
            texts = [body["query"], *body["documents"]]
            rows = ranked(body["query"], body["documents"], body.get("top_n"))
            self._document: dict[str, Any] = {"results": rows}
        elif "cohere." in model:
            texts = list(body["texts"])
            size = int(body.get("output_dimension") or SIZE)
            vectors = [vector(text, size) for text in texts]
            typed = "float" in (body.get("embedding_types") or ())
            self._document = {
                "id": "embed",
                "texts": texts,
                "embeddings": {"float": vectors} if typed else vectors,
                "response_type": "embeddings_by_type" if typed else "embeddings_floats",
            }
        else:
            texts = [self._one(body)]
        count = tokens(texts)
        told = behaviour.usage != "none"
        self.usage: dict[str, Any] | None = {"inputTextTokenCount": count} if told else None
        self.headers = {"x-amzn-bedrock-input-token-count": str(count)} if told else {}

    def _one(self, body: Mapping[str, Any]) -> str:
        """A model of Amazon's, which takes one text."""
        if "nova" not in self._model:
            text: str = body["inputText"]
            self._document = {"embedding": vector(text, int(body.get("dimensions") or SIZE))}
            if self._behaviour.usage != "none":
                self._document["inputTextTokenCount"] = tokens([text])
            return text
        asked = body["singleEmbeddingParams"]
        text = asked["text"]["value"]
        row = vector(text, int(asked.get("embeddingDimension") or SIZE))
        self._document = {"embeddings": [{"embeddingType": "TEXT", "embedding": row}]}
        return text

    def body(self) -> bytes:
        """The whole answer."""
        return orjson.dumps(self._document)

    def events(self) -> Iterator[bytes]:
        """None of these is streamed."""
        return iter(())
