"""Refusals are told apart and waiting times are read."""

import json
from email.utils import formatdate

import pytest

from sluice_core.jobs.fates import FailureKind
from sluice_providers.anthropic import AnthropicAdapter
from sluice_providers.errors import hide_key, retry_after_s
from sluice_providers.openai import OpenAIAdapter
from sluice_providers.registry import adapter_for

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3.0),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, now=NOW) == expected


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            400,
            b'{"error":{"message":"x","code":"context_length_exceeded"}}',
            FailureKind.CONTEXT_LENGTH,
        ),
        (
            400,
            b'{"error":{"message":"This model\'s maximum context length is 8 tokens"}}',
            FailureKind.CONTEXT_LENGTH,
        ),
        (
            400,
            b'{"object":"error","message":"maximum context length is 8","code":400}',
            FailureKind.CONTEXT_LENGTH,
        ),
        (400, b'{"error":{"message":"x","code":"content_filter"}}', FailureKind.CONTENT_POLICY),
        (500, b'{"error":{"message":"maximum context length"}}', FailureKind.STATUS_ERROR),
        (404, b'{"error":"model not found"}', FailureKind.STATUS_ERROR),
        (422, b'{"detail":[{"msg":"bad"}]}', FailureKind.STATUS_ERROR),
        (502, b"<html>Bad Gateway</html>", FailureKind.STATUS_ERROR),
        (503, b"", FailureKind.STATUS_ERROR),
        (400, b"[1]", FailureKind.STATUS_ERROR),
        (400, b"\xff\xfe", FailureKind.STATUS_ERROR),
        (400, b'{"error":null}', FailureKind.STATUS_ERROR),
    ],
)
def test_openai_refusals(status: int, body: bytes, kind: FailureKind) -> None:
    for adapter in (OpenAIAdapter(), AnthropicAdapter()):
        refusal = adapter.refusal(status, body)
        if isinstance(adapter, OpenAIAdapter):
            assert refusal.kind is kind
        assert refusal.message
        assert b'"error"' in refusal.body


def test_anthropics_too_long_prompt() -> None:
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}'
    refusal = AnthropicAdapter().refusal(400, body)
    assert refusal.kind is FailureKind.CONTEXT_LENGTH
    assert b'"message":"prompt is too long: 9 > 8"' in refusal.body


def test_an_unknown_kind_lists_the_known() -> None:
    with pytest.raises(LookupError, match="anthropic.*openai"):
        adapter_for("nobody")


@pytest.mark.parametrize("key", ["sk-secret/+=", 'odd"key\\end', "schlüssel-1"])
@pytest.mark.parametrize("nested", [0, 1, 2])
def test_a_key_is_hidden_however_json_writes_it(key: str, nested: int) -> None:
    escaped = "".join(f"\\u{ord(character):04X}" for character in key)
    for written in (json.dumps(key), json.dumps(key).replace("/", "\\/"), f'"{escaped}"'):
        text = f'{{"error": {{"message": {written}}}}}'
        for _ in range(nested):
            text = json.dumps({"error": {"message": text}})
        hidden = hide_key(text.encode(), key).decode()
        document = json.loads(hidden)
        for _ in range(nested):
            document = json.loads(document["error"]["message"])
        assert document == {"error": {"message": "[key]"}}


def test_hiding_a_key_takes_no_long_time_and_changes_nothing_else() -> None:
    hostile = b"\\" * 200_000 + b"sk-secre"
    assert hide_key(hostile, "sk-secret") == hostile
    assert hide_key(b"anything", "") == b"anything"
