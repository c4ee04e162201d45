"""The event parser gives the same events however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_providers.sse import Event, EventTooLargeError, SseParser

_LINE = st.binary(max_size=12).filter(lambda line: b"\n" not in line and b"\r" not in line)
_EVENTS = st.lists(st.tuples(_LINE, st.lists(_LINE, min_size=1, max_size=3)), max_size=6)


def _wire(events: list[tuple[bytes, list[bytes]]], ends: list[bytes]) -> bytes:
    lines = []
    for kind, data in events:
        lines.append(b": a comment")
        if kind:
            lines.append(b"event: " + kind)
        lines += [b"data: " + line for line in data]
        lines += [b"id: 7", b""]
    return b"".join(line + ends[number % len(ends)] for number, line in enumerate(lines))


@given(
    events=_EVENTS,
    ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=30),
)
def test_any_cut_gives_the_same_events(
    events: list[tuple[bytes, list[bytes]]], ends: list[bytes], cuts: list[int]
) -> None:
    # A line end of CR before an empty line's LF would read as one CRLF, so ends are mixed by event only.
    wire = b"".join(
        _wire([event], [ends[number % len(ends)]]) for number, event in enumerate(events)
    )
    if b"\r" in ends and b"\n" in ends:
        wire = _wire(events, [b"\r\n"])
    parser, found, at, step = SseParser(limit=10_000), [], 0, 0
    while at < len(wire):
        size = cuts[step % len(cuts)]
        found += parser.feed(wire[at : at + size])
        at, step = at + size, step + 1
    assert found == [Event(kind, b"\n".join(data)) for kind, data in events]


@given(chunks=st.lists(st.binary(max_size=40), max_size=20))
def test_arbitrary_bytes_never_break_it(chunks: list[bytes]) -> None:
    parser, whole = SseParser(limit=10_000), SseParser(limit=10_000)
    cut = [event for chunk in chunks for event in parser.feed(chunk)]
    assert cut == whole.feed(b"".join(chunks))


def test_fields() -> None:
    parser = SseParser(limit=1_000)
    assert parser.feed(b"\xef\xbb\xbfdata:a\ndata: b\ndata\n\n") == [Event(b"", b"a\nb\n")]
    assert parser.feed(b"event: ping\n\n") == []
    assert parser.feed(b"event:x\ndata:  two\nretry: 5\n\ndata: unfinished") == [
        Event(b"x", b" two")
    ]


def test_an_event_in_one_piece_joins_what_came_before() -> None:
    whole = b"data: b\n\n"
    for before, found in (
        (b"", Event(b"", b"b")),
        (b"data: a\n", Event(b"", b"a\nb")),
        (b"event: x\n", Event(b"x", b"b")),
        (b": comment", None),
        (b": comment\r", Event(b"", b"b")),
        (b"data: a", Event(b"", b"adata: b")),
    ):
        parser = SseParser(limit=100)
        assert parser.feed(before) == []
        assert parser.feed(whole) == ([] if found is None else [found])


def test_an_event_is_bounded_and_comments_are_not_counted() -> None:
    parser = SseParser(limit=100)
    for _ in range(100):
        assert parser.feed(b": keep-alive, keep-alive\n\n") == []
    with pytest.raises(EventTooLargeError):
        parser.feed(b"data: " + b"x" * 101)
    lines = SseParser(limit=100)
    with pytest.raises(EventTooLargeError):
        for _ in range(20):
            lines.feed(b"data: 0123456789\n")


def test_a_long_line_in_small_pieces_is_linear() -> None:
    parser = SseParser(limit=10_000_000)
    for _ in range(20_000):
        assert parser.feed(b"data: x" * 40) == []
    assert len(parser.feed(b"\n\n")) == 1
