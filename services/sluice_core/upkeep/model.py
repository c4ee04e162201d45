"""What upkeep works on: held money, and where the logs of Kafka stand."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Money that an attempt of unknown outcome holds, in nano-dollars; `input_nano` is the input's part of it."""

    usage_id: UUID
    held_nano: int
    input_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """One partition as its group sees it; offsets.

    `committed` None: the group has committed nothing. `old_until`: the first record that is younger than
    retention; None: every record is older.
    """

    topic: str
    partition: int
    start: int
    committed: int | None
    old_until: int | None
