"""Pure: what became of the demonstration's jobs, and how long they waited."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that `share` (0 to 1) of all do not exceed.

    0.0 for no values.
    """
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = max(1, math.ceil(share * len(ordered)))
    return ordered[rank - 1]


@dataclass(slots=True, kw_only=True)
class ClassTally:
    """One class: how many jobs were sent, their states, and how long each queued (milliseconds)."""

    sent: int = 0
    states: dict[str, int] = field(default_factory=dict)
    queued_ms: list[int] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Jobs with a result."""
        return sum(self.states.values())


class Tally:
    """Takes results until every job that was sent has one; a repeated result counts once."""

    def __init__(self, sent: Mapping[str, Iterable[str]]) -> None:
        """`sent` maps a class to the custom ids of its jobs."""
        self._waiting = {custom_id: name for name, ids in sent.items() for custom_id in ids}
        self.classes = {name: ClassTally() for name in sent}
        for name in self._waiting.values():
            self.classes[name].sent += 1
        self.results: dict[str, Mapping[str, Any]] = {}

    @property
    def missing(self) -> list[str]:
        """Custom ids of jobs that have no result yet."""
        return sorted(self._waiting)

    def take(self, result: Mapping[str, Any]) -> str | None:
        """Count a result; the class it belongs to, or None where nobody waits for it."""
        custom_id = result.get("custom_id")
        name = self._waiting.pop(custom_id, None) if isinstance(custom_id, str) else None
        if name is None or not isinstance(custom_id, str):
            return None
        job = result["job"]
        tally = self.classes[name]
        tally.states[job["state"]] = tally.states.get(job["state"], 0) + 1
        tally.queued_ms.append(job["queued_ms"])
        self.results[custom_id] = result
        return name

    def states(self) -> list[str]:
        """Every state that occurred, in alphabetical order, `succeeded` first."""
        found = {state for tally in self.classes.values() for state in tally.states}
        return sorted(found, key=lambda state: (state != "succeeded", state))

    def attempts(self) -> int:
        """Provider calls over all jobs."""
        return sum(result["job"]["attempts"] for result in self.results.values())
