"""What answers say: rate headers, pauses, pace, and how long answers are."""

import itertools

import pytest

from sluice_core.admission.expectations import FIRST_OUTPUT, Expectations
from sluice_core.admission.pressure import CUT_SLOW, LONGEST_COOL_S, Pace, cool_until
from sluice_core.pricing.bounds import DEFAULT_MAX_OUTPUT, bound
from sluice_core.pricing.model import PriceEntry
from sluice_providers.quota import LONGEST_S, exhausted_s

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
FREE = PriceEntry(provider="p", model="m", rates=(), price_version="v")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "9s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2.5"}, 2.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "nan"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:30Z",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:10Z",
            },
            30,
        ),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9d"}, LONGEST_S),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "-4"}, 0),
    ],
)
def test_a_used_up_rate_says_when_it_is_whole_again(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert exhausted_s(headers, now=NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("status", "retry_after", "exhausted", "pause"),
    [
        (200, None, None, None),
        (200, None, 4.0, 4.0),
        (429, 7.0, None, 7.0),
        (429, 7.0, 9.0, 9.0),
        (429, None, None, 1.0),
        (529, None, None, 1.0),
        (503, None, None, None),
        (503, 3.0, None, None),
        (500, 3.0, None, None),
        (None, None, None, None),
    ],
)
def test_a_target_is_left_alone_as_long_as_it_asks(
    status: int | None, retry_after: float | None, exhausted: float | None, pause: float | None
) -> None:
    until = cool_until(status, retry_after_s=retry_after, exhausted_s=exhausted, now=NOW)
    assert until == (None if pause is None else NOW + pause)


def test_an_account_that_becomes_slow_is_noticed_and_one_long_answer_is_not() -> None:
    pace, clock = Pace(), itertools.count()

    def after(provider_ms: int) -> float:
        return pace.pressure(provider_ms, 100, now=next(clock) / 10)

    assert {after(500) for _ in range(200)} == {1.0}
    assert after(6_000) == 1.0
    assert {after(500) for _ in range(20)} == {1.0}
    assert [after(5_000) for _ in range(40)][-1] == CUT_SLOW
    assert [after(500) for _ in range(40)][-1] == 1.0
    # What stays slow is the new usual: it must not be throttled down to nothing.
    assert [after(5_000) for _ in range(900)][-1] == 1.0


def test_answers_are_expected_as_long_as_recent_ones() -> None:
    expectations = Expectations()

    def expected(tenant: str = "acme", most: int = 4_000) -> int:
        return expectations.tokens(tenant, "fast", body_bytes=400, most_output=most)

    assert expected() == 101 + FIRST_OUTPUT
    expectations.learn("acme", "fast", 1_000)
    assert expected() == 101 + 1_000
    for _ in range(100):
        expectations.learn("acme", "fast", 20)
    assert expected() == 101 + 20
    assert expected("other") == 101 + 20  # until it has its own
    assert expected("other", most=5) == 101 + 5
    assert expectations.knows("fast")
    assert not expectations.knows("slow")
    assert expectations.output_tokens("acme", "slow", most_output=4_000) == FIRST_OUTPUT


@pytest.mark.parametrize(
    ("body", "output", "extra", "endless"),
    [
        (b'{"messages":[]}', DEFAULT_MAX_OUTPUT, 0, None),
        (b'{"max_tokens":7,"n":3}', 21, 0, None),
        (b'{"max_completion_tokens":5,"max_tokens":9}', 9, 0, None),
        (b'{"image_url":{"detail":"low","url":"https://a/b"}}', DEFAULT_MAX_OUTPUT, 900, None),
        (b'{"image_url":{"url":"data:image/png;base64,AA"}}', DEFAULT_MAX_OUTPUT, 0, None),
        (b'{"image_url":{"url":"HTTPS://a/b"}}', DEFAULT_MAX_OUTPUT, 900, None),
        (b'{"image_url":{"url":" https://a/b"}}', DEFAULT_MAX_OUTPUT, 900, None),
        (b'{"image_url":"https://a/b"}', DEFAULT_MAX_OUTPUT, 900, None),
        (b'{"image_url":"data:image/png;base64,AA"}', DEFAULT_MAX_OUTPUT, 0, None),
        (b'{"file":{"file_id":"f1"}}', DEFAULT_MAX_OUTPUT, 0, "a remote file"),
        (b'{"previous_response_id":"r"}', DEFAULT_MAX_OUTPUT, 0, "an earlier answer"),
        (b'{"web_search_options":{}}', DEFAULT_MAX_OUTPUT, 0, "a search"),
        (b'{"max_output_tokens":5}', 5, 0, None),
        (b'{"input":[{"type":"input_image","image_url":"https://a/b"}]}', DEFAULT_MAX_OUTPUT, 900, None),
        (b'{"input":[{"type":"input_file","file_url":"https://a/b"}]}', DEFAULT_MAX_OUTPUT, 0, "a remote file"),
        (b'{"conversation":"c1","input":"x"}', DEFAULT_MAX_OUTPUT, 0, "a conversation"),
        (b'{"prompt":{"id":"p1"}}', DEFAULT_MAX_OUTPUT, 0, "a prompt"),
        (b'{"tools":[{"type":"web_search_preview"}]}', DEFAULT_MAX_OUTPUT, 0, "a tool that the provider runs"),
        (b'{"tools":[{"type":"function","parameters":{"properties":{"prompt":{"type":"string"}}}}]}', DEFAULT_MAX_OUTPUT, 0, None),
    ],
)  # fmt: skip
def test_a_request_is_bounded_by_its_bytes_and_what_it_refers_to(
    body: bytes, output: int, extra: int, endless: str | None
) -> None:
    items = {"image": 900, "file": None}
    found = bound(body, FREE, default_max_tokens=None, item_tokens=items)
    assert found.output_tokens == output
    assert found.input_tokens == len(body) + extra
    assert (found.endless or "").startswith(endless or "")
    assert (found.endless is None) == (endless is None)
    assert found.named_output == (b"max_" in body)


@pytest.mark.parametrize("said", [7200.0, 1e12, 1e300])
def test_no_answer_cools_a_target_for_longer_than_an_hour(said: float) -> None:
    assert cool_until(429, retry_after_s=said, exhausted_s=None, now=NOW) == NOW + LONGEST_COOL_S
