"""Makes one provider call and turns whatever happens into an `Answer`."""

import asyncio

from sluice_core.jobs.fates import FailureKind, fate
from sluice_providers.adapter import (
    EmptyError,
    MalformedError,
    Outgoing,
    ReportedError,
    UntranslatableError,
)
from sluice_providers.attempt import Attempt, OnChunks, TooLargeError
from sluice_providers.clock import Timeouts
from sluice_providers.faults import ExchangeError, unprepared
from sluice_providers.http import Transport
from sluice_providers.port import Answer, Call
from sluice_providers.sse import EventTooLargeError

__all__ = ["OnChunks", "call", "uncalled"]


async def call(call: Call, *, transport: Transport, on_chunks: OnChunks | None) -> Answer:
    """Make the call and say how it ended; raises nothing but CancelledError.

    `on_chunks` gets the OpenAI chunks of a stream as they come, as JSON bytes, one list per read. Cancelling
    closes the connection. Nothing is retried here.
    """
    attempt = Attempt(call, on_chunks)
    try:
        outgoing = attempt.prepare()
    except UntranslatableError as exc:
        return attempt.untranslatable(exc)
    except Exception as exc:  # noqa: BLE001 - a defect of ours, but nothing has left
        attempt.note("call.unprepared", exc)
        return attempt.broken(unprepared())
    try:
        return await _exchange(call, outgoing, attempt, transport)
    except Exception as exc:  # noqa: BLE001 - a defect of ours: what was asked for may be billed
        attempt.note("call.defect", exc)
        return attempt.defective()


def uncalled(kind: FailureKind, message: str) -> Answer:
    """How an attempt ended that was never called."""
    return Answer(
        failure=kind,
        code=fate(kind, status=None).code,
        message=message,
        status=None,
        request_id=None,
        body=None,
        usage=None,
        usage_source="estimated",
        retry_after_s=None,
        deltas=0,
        sent=False,
        provider_ms=0,
        first_byte_ms=None,
    )


async def _exchange(
    call: Call, outgoing: Outgoing, attempt: Attempt, transport: Transport
) -> Answer:
    loop = asyncio.get_running_loop()
    now, target = loop.time(), call.target
    timeouts = Timeouts(
        connect_s=target.connect_timeout_s,
        first_byte_s=target.first_byte_timeout_s,
        between_chunks_s=target.between_chunks_timeout_s,
        total_at=now + target.total_timeout_s,
        deadline_at=now + call.deadline,
    )
    try:
        await transport.exchange(outgoing, timeouts, attempt)
    except ExchangeError as exc:
        if exc.kind is FailureKind.UNPREPARED:
            attempt.note("call.unprepared", exc.__cause__ or exc)
        return attempt.broken(exc)
    except TooLargeError:
        limit = call.answer_bytes_limit
        return attempt.failed(FailureKind.TOO_LARGE, f"the answer has more than {limit} bytes")
    except ReportedError as exc:
        return attempt.reported(exc)
    except (EventTooLargeError, EmptyError, MalformedError) as exc:
        return attempt.unreadable(exc)
    return attempt.finish()
