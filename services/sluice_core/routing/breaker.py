"""Pure: one circuit breaker, as one process sees it.

The pattern is Nygard's ("Release It!", 2007): closed, open, half open. What is shared between processes is only that
it is open and until when; whoever is granted the probe asks on behalf of all.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sluice_platform.values import frozen_value

BUCKETS: Final = 10
"""Parts of the rolling window that pass out of it one by one."""


class Standing(IntEnum):
    """Whether calls pass."""

    CLOSED = 0
    OPEN = 1
    PROBING = 2


@frozen_value
class BreakerRules:
    """When it opens and for how long; times in seconds.

    It opens where at least `minimum` calls ended within `window_s` and the share `failures` of them failed or took
    longer than `slow_s`; and at once where `minimum` in a row did, so that a busy target which dies is not called until
    its good past has left the window. Each opening in a row doubles `open_s`, up to `longest_s`. Half open, `probes` calls pass.
    """

    window_s: float = 10.0
    minimum: int = 20
    failures: float = 0.5
    slow_s: float | None = None
    open_s: float = 5.0
    longest_s: float = 60.0
    probes: int = 3

    def open_for(self, level: int) -> float:
        """Seconds that the opening number `level` (from 1) of a row lasts."""
        return min(self.longest_s, self.open_s * 2.0 ** min(level - 1, 30))


@dataclass(frozen=True, slots=True)
class Opening:
    """What is told to other processes: it opened for the `level`th time in a row, for so many seconds."""

    level: int
    open_s: float


class Breaker:
    """Counts how calls end. `now` is in seconds of one clock that does not go back."""

    __slots__ = (
        "_counts",
        "_in_a_row",
        "_passed",
        "_tick",
        "level",
        "open_until",
        "probes_left",
        "rules",
        "standing",
    )

    def __init__(self, rules: BreakerRules) -> None:
        self.rules = rules
        self.standing = Standing.CLOSED
        self.level = 0
        self.open_until = 0.0
        self.probes_left = 0
        self._passed = 0
        self._tick = 0
        self._in_a_row = 0
        self._counts: list[int] = [0] * (2 * BUCKETS)

    def passes(self) -> bool:
        """Whether a call may go; of a half-open one, as long as probes are left."""
        if self.standing is Standing.CLOSED:
            return True
        return self.standing is Standing.PROBING and self.probes_left > 0

    @property
    def asking(self) -> bool:
        """Whether probes are under way."""
        out = self.rules.probes - self.probes_left - self._passed
        return self.standing is Standing.PROBING and out > 0

    @property
    def idle(self) -> bool:
        """Whether it may probe, and none is under way."""
        return self.standing is Standing.PROBING and not self.asking

    @property
    def passed(self) -> bool:
        """Whether a probe has ended well, and none otherwise."""
        return self.standing is Standing.PROBING and self._passed > 0

    def due(self, now: float) -> bool:
        """Whether its time is over and somebody should be granted the probe."""
        return self.standing is Standing.OPEN and now >= self.open_until

    def started(self) -> None:
        """A call goes now."""
        if self.standing is Standing.PROBING:
            self.probes_left -= 1

    def abandoned(self) -> None:
        """A call that was counted as started never went, or said nothing of the target's health."""
        if self.asking:
            self.probes_left += 1

    def ended(self, *, well: bool, took_s: float, now: float) -> Opening | None:
        """A call ended; what others must be told, if it opens now. `passed` tells when a probing one has closed."""
        rules = self.rules
        well = well and (rules.slow_s is None or took_s <= rules.slow_s)
        if self.standing is Standing.PROBING:
            if not well:
                return self.trip(now)
            self._passed += 1
            if self._passed >= rules.probes:
                self.close()
            return None
        if self.standing is Standing.OPEN:
            return None  # it began before; the verdict is known
        counts = self._turn(now)
        place = self._tick % BUCKETS * 2
        counts[place] += 1
        if well:
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        counts[place + 1] += 1
        total, failed = sum(counts[::2]), sum(counts[1::2])
        if self._in_a_row >= rules.minimum or (
            total >= rules.minimum and failed >= rules.failures * total
        ):
            return self.trip(now)
        return None

    def trip(self, now: float, *, for_s: float | None = None) -> Opening:
        """Open it, whatever the counts say; `for_s` instead of what its level says."""
        self.level += 1
        open_s = self.rules.open_for(self.level) if for_s is None else for_s
        self.opened(level=self.level, until=now + open_s)
        return Opening(self.level, open_s)

    def opened(self, *, level: int, until: float) -> None:
        """Another process opened it, or this one."""
        self.standing, self.level, self.open_until = Standing.OPEN, level, until
        self.probes_left = 0

    def granted(self) -> None:
        """This process sends the probes."""
        if self.standing is Standing.OPEN:
            self.standing, self.probes_left, self._passed = Standing.PROBING, self.rules.probes, 0

    def close(self) -> None:
        """It works again; what was counted before says nothing any more."""
        self.standing, self.level, self.open_until, self.probes_left = Standing.CLOSED, 0, 0.0, 0
        self._counts = [0] * (2 * BUCKETS)
        self._in_a_row = 0

    def _turn(self, now: float) -> list[int]:
        """Forget the parts of the window that have passed."""
        tick = int(now / self.rules.window_s * BUCKETS)
        counts = self._counts
        if tick != self._tick:
            if tick - self._tick >= BUCKETS:
                self._in_a_row = 0
            for gone in range(self._tick + 1, min(tick, self._tick + BUCKETS) + 1):
                place = gone % BUCKETS * 2
                counts[place] = counts[place + 1] = 0
            self._tick = tick
        return counts
