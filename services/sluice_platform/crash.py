"""Named places at which a test can make the process kill itself, once per test run."""

import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

CRASH_POINTS = frozenset(
    {
        "after_insert",
        "after_commit_offset",
        "after_begin",
        "after_call",
        "after_settle",
        "after_publish",
        "after_mark",
    }
)


@dataclass(slots=True, kw_only=True)
class CrashPlan:
    """Where to crash: at the `passage`-th time that `name` is passed, unless `mark` exists.

    `mark` is a file made just before, so that of all processes of a run one crashes, once; without
    one every process that has the plan crashes there.
    """

    name: str
    passage: int
    mark: Path | None
    passed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def parse(cls, text: str, mark: Path | None) -> "CrashPlan":
        """Reads `name` or `name:N`; raises ValueError that says what is allowed."""
        name, _, count = text.partition(":")
        if name not in CRASH_POINTS:
            raise ValueError(f"unknown crash point; known are {', '.join(sorted(CRASH_POINTS))}")
        if count and (not count.isdecimal() or int(count) < 1):
            raise ValueError("the passage after the colon must be a positive integer")
        return cls(name=name, passage=int(count or 1), mark=mark)


_plan: CrashPlan | None = None


def arm(plan: CrashPlan | None) -> None:
    """Sets the plan of this process (`Settings.crash_plan()`); called once in `main`."""
    global _plan  # noqa: PLW0603 - one process, one plan: handing it down every call would cost
    _plan = plan


def crash_point(name: str) -> None:
    """Kills this process with SIGKILL if a test asked for it here; else does nothing."""
    if _plan is None:
        return
    assert name in CRASH_POINTS, name
    if name != _plan.name:
        return
    _plan.passed[name] += 1
    if _plan.passed[name] != _plan.passage:
        return
    if _plan.mark is not None:
        try:
            _plan.mark.touch(exist_ok=False)
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
