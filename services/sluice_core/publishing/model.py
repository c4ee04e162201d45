"""A message on its way to Kafka, and a stored result that messages are made of."""

from dataclasses import dataclass, field
from uuid import UUID

from sluice_platform.values import frozen_value
from sluice_schemas.headers import source_of
from sluice_schemas.topics import Topics

Headers = list[tuple[str, bytes]]
"""Names and values in order; of a dead letter a value may be null, as its record had it."""


@frozen_value
class Message:
    """One record to send. `urgent`: somebody waits for it, so it is not held back for batching."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None
    urgent: bool = False


@frozen_value
class StoredResult:
    """A job's result as it stands in the ledger; `finished_at` in epoch seconds."""

    job_id: UUID
    tenant: str
    ce_id: UUID
    finished_at: float
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What every event of this cell says of where it comes from (`source`), and how large a value may be."""

    cell: str
    topics: Topics
    record_bytes: int

    source: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", source_of(self.cell).encode())


@frozen_value
class Due:
    """One outbox row and the messages it stands for; `job` is set where they answer one."""

    id: int
    messages: tuple[Message, ...]
    job: int | None = None
