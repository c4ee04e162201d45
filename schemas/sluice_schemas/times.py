"""RFC 3339 times: read with any offset, written in UTC with six decimals."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)
_OTHER: Final = "is not an RFC 3339 time with an offset"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(text: str) -> float:
    """Read an RFC 3339 time with an offset as epoch seconds; ValueError for anything else."""
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError(f"{_OTHER}: {text[:40]!r}")
    date, minutes, seconds, fraction, offset = match.groups()
    leap = 1 if seconds == "60" else 0
    zone = "+00:00" if offset in "Zz" else offset
    try:
        whole = datetime.fromisoformat(f"{date}T{minutes}{'59' if leap else seconds}{zone}")
    except ValueError:
        raise ValueError(f"{_OTHER}: {text[:40]!r}") from None
    return (whole - _EPOCH) / timedelta(seconds=1) + leap + float(fraction or 0)


def format_time(epoch_s: float) -> str:
    """Write epoch seconds as RFC 3339 in UTC with `Z` and six decimals."""
    seconds, microseconds = divmod(round(epoch_s * 1_000_000), 1_000_000)
    return f"{_whole_second(seconds)}.{microseconds:06d}Z"


@lru_cache(maxsize=1024)
def _whole_second(epoch_s: int) -> str:
    # Nearly every time that is written lies in one of the last few seconds.
    return (_EPOCH + timedelta(seconds=epoch_s)).strftime("%Y-%m-%dT%H:%M:%S")
