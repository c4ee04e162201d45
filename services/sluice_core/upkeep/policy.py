"""Pure: what an unknown attempt is booked at, which records may go, and which went too early."""

from typing import Literal
from uuid import UUID

from sluice_core.upkeep.model import Held, LogPosition
from sluice_schemas.identity import uuid5

_LOST = UUID("6f1c8a3e-6a0b-5a53-9a3c-0c6a4b1f7d20")
"""The namespace of `records_lost` events."""


def booked_nano(held: Held, book: Literal["worst_case", "input_only", "zero"]) -> int:
    """Nano-dollars that held money is booked at when nobody has said what the call cost."""
    if book == "worst_case":
        return held.held_nano
    return min(held.input_nano, held.held_nano) if book == "input_only" else 0


def delete_before(log: LogPosition) -> int | None:
    """The offset below which a partition's records may go: admitted, and older than retention. None: none may."""
    if log.committed is None:
        return None
    edge = log.committed if log.old_until is None else min(log.committed, log.old_until)
    return edge if edge > log.start else None


def lost_range(log: LogPosition) -> tuple[int, int] | None:
    """The first offset that was never admitted and is gone, and the first that still stands; None: none is gone."""
    if log.committed is None or log.start <= log.committed:
        return None
    return log.committed, log.start


def lost_event_id(cluster_id: str, log: LogPosition) -> UUID:
    """The event id of one loss: the same however often, and by whomever, it is found."""
    fact = f"{cluster_id}/{log.topic}/{log.partition}/{log.committed}/{log.start}"
    return uuid5(_LOST, fact.encode())
