"""Pure: how many jobs of a lane ask for a limit at once, when it has refused some: about as many as it lets through.

Each refusal costs what a begun job costs, so a lane that waits for a limit may not ask with all that it holds.
It asks with a few, and again when all of them are answered: with those that began and a few more where some were
refused, with twice as many where none was.
"""

from dataclasses import dataclass
from typing import Final

FEW: Final = 4
"""What a question costs is mostly its batch, whatever is in it; so it may be answered for several."""
ENOUGH: Final = 256
"""A lane that begins this many at once is not bounded any more."""
REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _Round:
    most: int = FEW
    out: int = 0
    begun: int = 0
    full: bool = False
    until: float = 0.0
    lost: int = 0


class Asks:
    """One round a lane that was refused; others ask with all that they have."""

    def __init__(self) -> None:
        self._rounds: dict[int, _Round] = {}

    def ask(self, lane: int) -> tuple[bool, bool]:
        """One more of a lane asks: whether its answer counts here, and whether it is the round's last."""
        asking = self._rounds.get(lane)
        if asking is None:
            return False, False
        asking.out += 1
        asking.full = asking.full or asking.out >= asking.most
        return True, asking.full

    def refused(self, lane: int) -> None:
        """A lane is refused, whoever asked: from now on it asks with a few."""
        if lane not in self._rounds:
            if len(self._rounds) >= REMEMBERED:
                self._rounds = {k: r for k, r in self._rounds.items() if r.out}
            self._rounds[lane] = _Round()

    def lost(self, lane: int) -> int:
        """Of how many rounds in a row nothing began: others were faster."""
        asking = self._rounds.get(lane)
        return 0 if asking is None else asking.lost

    def answered(self, lane: int, *, begun: bool = False, until: float = 0.0) -> float | None:
        """One that counts was answered; `until` where it was refused.

        When the last one is, returns from when on the lane may ask again (0: at once); else None.
        """
        asking = self._rounds[lane]
        asking.out -= 1
        asking.begun += begun
        asking.until = max(asking.until, until)
        if asking.out:
            return None
        until = asking.until
        lost = 0
        if until:
            most = asking.begun + FEW
            lost = 0 if asking.begun else asking.lost + 1
        else:
            most = asking.most * 2 if asking.full and asking.begun else asking.most
        if most < ENOUGH:
            self._rounds[lane] = _Round(most, lost=lost)
        else:
            del self._rounds[lane]
        return until
