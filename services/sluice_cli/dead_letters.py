"""Pure: a dead letter read from its record, and the headers that it goes back with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sluice_schemas.headers import (
    ERROR_CODE,
    ERROR_MESSAGE,
    REDRIVE_COUNT,
    SOURCE_NULL,
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TOPIC,
)

QUARANTINE: Final = 3
"""Times that a record is sent back before it is left alone."""

_OURS: Final = frozenset(
    {ERROR_CODE, ERROR_MESSAGE, SOURCE_TOPIC, SOURCE_PARTITION, SOURCE_OFFSET, SOURCE_NULL}
)

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A record of the dead-letter topic. `place` is its partition and offset there.

    `own_headers` are those that the record came with, in order; `redrives` how often it was sent
    back. `source_…` say where it came from; `source_topic` is empty where the letter does not say.
    """

    place: str
    at: datetime
    code: str
    message: str
    source_topic: str
    source_partition: int
    source_offset: int
    redrives: int
    was_null: bool
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    own_headers: Headers = field(repr=False)

    @property
    def source(self) -> str:
        """Topic, partition and offset that it came from."""
        return f"{self.source_topic}/{self.source_partition}/{self.source_offset}"

    @property
    def sent_value(self) -> bytes | None:
        """The value to send back. A record that had neither key nor value cannot be sent as it was:
        the client refuses it, so it goes back with an empty value."""
        return b"" if self.was_null else self.value

    @property
    def origin(self) -> tuple[str, int, int]:
        """The same as values."""
        return self.source_topic, self.source_partition, self.source_offset

    def refusal(self, *, force: bool, replayed: bool) -> str | None:
        """Why it is not sent back; None where it is. `replayed`: it was sent back before."""
        if not self.source_topic:
            return "it does not say which topic it came from"
        if replayed and not force:
            return "it was sent back already; --force sends it once more"
        if self.redrives >= QUARANTINE and not force:
            return f"quarantined: it was sent back {self.redrives} times; --force sends it again"
        return None

    def described(self) -> dict[str, Any]:
        """What `list --json` shows: no payload."""
        return {
            "place": self.place,
            "at": self.at,
            "code": self.code,
            "message": self.message,
            "source_topic": self.source_topic,
            "source_partition": self.source_partition,
            "source_offset": self.source_offset,
            "redrive_count": self.redrives,
            "quarantined": self.redrives >= QUARANTINE,
            "bytes": len(self.value or b""),
        }


def read_letter(record: Any) -> Letter:
    """Read a record of the dead-letter topic; nothing in it raises.

    Ours come after the record's own headers, so of a repeated name the last one is ours.
    """
    headers: list[tuple[str, bytes | None]] = list(record.headers)
    ours = {name: value or b"" for name, value in headers if name in _OURS}
    return Letter(
        place=f"{record.partition}/{record.offset}",
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        code=_text(ours.get(ERROR_CODE)),
        message=_text(ours.get(ERROR_MESSAGE)),
        source_topic=_text(ours.get(SOURCE_TOPIC)),
        source_partition=_number(ours.get(SOURCE_PARTITION)),
        source_offset=_number(ours.get(SOURCE_OFFSET)),
        redrives=_redrives(headers),
        was_null=ours.get(SOURCE_NULL) == b"true",
        key=record.key,
        value=record.value,
        own_headers=_own(headers),
    )


def replayed_headers(letter: Letter) -> list[tuple[str, bytes | None]]:
    """The record's own headers, and how often it has now been sent back."""
    return [
        *letter.own_headers,
        (REDRIVE_COUNT, str(letter.redrives + 1).encode()),
    ]


def _own(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Everything before our block of headers; a name of ours further up was the record's own."""
    end = len(headers)
    while end and headers[end - 1][0] in _OURS:
        end -= 1
    return [(name, value) for name, value in headers[:end] if name != REDRIVE_COUNT]


def _redrives(headers: Headers) -> int:
    return max((_number(value) for name, value in headers if name == REDRIVE_COUNT), default=0)


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _number(value: bytes | None) -> int:
    text = (value or b"").strip()
    return int(text) if text.isdigit() and len(text) <= 18 else 0
