"""Names of time zones, and what a person may have meant by one that is not there."""

from collections.abc import Iterator
from functools import cache
from zoneinfo import available_timezones

from sluice_core.config.document import Path, Problem
from sluice_core.config.suggest import suggestion


def zone_problem(path: Path, zone: str) -> Iterator[Problem]:
    """The problem with a zone's name, if there is one."""
    if zone != "UTC" and zone not in _zones():
        yield Problem(path=path, message=f'no time zone "{zone}"{_near(zone)}')


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _near(zone: str) -> str:
    near = suggestion(zone, _zones())
    return near if "did you mean" in near else "; write a name such as Europe/Berlin, or UTC"
