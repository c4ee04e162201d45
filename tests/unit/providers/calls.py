"""Calls and targets of which only what matters to a test is said."""

from typing import Any
from uuid import UUID

import orjson

from sluice_providers.port import Call, Target


def target_of(kind: str, **said: Any) -> Target:
    """A target of a kind of wire format; `said` are the fields of `Target` that matter."""
    plain = {
        "account": "a",
        "provider": kind,
        "base_url": "http://x",
        "model": "m",
        "model_requested": "fast",
    }
    return Target(kind=kind, **plain | said)


def call_of(
    kind: str,
    body: dict[str, Any] | None = None,
    *,
    operation: Any = "chat",
    stream: bool = False,
    api_key: str = "",
    **said: Any,
) -> Call:
    """A call of one attempt; `said` is of its target."""
    return Call(
        job_id=UUID(int=1),
        attempt=1,
        operation=operation,
        body=orjson.dumps(body or {}),
        stream=stream,
        target=target_of(kind, **said),
        deadline=9.0,
        answer_bytes_limit=1000,
        api_key=api_key,
    )
