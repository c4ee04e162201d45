"""Processor time and memory of everything a gateway consists of."""

import os
import time
from dataclasses import dataclass

import psutil
from tests.system import System

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Processor seconds so far, by part, and when they were read."""

    at: float
    workers: float
    keepers: float
    postgres: float
    kafka: float
    mock: float

    def per_job(self, earlier: "Reading", jobs: int) -> dict[str, float]:
        """Microseconds a job since an earlier reading."""
        return {
            f"{part}_us": round((getattr(self, part) - getattr(earlier, part)) / jobs * 1e6, 1)
            for part in ("workers", "keepers", "postgres", "kafka", "mock")
        }


def read(system: System) -> Reading:
    """Read every process now."""
    return Reading(
        at=time.monotonic(),
        workers=sum(process.cpu_seconds() for process in system.workers.values()),
        keepers=sum(process.cpu_seconds() for process in system.keepers.values()),
        postgres=_family(system.stack.postgres.pid),
        kafka=_family(system.stack.kafka.pid),
        mock=system.mock_process.cpu_seconds(),
    )


def _family(pid: int) -> float:
    """A process with its children, those that have ended included."""
    parent = psutil.Process(pid)
    times = parent.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in parent.children(recursive=True):
        try:
            own = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += own.user + own.system
    return float(total)
