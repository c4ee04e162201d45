"""Which requests are the same, who is answered from the cache, and a stored answer as a stream."""

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletionChunk

from sluice_core.caching.policy import CacheRules, cache_key, chunks_of
from sluice_core.config.load import parse_config
from sluice_core.jobs.model import Facts
from sluice_providers.assembly import ChatAssembly

SAID = [{"role": "user", "content": "hello"}]


def key(tenant: str = "acme", model: str = "fast", **body: Any) -> bytes:
    request = {"model": model, "messages": SAID, **body}
    return cache_key(Facts(tenant=tenant, model=model), orjson.dumps(request))


def test_what_is_asked_counts_and_how_it_is_delivered_does_not() -> None:
    same = key()
    assert len(same) == 32
    assert (
        key(stream=True, stream_options={"include_usage": True}, user="u", metadata={"a": "b"})
        == same
    )
    assert (
        cache_key(
            Facts(tenant="acme", model="fast"), orjson.dumps({"messages": SAID, "model": "fast"})
        )
        == same
    )
    for other in (
        key(temperature=0.5),
        key(messages=[{"role": "user", "content": "hello "}]),
        key(messages=[{"role": "system", "content": "x"}, *SAID]),
        key(tools=[]),
        key(model="smart"),
        key(tenant="other"),
        key(n=2),
    ):
        assert other != same


def test_a_tenant_cannot_be_written_so_that_it_is_another() -> None:
    body = orjson.dumps({"messages": SAID})
    one = cache_key(Facts(tenant="a", model="b/c"), body)
    other = cache_key(Facts(tenant="a/b", model="c"), body)
    assert one != other


CONFIG = """
providers: {a: {kind: openai, base_url: "http://a"}}
cache: {ttl: 10m}
models:
  plain: {targets: [{account: a}]}
  kept: {targets: [{account: a}], cache: {mode: exact, ttl: 5s}}
  short: {targets: [{account: a}], cache: exact}
tenants: {acme: {}, saver: {cache: exact}, never: {cache: off}}
"""


@pytest.mark.parametrize(
    ("tenant", "model", "job", "ttl_s"),
    [
        ("acme", "plain", None, None),
        ("acme", "plain", "exact", 600.0),
        ("acme", "kept", None, 5.0),
        ("acme", "kept", "off", None),
        ("acme", "short", None, 600.0),
        ("saver", "plain", None, 600.0),
        ("saver", "plain", "off", None),
        ("saver", "kept", None, 5.0),
        ("never", "kept", None, None),
        ("never", "kept", "exact", 5.0),
        ("acme", "another", None, None),
    ],
)
def test_a_job_comes_before_its_tenant_and_that_before_its_model(
    tenant: str, model: str, job: str | None, ttl_s: float | None
) -> None:
    rules = CacheRules(parse_config(CONFIG, {}))
    assert rules.ttl_s(Facts(tenant=tenant, model=model, cache=job)) == ttl_s
    asked = Facts(tenant=tenant, model=model, cache=job, operation="responses")
    assert rules.ttl_s(asked) is None


WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 7,
    "model": "fast",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        },
        {
            "index": 1,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "d", "type": "function", "function": {"name": "g", "arguments": "[]"}},
                ],
            },
            "finish_reason": "tool_calls",
        },
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def test_a_stream_says_what_the_whole_answer_says() -> None:
    chunks = [orjson.loads(chunk) for chunk in chunks_of(orjson.dumps(WHOLE), usage_asked=True)]
    assembly = ChatAssembly()
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
        assembly.add(chunk)
    assert chunks[-1]["usage"] == WHOLE["usage"]
    whole = assembly.whole(chunks[-1]["usage"])
    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert texts == ["Hi", None]
    calls = whole["choices"][1]["message"]["tool_calls"]
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls] == [
        ("c", "f", "{}"),
        ("d", "g", "[]"),
    ]
    assert [choice["finish_reason"] for choice in whole["choices"]] == ["stop", "tool_calls"]
    assert all(
        "usage" not in c
        for c in map(orjson.loads, chunks_of(orjson.dumps(WHOLE), usage_asked=False))
    )


def test_a_caller_with_a_lower_bound_is_not_answered_for_one_with_a_higher() -> None:
    facts, body = Facts(tenant="acme", model="fast"), orjson.dumps({"messages": SAID})
    keys = {cache_key(facts, body, most=most) for most in (None, 16, 4096)}
    assert len(keys) == 3


def test_an_arm_of_an_experiment_is_not_answered_with_anothers() -> None:
    facts, body = Facts(tenant="acme", model="fast"), orjson.dumps({"messages": SAID})
    assert len({cache_key(facts, body, arm=arm) for arm in (None, "a", "b")}) == 3
