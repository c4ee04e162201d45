"""Reading a record's headers: names and aliases, repeats, bounds, and what a reply echoes."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from sluice_core.intake.refusal import Refused, invalid
from sluice_platform.values import frozen_value
from sluice_schemas import headers as names

MAX_ID_BYTES: Final = 256
MAX_TEXT_BYTES: Final = 1024
MAX_SIGNATURE_BYTES: Final = 4096
_MAX_PARTITION_DIGITS: Final = 18

_CORRELATION: Final = (names.CORRELATION_ID, names.CE_CORRELATION_ID, names.SPRING_CORRELATION_ID)
_REPLY_TO: Final = (names.REPLY_TO, names.CE_REPLY_TO, names.SPRING_REPLY_TO)
_REPLY_PARTITION: Final = (
    names.REPLY_PARTITION,
    names.CE_REPLY_PARTITION,
    names.SPRING_REPLY_PARTITION,
)
ALIASES: Final = (*_CORRELATION[1:], *_REPLY_TO[1:], *_REPLY_PARTITION[1:])
_ADDRESS: Final = frozenset((*_REPLY_TO, *_REPLY_PARTITION))

# Binary by nature: a random correlation id or partition 10 holds a line feed by chance.
_BINARY: Final = frozenset((names.SPRING_CORRELATION_ID, names.SPRING_REPLY_PARTITION))
_OPAQUE: Final = frozenset(_CORRELATION)

_BOUNDS: Final[dict[str, int]] = {
    names.CE_SPECVERSION: MAX_TEXT_BYTES,
    names.CE_ID: MAX_ID_BYTES,
    names.CE_SOURCE: MAX_TEXT_BYTES,
    names.CE_TYPE: MAX_TEXT_BYTES,
    names.CE_TIME: MAX_ID_BYTES,
    names.CE_SUBJECT: MAX_TEXT_BYTES,
    names.CONTENT_TYPE: MAX_TEXT_BYTES,
    names.TRACEPARENT: MAX_TEXT_BYTES,
    names.TRACESTATE: MAX_TEXT_BYTES,
    names.KEY_ID: MAX_ID_BYTES,
    names.SIGNATURE: MAX_SIGNATURE_BYTES,
    names.ON_BEHALF_OF: MAX_SIGNATURE_BYTES,
    **dict.fromkeys((*_CORRELATION, *_REPLY_TO, *_REPLY_PARTITION), MAX_ID_BYTES),
}
"""Every header that is read, with its bound in bytes."""

SIGNED: Final = frozenset(
    {
        names.KEY_ID,
        names.SIGNATURE,
        names.CE_ID,
        names.CE_SOURCE,
        names.CE_TIME,
        names.CE_TYPE,
        names.CORRELATION_ID,
        names.REPLY_TO,
        names.REPLY_PARTITION,
        names.ON_BEHALF_OF,
    }
)

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_LINE_BREAK: Final = re.compile(rb"[\n\r\x00]")


@frozen_value
class Attributes:
    """What a record's headers (or its CloudEvents envelope) say.

    `raw` are the bytes of every header that was read and can be trusted, by name. `problem` is the
    first thing wrong; `address_unknown` says that it leaves the reply address unknown, and
    `signature_unreadable` that a header under the signature is not to be trusted.
    """

    raw: Mapping[str, bytes]
    ce_id: str | None
    ce_source: str | None
    correlation_id: bytes | None
    echo: tuple[tuple[str, bytes], ...]
    reply_to: str | None
    reply_partition: int | None
    traceparent: str | None
    tracestate: str | None
    problem: Refused | None
    address_unknown: bool
    signature_unreadable: bool

    @property
    def structured(self) -> bool:
        """Whether the value is a CloudEvents envelope."""
        given = self.raw.get(names.CONTENT_TYPE)
        if given is None:
            return False
        media_type = given.partition(b";")[0].strip().lower()
        return media_type == names.STRUCTURED_CONTENT_TYPE.encode()

    @property
    def signed(self) -> bool:
        """Whether the record claims to be signed."""
        return names.SIGNATURE in self.raw or names.KEY_ID in self.raw

    def text(self, name: str) -> str | None:
        """A header that was read, as text; None where it is absent or empty."""
        value = self.raw.get(name)
        return value.decode() if value is not None else None


def read_headers(headers: Sequence[tuple[str, bytes | None]]) -> Attributes:
    """Read the headers that the contract names; never raises, the first fault is in `problem`.

    A null or empty value counts as absent, as under the signature.
    """
    raw: dict[str, bytes] = {}
    seen: set[str] = set()
    faults: list[tuple[str, str]] = []
    for name, value in headers:
        bound = _BOUNDS.get(name)
        if bound is None:
            continue
        if name in seen:
            raw.pop(name, None)
            faults.append((name, f"header {name} repeats"))
            continue
        seen.add(name)
        if value:
            fault = _fault(name, value, bound)
            if fault is None:
                raw[name] = value
            else:
                faults.append((name, fault))
    return _attributes(raw, faults)


def _fault(name: str, value: bytes, bound: int) -> str | None:
    if len(value) > bound:
        return f"header {name} is over {bound} bytes"
    if name in _BINARY:
        return None
    if _LINE_BREAK.search(value) is not None:
        return f"header {name} has a line break or NUL"
    if name not in _OPAQUE:
        try:
            value.decode()
        except UnicodeDecodeError:
            return f"header {name} is not UTF-8"
    return None


def _attributes(raw: dict[str, bytes], faults: list[tuple[str, str]]) -> Attributes:
    correlation = _one_of(raw, _CORRELATION, faults)
    reply_to = _one_of(raw, _REPLY_TO, faults)
    partition = _one_of(raw, _REPLY_PARTITION, faults)
    reply_partition = None
    if partition is not None:
        try:
            reply_partition = _partition(partition, raw[partition])
        except ValueError as exc:
            faults.append((partition, str(exc)))
    ce_id = raw.get(names.CE_ID)
    ce_source = raw.get(names.CE_SOURCE)
    traceparent, tracestate = _trace(raw)
    return Attributes(
        raw=raw,
        ce_id=ce_id.decode() if ce_id is not None else None,
        ce_source=ce_source.decode() if ce_source is not None else None,
        correlation_id=raw[correlation] if correlation is not None else None,
        echo=tuple([(name, raw[name]) for name in ALIASES if name in raw]),
        reply_to=raw[reply_to].decode() if reply_to is not None else None,
        reply_partition=reply_partition,
        traceparent=traceparent,
        tracestate=tracestate,
        problem=invalid(faults[0][1], f"headers.{faults[0][0]}") if faults else None,
        address_unknown=bool(faults) and any(name in _ADDRESS for name, _ in faults),
        signature_unreadable=bool(faults) and any(name in SIGNED for name, _ in faults),
    )


def _one_of(
    raw: dict[str, bytes], aliases: tuple[str, ...], faults: list[tuple[str, str]]
) -> str | None:
    """The one name that a field came by; two are a fault, and then none is believed."""
    given = [name for name in aliases if name in raw]
    if len(given) > 1:
        faults.append((given[0], f"headers {' and '.join(given)} name the same field"))
        return None
    return given[0] if given else None


def _partition(name: str, value: bytes) -> int:
    if name == names.SPRING_REPLY_PARTITION:
        number = int.from_bytes(value, "big", signed=True)
        if len(value) != 4 or number < 0:
            raise ValueError(f"header {name} is not a partition in 4 bytes, big-endian")
        return number
    if not value.isdigit() or len(value) > _MAX_PARTITION_DIGITS:
        raise ValueError(f"header {name} is not a partition in ASCII decimal")
    return int(value)


def _trace(raw: dict[str, bytes]) -> tuple[str | None, str | None]:
    """The trace context; one that is not W3C's is dropped, as that standard says."""
    parent = raw.get(names.TRACEPARENT)
    if parent is None or _TRACEPARENT.match(parent.decode()) is None:
        return None, None
    state = raw.get(names.TRACESTATE)
    return parent.decode(), state.decode() if state is not None else None
