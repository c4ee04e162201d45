"""What a job asks for, read from its body's bytes."""

import orjson
import pytest

from sluice_worker.asking import asked_tier


@pytest.mark.parametrize(
    ("body", "tier"),
    [
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "auto"}, None),
        ({"service_tier": 5}, None),
        ({"service_tier": "FLEX"}, None),
        ({"metadata": {"service_tier": "flex"}}, None),
        ({"metadata": {"service_tier": "flex"}, "service_tier": "priority"}, "priority"),
        ({"messages": [{"role": "user", "content": '"service_tier":"flex"'}]}, None),
        ({}, None),
    ],
)
def test_a_tier_is_the_requests_own_field_alone(body: dict[str, object], tier: str | None) -> None:
    assert asked_tier(orjson.dumps(body)) == tier
