"""Deltas: the first at once, later ones gathered, in order, none after an early answer."""

import orjson
from tests.unit.worker.worker_world import ORIGIN, Paper, flight, requester
from tests.waiting import eventually

from sluice_schemas.results import Delta
from sluice_worker.flight import Flight
from sluice_worker.stream import Deltas


def streaming() -> Flight:
    made = flight(streams=True, attempt=1)
    made.requester = requester()
    return made


def chunk(number: int) -> bytes:
    return b'{"n":%d}' % number


async def test_the_first_chunk_goes_at_once_and_the_rest_together() -> None:
    paper, streamed = Paper(), streaming()
    take = Deltas(paper, ORIGIN).channel(streamed)  # type: ignore[arg-type]
    assert take is not None
    take([chunk(0)])
    assert len(paper.sent) == 1
    for number in range(1, 6):
        take([chunk(number)])
    assert len(paper.sent) == 1
    await eventually(lambda: len(paper.sent) == 2)
    take([chunk(6)])
    assert streamed.flush is not None
    streamed.flush()
    streamed.flush()
    deltas = [Delta.model_validate_json(message.value or b"") for message in paper.sent]
    assert [delta.seq for delta in deltas] == [0, 1, 2]
    assert {delta.attempt for delta in deltas} == {1}
    assert [c for delta in deltas for c in delta.chunks] == [{"n": n} for n in range(7)]
    assert streamed.deltas == 3


async def test_streams_that_gather_at_once_go_out_together() -> None:
    paper = Paper()
    deltas = Deltas(paper, ORIGIN)  # type: ignore[arg-type]
    flights = [streaming() for _ in range(3)]
    takes = [deltas.channel(one) for one in flights]
    for take in takes:
        assert take is not None
        take([chunk(0)])
        take([chunk(1)])
        take([chunk(2)])
    assert flights[0].flush is not None
    flights[0].flush()
    assert len(paper.sent) == 4
    await eventually(lambda: len(paper.sent) == 6)
    assert [one.deltas for one in flights] == [2, 2, 2]
    chunks = [Delta.model_validate_json(message.value or b"").chunks for message in paper.sent[3:]]
    assert chunks == [[{"n": 1}, {"n": 2}]] * 3


async def test_no_delta_follows_an_early_answer() -> None:
    paper, streamed = Paper(), streaming()
    take = Deltas(paper, ORIGIN).channel(streamed)  # type: ignore[arg-type]
    assert take is not None
    take([chunk(0)])
    take([chunk(1)])
    streamed.answered = True
    assert streamed.flush is not None
    streamed.flush()
    take([chunk(2)])
    streamed.flush()
    assert [orjson.loads(m.value or b"")["seq"] for m in paper.sent] == [0]
    assert streamed.deltas == 1


async def test_nobody_listens_where_no_reply_goes_or_nothing_streams() -> None:
    deltas = Deltas(Paper(), ORIGIN)  # type: ignore[arg-type]
    silent = streaming()
    silent.requester = requester(reply_to=None)
    assert deltas.channel(silent) is None
    assert deltas.channel(flight(streams=False)) is None
