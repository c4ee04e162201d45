from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from sluice_cli.dead_letters import QUARANTINE, read_letter, replayed_headers

_OURS: list[tuple[str, bytes | None]] = [
    ("sluice-error-code", b"invalid_record"),
    ("sluice-error-message", b"not JSON"),
    ("sluice-source-topic", b"llm.jobs.bulk.v1"),
    ("sluice-source-partition", b"2"),
    ("sluice-source-offset", b"17"),
]


@dataclass(frozen=True)
class _Record:
    headers: list[tuple[str, bytes | None]]
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    partition: int = 1
    offset: int = 5
    timestamp: int = 1_700_000_000_000
    extra: dict[str, str] = field(default_factory=dict)


def test_a_letter_says_where_it_came_from() -> None:
    letter = read_letter(_Record([("x", b"\xff"), ("y", None), *_OURS]))
    assert letter.place == "1/5"
    assert letter.origin == ("llm.jobs.bulk.v1", 2, 17)
    assert (letter.code, letter.redrives) == ("invalid_record", 0)
    assert replayed_headers(letter) == [
        ("x", b"\xff"),
        ("y", None),
        ("sluice-redrive-count", b"1"),
    ]


def test_the_count_goes_up_and_then_it_is_quarantined() -> None:
    letter = read_letter(_Record([("sluice-redrive-count", b"3"), *_OURS]))
    assert replayed_headers(letter) == [("sluice-redrive-count", b"4")]
    assert letter.redrives == QUARANTINE
    assert "quarantined" in (letter.refusal(force=False, replayed=False) or "")
    assert letter.refusal(force=True, replayed=False) is None


def test_what_was_sent_back_is_not_sent_again_by_itself() -> None:
    letter = read_letter(_Record(_OURS))
    assert letter.refusal(force=False, replayed=False) is None
    assert "already" in (letter.refusal(force=False, replayed=True) or "")


def test_a_header_of_ours_that_the_record_brought_itself_goes_back_with_it() -> None:
    letter = read_letter(_Record([("sluice-error-code", b"its own"), ("x", b"1"), *_OURS]))
    assert letter.code == "invalid_record"
    assert replayed_headers(letter)[:2] == [("sluice-error-code", b"its own"), ("x", b"1")]


def test_a_null_record_goes_back_empty_and_a_stranger_stays() -> None:
    null = read_letter(_Record([*_OURS, ("sluice-source-null", b"true")], key=None, value=b""))
    assert (null.key, null.sent_value) == (None, b"")
    assert read_letter(_Record([])).refusal(force=True, replayed=False) is not None


_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["x", "sluice-redrive-count", "sluice-source-offset", "sluice-error-code"]),
        st.none() | st.binary(max_size=30),
    ),
    max_size=8,
)


@given(_HEADERS)
def test_no_header_breaks_the_reading(headers: list[tuple[str, bytes | None]]) -> None:
    letter = read_letter(_Record(headers))
    assert replayed_headers(letter)[-1][0] == "sluice-redrive-count"
    assert letter.described()["source_offset"] >= 0
