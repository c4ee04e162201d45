"""Money and times on the wire: exact, bounded, and the same after a round trip."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_schemas.money import format_usd, parse_usd
from sluice_schemas.times import format_time, parse_time


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0", 0),
        ("0.000023550", 23_550),
        ("1", 1_000_000_000),
        ("1.", 1_000_000_000),
        (".5", 500_000_000),
        ("007", 7_000_000_000),
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("0.00000000250001", 3),
        ("99999999999999999999", 99_999_999_999_999_999_999 * 10**9),
    ],
)
def test_dollars_are_read_half_even(text: str, nano: int) -> None:
    assert parse_usd(text) == nano


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-1",
        "+1",
        "1e3",
        "0x1",
        "1,5",
        " 1",
        "1 ",
        "1\n",
        "NaN",
        "Infinity",
        "١",
        "1" * 129,
    ],
)
def test_other_texts_are_no_money(text: str) -> None:
    with pytest.raises(ValueError, match="not a non-negative decimal"):
        parse_usd(text)


@given(st.integers(0, 2**70))
def test_money_round_trip(nano: int) -> None:
    text = format_usd(nano)
    assert parse_usd(text) == nano
    assert len(text.partition(".")[2]) == 9
    assert Fraction(text) == Fraction(nano, 10**9)


def test_a_correction_may_be_negative() -> None:
    assert format_usd(-1) == "-0.000000001"
    assert format_usd(-1_500_000_000) == "-1.500000000"


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01t01:00:00.5+01:00", 0.5),
        ("1969-12-31T23:59:59z", -1.0),
        ("2016-12-31T23:59:60Z", 1483228800.0),
        ("2026-11-23T12:00:00.123456789-05:30", 1795455000.123456789),
    ],
)
def test_times_are_read_with_their_offset(text: str, epoch: float) -> None:
    assert parse_time(text) == pytest.approx(epoch, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "2026-11-23", "2026-11-23T12:00:00", "2026-11-23T12:00Z", "2026-13-01T00:00:00Z",
     "2026-11-23T24:00:00Z", "2026-11-23T12:00:00+25:00", "2026-11-23T12:00:00Z\n", "20261123T120000Z"],
)  # fmt: skip
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_time(text)


@given(st.integers(0, 4_000_000_000_000_000))
def test_time_round_trip(microseconds: int) -> None:
    text = format_time(microseconds / 1_000_000)
    assert text.endswith("Z")
    assert len(text) == 27
    assert parse_time(text) == pytest.approx(microseconds / 1_000_000, abs=2e-6)
