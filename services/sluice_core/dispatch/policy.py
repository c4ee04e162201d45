"""Pure: which class the next free slot goes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sluice_core.config.scopes import DispatchConfig
from sluice_schemas.classes import JobClass

DEFAULT_WEIGHTS: Final = {JobClass.REALTIME: 0.5, JobClass.STANDARD: 0.3, JobClass.BULK: 0.2}
DEFAULT_MINIMUM: Final = {JobClass.REALTIME: 0.5, JobClass.STANDARD: 0.1, JobClass.BULK: 0.1}
HEADROOM: Final = {JobClass.REALTIME: 1.0, JobClass.STANDARD: 0.95, JobClass.BULK: 0.8}
"""Share of the slots up to which a class may fill them; the rest stays free for the classes above."""


LAG_S: Final = 0.010
"""A loop that comes later than this is too busy to be prompt: bulk gives way."""
LEAST_BULK: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How slots are shared between classes that wait; each mapping is a share of all slots."""

    weights: Mapping[JobClass, float] = field(default_factory=lambda: DEFAULT_WEIGHTS)
    minimum: Mapping[JobClass, float] = field(default_factory=lambda: DEFAULT_MINIMUM)
    headroom: Mapping[JobClass, float] = field(default_factory=lambda: HEADROOM)

    @classmethod
    def from_config(cls, config: DispatchConfig) -> "Shares":
        """What the configuration says, and the defaults where it says nothing."""
        return cls(
            weights={c: config.share("weights", c, DEFAULT_WEIGHTS[c]) for c in JobClass},
            minimum={c: config.share("minimum", c, DEFAULT_MINIMUM[c]) for c in JobClass},
        )


def bulk_share(share: float, *, lag_s: float) -> float:
    """The share of the slots that bulk may fill next, after the loop came `lag_s` seconds late.

    Additive increase, multiplicative decrease, never below a tenth.
    """
    return max(LEAST_BULK, share * 0.9) if lag_s > LAG_S else min(1.0, share + 0.02)


def next_class(
    waiting: Mapping[JobClass, int],
    running: Mapping[JobClass, int],
    *,
    slots: int,
    shares: Shares,
    bulk: float = 1.0,
) -> JobClass | None:
    """The class whose job starts next; None where no waiting class may take a slot.

    Classes below their reserved minimum come first, then those within their headroom; of each the one that
    holds least for its weight. So no class starves, and free slots are lent but for the headroom.
    `bulk` is the share that bulk may fill at most just now, as `bulk_share` says.
    """
    total = sum(running.values())
    if total >= slots:
        return None
    best: JobClass | None = None
    best_load = (False, 0.0)
    for job_class, count in waiting.items():
        if not count:
            continue
        held = running[job_class]
        if job_class is JobClass.BULK and held >= max(1.0, bulk * slots):
            continue
        served = held >= max(1.0, shares.minimum[job_class] * slots)
        if served and total >= shares.headroom[job_class] * slots:
            continue
        load = (served, held / shares.weights[job_class])
        if best is None or load < best_load:
            best, best_load = job_class, load
    return best
