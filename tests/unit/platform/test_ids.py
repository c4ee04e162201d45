import time
from uuid import RFC_4122

from sluice_platform.ids import uuid7


def test_version_variant_and_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == RFC_4122
    assert before <= made.int >> 80 <= after


def test_unique_and_in_order_of_time() -> None:
    made = [uuid7() for _ in range(10_000)]
    assert len(set(made)) == len(made)
    heads = [identifier.int >> 64 for identifier in made]
    assert heads == sorted(heads)
