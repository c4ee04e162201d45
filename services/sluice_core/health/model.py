"""What was measured of the database and the broker, and what follows from it."""

from dataclasses import dataclass
from typing import Literal

from sluice_core.topics.model import Difference

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was checked; `advice` says what to do where it is not ok."""

    check: str
    level: Level
    message: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A registered process, and how long ago it beat (seconds, by the database's clock)."""

    name: str
    kind: str
    pool: str
    beat_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The database server. Ages in seconds; `clock_ahead_s` is against this machine.

    `standbys` are the `sync_state` values of attached standbys; None where this role may not see.
    """

    answer_ms: float
    version: int
    version_text: str
    clock_ahead_s: float
    synchronous_commit: str
    fsync: bool
    full_page_writes: bool
    in_recovery: bool
    standbys: tuple[str | None, ...]
    oldest_snapshot_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The ledger in the database; None revision: there is none. Ages in seconds."""

    revision: str | None
    head: str | None
    partitions_missing: tuple[str, ...] = ()
    processes: tuple[Presence, ...] = ()
    outbox_age_s: float | None = None
    unresolved: int = 0
    unresolved_age_s: float | None = None
    keys: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """The Kafka cluster. `recent`: 3.7 or newer. `clock_ahead_s`: at least this far; None: not seen to be.

    `differences`: topics against the configuration. `reply_topics_missing`: (tenant, topic) of declared
    reply topics that do not exist.
    """

    answer_ms: float
    brokers: int
    recent: bool
    clock_ahead_s: float | None
    topics: int
    differences: tuple[Difference, ...]
    reply_topics_missing: tuple[tuple[str, str], ...] = ()
