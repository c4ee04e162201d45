"""Pure: the members of one level who take turns, in the order of their virtual time."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any


@dataclass(slots=True)
class Crew:
    """The workers that serve the same counters, this one included."""

    size: int = 1


class Turn:
    """One member: a tenant of a class, or a project of a tenant.

    Times are virtual: tokens divided by the member's weight. `shared` is what the ledger said last, `lift` what
    a newly active member was raised to and the ledger does not know yet, `pending` what was picked here and is
    not confirmed. `guess` is how much of that, and of what runs, nothing is known of: it was charged for answers
    of a kind that nobody has seen yet. `below` is the next level (a tenant's projects), `lanes` the queue of a project.
    `ready` counts flights that may be picked, `lanes_ready` the lanes they are in.
    """

    __slots__ = (
        *("below", "guess", "key", "lanes", "lanes_ready", "lift", "name", "parked"),
        *("pending", "ready", "shared", "value", "weight"),
    )

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.shared = 0.0
        self.lift = 0.0
        self.pending = 0.0
        self.guess = 0.0
        self.value = 0.0
        self.key = -1.0
        self.ready = 0
        self.lanes_ready = 0
        self.parked = False
        self.below: Turns | None = None
        self.lanes: list[Any] = []

    @property
    def present(self) -> bool:
        """Whether it waits, here or in the ledger."""
        return self.lanes_ready > 0 or self.parked


class Turns:
    """Who waits on one level, the least virtual time first; all steps are O(log n) amortised."""

    def __init__(self, crew: Crew | None = None) -> None:
        self._crew = crew or Crew()
        self._guessed: set[Turn] = set()
        self._members: dict[str, Turn] = {}
        self._heap: list[tuple[float, int, Turn]] = []
        self._serial = count()
        self._parked_only: set[Turn] = set()
        self._idle = 0.0
        self._last: Turn | None = None
        self.present = 0

    def __iter__(self) -> Iterator[Turn]:
        return iter(self._members.values())

    def get(self, name: str) -> Turn | None:
        """The member of this name, if it was seen."""
        return self._members.get(name)

    def member(self, name: str, weight: float) -> Turn:
        """The member of this name, made if new."""
        turn = self._members.get(name)
        if turn is None:
            turn = self._members[name] = Turn(name, weight)
        return turn

    def floor(self) -> float:
        """The least virtual time of those who wait; where nobody does, that of the last who did.

        What is only guessed does not count, here or with the other workers, who guess alike: it is corrected
        soon, and who was lifted by it would wait until the others have caught up.
        """
        first = self.first()
        least = [first.value] if first is not None else []
        least += [turn.value for turn in self._parked_only]
        least += [self._known(turn) for turn in self._guessed if turn.present]
        if least:
            return min(least)
        if self._last is not None:  # its last job was charged after it left
            self._idle = max(self._idle, self._known(self._last))
        return self._idle

    def first(self) -> Turn | None:
        """The ready member with the least virtual time; among equals the one that was ready first."""
        heap = self._heap
        while heap:
            key, _, turn = heap[0]
            if not turn.lanes_ready or key != turn.key:
                heapq.heappop(heap)  # left behind by a change
            elif key >= turn.value:
                return turn
            elif len(heap) == 1:
                turn.key = turn.value
                heap[0] = (turn.value, next(self._serial), turn)
                return turn
            else:
                turn.key = turn.value
                heapq.heapreplace(heap, (turn.value, next(self._serial), turn))
        return None

    def lane_ready(self, turn: Turn) -> None:
        """One more lane of a member has flights that may be picked."""
        if not turn.lanes_ready:
            self._appears(turn)
            self._parked_only.discard(turn)
        turn.lanes_ready += 1
        if turn.lanes_ready == 1:
            self._push(turn)

    def lane_rests(self, turn: Turn) -> None:
        """One lane of a member has none any more."""
        turn.lanes_ready -= 1
        if not turn.lanes_ready:
            if turn.parked:
                self._parked_only.add(turn)
            else:
                self._leaves(turn)

    def park(self, turn: Turn, *, parked: bool) -> None:
        """Say whether rows of a member are known to wait in the ledger."""
        if parked is turn.parked:
            return
        if parked:
            self._appears(turn)
            turn.parked = True
            if not turn.lanes_ready:
                self._parked_only.add(turn)
        else:
            turn.parked = False
            self._parked_only.discard(turn)
            if not turn.lanes_ready:
                self._leaves(turn)

    def moved(self, turn: Turn) -> None:
        """Put a member in its place after `shared`, `lift` or `pending` changed."""
        value = turn.shared if turn.shared > turn.lift else turn.lift
        value += turn.pending
        turn.value = value
        if value < turn.key and turn.lanes_ready:
            self._push(turn)

    def guess(self, turn: Turn, more: float) -> None:
        """More (or less) of what a member was charged is a guess."""
        turn.guess = max(0.0, turn.guess + more)
        (self._guessed.add if turn.guess else self._guessed.discard)(turn)

    def _known(self, turn: Turn) -> float:
        return turn.value - turn.guess * self._crew.size

    def _push(self, turn: Turn) -> None:
        turn.key = turn.value
        heapq.heappush(self._heap, (turn.value, next(self._serial), turn))

    def _appears(self, turn: Turn) -> None:
        """A member that did not wait starts at the least virtual time of those who do: idling earns nothing."""
        if turn.present:
            return
        self.present += 1
        floor = self.floor()
        if floor > turn.value:
            turn.lift = floor - turn.pending
            self.moved(turn)

    def _leaves(self, turn: Turn) -> None:
        self.present -= 1
        if not self.present:
            self._last = turn
