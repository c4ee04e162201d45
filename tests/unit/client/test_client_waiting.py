"""Routing of replies, streams with missing or repeated pieces, maps: all without a broker."""

import asyncio
from typing import Any

import orjson
import pytest

from sluice_client import JobFailed, NotAccepted, ReplyTimeout, Stream, StreamInterrupted
from sluice_client.errors import ClientError
from sluice_client.mapping import Slot, each, run_map
from sluice_client.model import EventName, Job, Submitted, read_result
from sluice_client.stream import MAX_UNREAD_BYTES, Inbox
from sluice_client.waiting import Answer, Reply, Router, watch_sending

_COMPLETED = [("ce_type", b"com.sluicegate.job.completed.v1")]
_DELTA = [("ce_type", b"com.sluicegate.job.delta.v1")]


def result(state: str = "succeeded", *, deltas: int = 0, code: str | None = None) -> bytes:
    error = code and {
        "code": code,
        "message": "m",
        "retryable": False,
        "status": None,
        "param": None,
        "retry_after_s": None,
        "added_later": 1,
    }
    return orjson.dumps(
        {
            "id": "j",
            "custom_id": "c",
            "response": {"status_code": 200, "request_id": "r", "body": {"ok": True}},
            "error": None,
            "job": {
                "state": state,
                "deltas": deltas,
                "error": error,
                "cost_usd": "0.000000001",
                "usage": {"input_tokens": 1},
            },
        }
    )


def delta(seq: int, *, attempt: int = 1, text: str = "") -> Reply:
    value = {"id": "j", "attempt": attempt, "seq": seq, "chunks": [{"n": seq, "text": text}]}
    return Reply(orjson.dumps(value), dict(_DELTA), ends=False)


def ending(**what: Any) -> Reply:
    return Reply(result(**what), dict(_COMPLETED), ends=True)


def submitted(correlation: str = "c-1", key: str | None = None) -> Submitted:
    return Submitted(
        tenant="t",
        event=EventName(source="/s", id="e"),
        correlation_id=correlation,
        idempotency_key=key,
        topic="t",
    )


async def test_only_ones_own_replies_are_taken_and_each_result_once() -> None:
    router, answer = Router(), Answer()
    router.expect("mine", answer)
    router.route(b"theirs", result(), _COMPLETED)
    router.route(None, result(), _COMPLETED)
    router.route(b"mine", None, _COMPLETED)
    router.route(b"mine", delta(0).value, _DELTA)
    assert not answer.future.done()
    router.route(b"mine", result(), _COMPLETED)
    assert read_result(answer.future.result().value, {}).succeeded
    router.route(b"mine", result("failed"), _COMPLETED)
    assert len(router) == 0


async def test_forgotten_replies_go_nowhere() -> None:
    router, answer = Router(), Answer()
    router.expect("mine", answer)
    router.forget("mine")
    router.route(b"mine", result(), _COMPLETED)
    assert not answer.future.done()


async def test_a_reader_that_fails_tells_who_waits_and_who_comes_later() -> None:
    router, answer = Router(), Answer()
    router.expect("mine", answer)
    router.fail(ClientError("gone"))
    with pytest.raises(ClientError, match="gone"):
        await answer.future
    with pytest.raises(ClientError, match="gone"):
        router.expect("later", Answer())


async def test_a_record_that_kafka_refuses_after_all_fails_its_waiter() -> None:
    answer = Answer()
    sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watch_sending(sent, answer.fail)
    sent.set_exception(OSError("no"))
    with pytest.raises(NotAccepted, match="no"):
        await answer.future


async def read(
    inbox_of: list[Reply | Exception], timeout_s: float = 1.0
) -> tuple[list[int], Stream]:
    forgotten: list[Submitted] = []

    async def open_(inbox: Inbox) -> Submitted:
        for reply in inbox_of:
            if isinstance(reply, Exception):
                inbox.fail(reply)
            else:
                inbox.take(reply)
        return submitted()

    stream = Stream(open_, forgotten.append, timeout_s=timeout_s)
    return [chunk["n"] async for chunk in stream], stream


async def test_a_stream_in_order_with_repeats_is_read_once() -> None:
    chunks, stream = await read(
        [delta(0), delta(1), delta(0), delta(1), delta(2), ending(deltas=3)]
    )
    assert chunks == [0, 1, 2]
    assert stream.result.body == {"ok": True}


async def test_deltas_of_a_later_attempt_follow_an_attempt_without_any() -> None:
    chunks, _ = await read([delta(0, attempt=3), delta(1, attempt=3), ending(deltas=2)])
    assert chunks == [0, 1]


@pytest.mark.parametrize(
    "replies",
    [
        [delta(0), delta(2), ending(deltas=3)],
        [delta(1), ending(deltas=2)],
        [delta(0), delta(0, attempt=2), ending(deltas=1)],
        [delta(0), ending(deltas=2)],
        [ending(deltas=1)],
    ],
)
async def test_missing_pieces_interrupt_a_stream(replies: list[Reply | Exception]) -> None:
    with pytest.raises(StreamInterrupted) as caught:
        await read(replies)
    assert caught.value.result is not None
    assert caught.value.result.body == {"ok": True}


async def test_chunks_before_a_gap_are_still_read() -> None:
    seen = []

    async def open_(inbox: Inbox) -> Submitted:
        for reply in (delta(0), delta(1), delta(5)):
            inbox.take(reply)
        return submitted()

    with pytest.raises(StreamInterrupted, match="delta 5"):
        async for chunk in Stream(open_, lambda _: None, timeout_s=1.0):
            seen.append(chunk["n"])  # noqa: PERF401 - what was read before the error is the point
    assert seen == [0, 1]


async def test_a_stream_that_is_not_read_is_bounded() -> None:
    inbox = Inbox()
    text = "x" * (1024 * 1024)
    for seq in range(40):
        inbox.take(delta(seq, text=text))
    assert isinstance(inbox.problem, StreamInterrupted)
    assert len(inbox.pieces) * len(text) <= MAX_UNREAD_BYTES


async def test_a_stream_sent_again_has_no_chunks_but_a_result() -> None:
    again = Reply(result(deltas=7), {**dict(_COMPLETED), "sluice-duplicate": b"true"}, ends=True)
    chunks, stream = await read([again])
    assert chunks == []
    assert stream.result.duplicate


async def test_failures_of_a_stream() -> None:
    with pytest.raises(JobFailed) as caught:
        await read([ending(state="cancelled", code="cancelled")])
    assert caught.value.code == "cancelled"
    with pytest.raises(StreamInterrupted):
        await read([delta(0), ending(state="failed", code="stream_interrupted", deltas=1)])
    with pytest.raises(ReplyTimeout):
        await read([delta(0)], timeout_s=0.01)


async def test_a_result_before_the_end_is_a_mistake() -> None:
    async def open_(_inbox: Inbox) -> Submitted:
        return submitted()

    with pytest.raises(RuntimeError, match="not ended"):
        _ = Stream(open_, lambda _: None, timeout_s=1.0).result


async def jobs(count: int) -> Any:
    async for n in each(range(count)):
        yield Job(body={"n": n})


async def test_a_map_is_bounded_and_yields_every_job() -> None:
    under_way = most = 0

    async def begin(slot: Slot) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        slot.arm(submitted(), 5.0)
        asyncio.get_running_loop().call_soon(slot.take, ending())

    seen = set()
    async for job, outcome in run_map(jobs(200), begin, lambda _: None, concurrency=7):
        under_way -= 1
        assert outcome.succeeded
        seen.add(job.body["n"])
    assert seen == set(range(200))
    assert most <= 7


async def test_a_map_that_is_left_forgets_what_it_waits_for() -> None:
    forgotten: list[Submitted] = []

    async def begin(slot: Slot) -> None:
        slot.arm(submitted(str(slot.job.body["n"])), 5.0)
        if slot.job.body["n"] == 0:
            slot.take(ending())

    results = run_map(jobs(10), begin, forgotten.append, concurrency=4)
    async for _ in results:
        break
    await results.aclose()
    assert {one.correlation_id for one in forgotten} >= {"1", "2", "3"}


@pytest.mark.parametrize("failure", [NotAccepted("no"), ValueError("bad")])
async def test_a_map_whose_sending_fails_raises(failure: Exception) -> None:
    async def begin(_slot: Slot) -> None:
        raise failure

    with pytest.raises(type(failure)):
        async for _ in run_map(jobs(3), begin, lambda _: None, concurrency=2):
            pass


async def test_a_map_that_waits_too_long_says_which_job() -> None:
    async def begin(slot: Slot) -> None:
        slot.arm(submitted(key="k-7"), 0.01)

    with pytest.raises(ReplyTimeout, match="k-7"):
        async for _ in run_map(jobs(1), begin, lambda _: None, concurrency=1):
            pass


def test_a_timeout_says_how_to_wait_again() -> None:
    assert "idempotency_key='k'" in str(ReplyTimeout(submitted(key="k"), 3))
    assert "EventName(source='/s', id='e')" in str(ReplyTimeout(submitted(), 3))
