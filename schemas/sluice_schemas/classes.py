"""The three priority classes of jobs, by number inside and by name outside."""

from enum import IntEnum
from functools import cached_property
from typing import Final


class JobClass(IntEnum):
    """A job's priority class; a lower number is more urgent."""

    REALTIME = 0
    STANDARD = 1
    BULK = 2

    @cached_property
    def label(self) -> str:
        """The public name: `realtime`, `standard` or `bulk`."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> "JobClass":
        """Read a public name; raises ValueError for any other text."""
        for member in cls:
            if member.label == label:
                return member
        raise ValueError(f"no class {label!r}; the classes are realtime, standard and bulk")


DEFAULT_TIMEOUT_S: Final[dict[JobClass, float]] = {
    JobClass.REALTIME: 120.0,
    JobClass.STANDARD: 3_600.0,
    JobClass.BULK: 86_400.0,
}
"""Seconds from the record's timestamp to the deadline of a job that names none."""

DEFAULT_MAX_WAIT_S: Final[dict[JobClass, float | None]] = {
    JobClass.REALTIME: 10.0,
    JobClass.STANDARD: None,
    JobClass.BULK: None,
}
"""Longest wait for a limit, budget or slot, in seconds; None: the deadline alone ends the wait."""
