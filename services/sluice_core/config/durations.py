"""Durations and sizes as people write them: `7d`, `72h`, `30m`, `45s`, `500ms`; `8MiB`."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

_DURATION: Final = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)?\s*$")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE: Final = re.compile(r"^\s*([0-9]+)\s*(KiB|MiB|GiB|B)?\s*$")
_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def parse_duration(value: Any) -> float:
    """Seconds of a number or of a text with a unit; ValueError for anything else or negative."""
    match = None if isinstance(value, bool) else _DURATION.match(str(value))
    if match is None:
        raise ValueError(
            f"not a duration: {value!r}; write 30s, 15m, 72h, 7d or a number of seconds"
        )
    return float(match[1]) * _SECONDS[match[2] or "s"]


def parse_period(value: Any) -> float:
    """Seconds of a text with a unit; ValueError for a bare number, which would be read as seconds and meant as days."""
    seconds = parse_duration(value)
    if not str(value).strip()[-1].isalpha():
        raise ValueError(f"has no unit: {value!r}; write 7d, 72h or 30m")
    return seconds


def duration_text(seconds: float) -> str:
    """A duration as people write it, in the largest unit that needs no fraction; `parse_duration` reads it back."""
    for unit in ("d", "h", "m", "s"):
        if seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms"


def parse_size(value: Any) -> int:
    """Bytes of a whole number or of a text with a unit; ValueError for anything else."""
    match = None if isinstance(value, bool) else _SIZE.match(str(value))
    if match is None:
        raise ValueError(f"not a size: {value!r}; write 8MiB, 64KiB or a whole number of bytes")
    return int(match[1]) * _BYTES[match[2] or "B"]


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds."""

Period = Annotated[float, BeforeValidator(parse_period)]
"""Seconds of something kept for hours or days."""

Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes."""
