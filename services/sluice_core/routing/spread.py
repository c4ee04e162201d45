"""Pure: how keys are spread over candidates so that the same key finds the same one.

Weighted rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998; weights
by -w / ln h as in Schindelhauer and Schomaker, 2005), with bounded loads (Mirrokni, Thorup, Zadimoghaddam,
"Consistent hashing with bounded loads", 2016): one run's million jobs must not all wait for one account.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from sluice_core.routing.model import Candidate, Moment, Strategy

CROWDED: Final = 1.25
"""Times its fair share of what is in flight that a candidate takes before its keys go to the next."""
_SPARE: Final = 4
"""Calls in flight that are nobody's crowd."""
_REMEMBERED: Final = 20_000
_MASK: Final = (1 << 64) - 1
_WHOLE: Final = float(1 << 64)


def digest(key: str) -> int:
    """A number of 64 bits for a key, the same in every process."""
    return int.from_bytes(
        blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "big"
    )


def seed_of(name: str) -> int:
    """What tells a candidate's account apart from others in the same hash."""
    return digest("account:" + name)


def fraction(key: str) -> float:
    """A place from 0 to below 1 for a key, the same in every process."""
    return digest("split:" + key) / _WHOLE


def _mixed(number: int) -> int:
    # The finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Candidates to choose from, by a strategy; `label` says whose they are, for people.

    `limited`: some of them cannot serve some requests. `weights`: the sum of theirs.
    """

    candidates: tuple[Candidate, ...]
    strategy: Strategy
    label: str
    limited: bool = field(init=False)
    weights: float = field(init=False)

    def __post_init__(self) -> None:
        """Note what is asked at every decision."""
        object.__setattr__(self, "limited", any(c.limited for c in self.candidates))
        object.__setattr__(self, "weights", sum(c.weight for c in self.candidates))


@lru_cache(maxsize=_REMEMBERED)
def in_order(key: str, group: Group) -> tuple[Candidate, ...]:
    """A group's candidates, the one that the key belongs to first."""
    base = digest(key)

    def score(candidate: Candidate) -> float:
        drawn = (_mixed(base ^ candidate.seed) + 0.5) / _WHOLE
        return -candidate.weight / math.log(drawn) if drawn < 1.0 else math.inf

    return tuple(sorted(group.candidates, key=score, reverse=True))


def nearest(key: str, group: Group, kept: Sequence[Candidate], moment: Moment) -> Candidate:
    """The candidate that a key belongs to, of those kept: the first in its order that is not crowded."""
    nows, whole = moment.nows, len(kept) == len(group.candidates)
    most = CROWDED * (sum([state.in_flight for state in nows]) + 1) / group.weights
    first: Candidate | None = None
    for candidate in in_order(key, group):
        if not whole and candidate not in kept:
            continue
        if nows[candidate.place].in_flight < most * candidate.weight + _SPARE:
            return candidate
        first = first or candidate
    return first or kept[0]
