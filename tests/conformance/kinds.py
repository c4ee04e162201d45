"""What the wire formats differ in, so that the same cases can be asked of all."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One wire format. `stops` are its stop reasons and what becomes of them; `started` is after how many of the
    mock's events something has been handed out; `counters` are the counters that it has beside input and output;
    `embedder` is the model that embeds where its name says how."""

    model: str
    stops: Mapping[str, str]
    started: int
    counters: frozenset[str]
    remote_images: bool = True
    one_call: bool = True
    embeds: bool = False
    embedder: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    reasons: bool = False
    requires: bool = True


KINDS: dict[str, Kind] = {
    "openai": Kind(
        model="gpt-4o-mini",
        stops={"stop": "stop", "length": "length", "content_filter": "content_filter"},
        started=3,
        counters=frozenset({"cached", "reasoning"}),
        embeds=True,
    ),
    "azure": Kind(
        model="gpt-4o-mini",
        stops={"stop": "stop", "length": "length", "content_filter": "content_filter"},
        started=4,
        counters=frozenset({"cached", "reasoning"}),
        embeds=True,
    ),
    "anthropic": Kind(
        model="claude-sonnet-4-5",
        stops={
            "end_turn": "stop",
            "stop_sequence": "stop",
            "max_tokens": "length",
            "model_context_window_exceeded": "length",
            "refusal": "content_filter",
        },
        started=5,
        counters=frozenset({"cached", "cache_write"}),
    ),
    "gemini": Kind(
        model="gemini-2.5-flash",
        stops={
            "STOP": "stop",
            "MAX_TOKENS": "length",
            "SAFETY": "content_filter",
            "RECITATION": "content_filter",
            "OTHER": "stop",
        },
        started=1,
        counters=frozenset({"cached", "reasoning"}),
        one_call=False,
        embeds=True,
        reasons=True,
    ),
    "ollama": Kind(
        model="qwen3",
        stops={"stop": "stop", "length": "length"},
        started=1,
        counters=frozenset(),
        remote_images=False,
        one_call=False,
        embeds=True,
        reasons=True,
        requires=False,
    ),
    "bedrock": Kind(
        model="us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        stops={
            "end_turn": "stop",
            "stop_sequence": "stop",
            "max_tokens": "length",
            "model_context_window_exceeded": "length",
            "content_filtered": "content_filter",
            "guardrail_intervened": "content_filter",
        },
        started=2,
        counters=frozenset({"cached", "cache_write"}),
        remote_images=False,
        one_call=False,
        embeds=True,
        embedder="global.cohere.embed-v4:0",
        reasons=True,
    ),
    "cohere": Kind(
        model="command-a-03-2025",
        stops={"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length"},
        started=3,
        counters=frozenset({"cached"}),
        one_call=False,
        embeds=True,
        reasons=True,
    ),
}
KINDS["vertex"] = replace(KINDS["gemini"], options={"project": "p-1", "region": "europe-west4"})
