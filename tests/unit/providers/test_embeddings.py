"""Vectors of other formats are OpenAI's embeddings, one for each input."""

import base64
import struct
from typing import Any

import orjson
import pytest
from tests.unit.providers.calls import call_of

from sluice_core.usage.model import Usage
from sluice_providers.adapter import EmptyError, MalformedError
from sluice_providers.chat_answer import embeddings
from sluice_providers.port import Call


def call(**body: Any) -> Call:
    return call_of("openai", body, operation="embeddings")


def test_floats_and_base64() -> None:
    usage = Usage(input_tokens=3)
    plain = orjson.loads(embeddings(call(input="x"), [[1, 0.5]], usage=usage).body)
    assert plain["data"] == [{"object": "embedding", "index": 0, "embedding": [1.0, 0.5]}]
    assert plain["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    asked = call(input=["x"], encoding_format="base64")
    coded = orjson.loads(embeddings(asked, [[1, 0.5]], usage=None).body)
    assert "usage" not in coded
    packed = base64.b64decode(coded["data"][0]["embedding"])
    assert struct.unpack("<2f", packed) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("vectors", "error"),
    [
        ([], EmptyError),
        ([[1.0], [2.0]], MalformedError),
        ([["a"]], MalformedError),
        ([7], MalformedError),
    ],
)
def test_what_is_no_list_of_vectors(vectors: list[Any], error: type[Exception]) -> None:
    for form in ("float", "base64"):
        with pytest.raises(error):
            embeddings(call(input="x", encoding_format=form), vectors, usage=None)
