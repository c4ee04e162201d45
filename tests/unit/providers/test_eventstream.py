"""AWS's binary frames are read however they are cut, and refused where a checksum is wrong."""

import contextlib

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from sluice_devstack.mock_provider.bedrock_form import frame
from sluice_providers.eventstream import EventStreamParser
from sluice_providers.sse import BrokenEventError, Event, EventTooLargeError

EMPTY = bytes.fromhex("000000100000000005c248eb7d98c8ff")
"""The empty message of AWS's published vectors."""
ONE = frame({"a": 1}, event_type="messageStart", message_type="event")


def test_the_published_message() -> None:
    assert list(EventStreamParser(limit=100).feed(EMPTY)) == [Event(b"", b"")]


def test_events_exceptions_and_errors() -> None:
    stream = (
        ONE
        + frame({"message": "slow"}, exception_type="throttlingException", message_type="exception")
        + frame({}, error_code="500", error_message="oh", message_type="error")
    )
    assert list(EventStreamParser(limit=1000).feed(stream)) == [
        Event(b"messageStart", b'{"a":1}'),
        Event(b"!throttlingException", b'{"message":"slow"}'),
        Event(b"!500", b'{"message":"oh"}'),
    ]


@given(st.lists(st.text(max_size=5), max_size=5), st.data())
def test_frames_are_read_however_they_are_cut_and_as_botocore_reads_them(
    texts: list[str], data: st.DataObject
) -> None:
    stream = b"".join(
        frame({"t": text}, event_type=f"e{n}", message_type="event") for n, text in enumerate(texts)
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    parser, found = EventStreamParser(limit=1000), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += parser.feed(stream[start:end])
    theirs = EventStreamBuffer()
    theirs.add_data(stream)
    assert found == [
        Event(message.headers[":event-type"].encode(), message.payload) for message in theirs
    ]


@given(st.integers(0, len(ONE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found(place: int, change: int) -> None:
    broken = bytearray(ONE)
    broken[place] ^= change
    with pytest.raises(BrokenEventError):
        list(EventStreamParser(limit=10**9).feed(bytes(broken)))


@given(st.binary(min_size=12, max_size=40))
def test_garbage_raises_nothing_else(garbage: bytes) -> None:
    with contextlib.suppress(BrokenEventError, EventTooLargeError):
        list(EventStreamParser(limit=100).feed(garbage))


def test_a_message_has_a_limit() -> None:
    with pytest.raises(EventTooLargeError):
        list(EventStreamParser(limit=20).feed(ONE))


def test_what_comes_before_a_broken_frame_in_the_same_read_is_given() -> None:
    events = EventStreamParser(limit=1000).feed(ONE + b"x" * 20)
    assert next(iter(events)).kind == b"messageStart"
    with pytest.raises(BrokenEventError):
        list(events)
