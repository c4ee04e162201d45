"""Pure: when two requests are the same, whether a job may be answered from the cache, and an answer as a stream."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

import orjson

from sluice_core.config.caching import ModelCache
from sluice_core.config.model import Config
from sluice_core.jobs.model import Facts

_ASIDE: Final = frozenset(
    {
        "stream",
        "stream_options",
        "user",
        "safety_identifier",
        "metadata",
        "store",
        "prompt_cache_key",
        "prompt_cache_retention",
        "service_tier",
    }
)
"""Fields that say how an answer is delivered or who asks, not what is asked."""


def cache_key(
    facts: Facts, body: bytes, *, most: int | None = None, arm: str | None = None
) -> bytes:
    """What a request is known by: 32 bytes over tenant, operation, model and the request in canonical form.

    The tenant is in it, so that no tenant is answered with another's; `most`, too, the output tokens that are sent
    where the request names none: a caller with a lower bound gets shorter answers. `arm` is that of a split: an
    experiment's answers are its arm's own.
    """
    head = orjson.dumps([facts.tenant, facts.operation, facts.model, most, arm])
    asked = orjson.dumps(canonical(body), option=orjson.OPT_SORT_KEYS)
    return sha256(head + b"\n" + asked).digest()


def canonical(body: bytes) -> dict[str, Any]:
    """A request without what says how its answer is delivered or who asks."""
    return {name: value for name, value in orjson.loads(body).items() if name not in _ASIDE}


class CacheRules:
    """Who is answered from the cache: a job's own word, else its tenant's, else its model's."""

    def __init__(self, config: Config) -> None:
        self._models = {name: model.cache for name, model in config.models.items()}
        self._tenants = {n: t.cache for n, t in config.tenants.items() if t.cache is not None}
        self._ttl = config.cache.ttl
        self.entry_bytes = config.cache.entry_bytes
        self.semantic = config.cache.semantic
        self._used = bool(self._tenants) or any(m.mode != "off" for m in self._models.values())

    def ttl_s(self, facts: Facts) -> float | None:
        """How long the job's answer is kept, in seconds; None: it is neither looked for nor kept."""
        if not self._used and facts.cache is None:
            return None
        # A response has an id by which its provider goes on from it: given out twice, it would be two jobs' own.
        if self._mode(facts) == "off" or facts.operation == "responses":
            return None
        model = self._model(facts)
        return self._ttl if model is None or model.ttl is None else model.ttl

    def by_meaning(self, facts: Facts) -> bool:
        """Whether the job may also be answered with what was answered to words that mean the same."""
        return self.semantic is not None and self._mode(facts) == "semantic"

    def _mode(self, facts: Facts) -> str:
        model = self._model(facts)
        return facts.cache or self._tenants.get(facts.tenant) or (model.mode if model else "off")

    def _model(self, facts: Facts) -> ModelCache | None:
        return self._models.get(facts.model or "") or self._models.get("*")


def chunks_of(body: bytes, *, usage_asked: bool) -> list[bytes]:
    """A whole chat answer as the chunks of a stream that says the same, in OpenAI's form."""
    document = orjson.loads(body)
    head = {name: document.get(name) for name in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk"
    chunks = [
        orjson.dumps({**head, "choices": [choice]})
        for given in document.get("choices") or ()
        for choice in _choice_chunks(given)
    ]
    if usage_asked and document.get("usage"):
        chunks.append(orjson.dumps({**head, "choices": [], "usage": document["usage"]}))
    return chunks


def _choice_chunks(choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    index = choice.get("index", 0)
    message = {k: v for k, v in (choice.get("message") or {}).items() if v is not None}
    calls = message.get("tool_calls")
    if calls:
        message["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
    rest = {k: v for k, v in choice.items() if k not in {"index", "message", "finish_reason"}}
    yield {"index": index, "delta": message, **rest, "finish_reason": None}
    yield {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}
