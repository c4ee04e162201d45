"""Candidates, what is known of them now, what a job asks for, and what was decided: as values."""

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final, Literal

from sluice_core.config.routing import Timeouts
from sluice_platform.values import frozen_value

Strategy = Literal["priority", "weighted", "cheapest", "fastest", "least_busy", "quality"]
ENDLESS: Final = float("inf")


class Need(IntFlag):
    """What a request needs of a target."""

    NOTHING = 0
    VISION = 1
    TOOLS = 2
    JSON = 4
    STREAMING = 8

    @property
    def label(self) -> str:
        """The names, as the configuration has them."""
        return ", ".join(str(need.name).lower() for need in Need if need in self)


@frozen_value
class Candidate:
    """A target as the configuration says it: where, how good, and what it can do.

    `regions` are its region and its tags. `lacks` is what it is known not to do; `context` tokens are the most of one request. Prices are nano-dollars a
    token, as floats: they rank, nothing is booked by them. `seed` tells accounts apart in rendezvous hashing.
    `timeouts` instead of its account's.
    """

    place: int
    name: str
    account: str
    model: str
    weight: float = 1.0
    region: str | None = None
    tier: str | None = None
    regions: frozenset[str] = frozenset()
    lacks: Need = Need.NOTHING
    context: float = ENDLESS
    quality: float = 0.0
    input_nano: float = 0.0
    output_nano: float = 0.0
    seed: int = 0
    timeouts: Timeouts | None = None

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """What a call of this size is expected to cost, in nano-dollars."""
        return self.input_nano * input_tokens + self.output_nano * output_tokens

    @property
    def limited(self) -> bool:
        """Whether there are requests that it is known not to serve."""
        return bool(self.lacks) or self.context != ENDLESS


@dataclass(slots=True)
class Now:
    """What is known of a candidate at the moment; times in epoch seconds.

    Nothing goes to it before `shut_until`, for the reason `why`; where that is not known (infinite), it may be worth
    asking again at `again_at`. `probing`: it is half open, and a call has to find out. `first_s` and `token_s` are its recent time to the first token and for each further one; 0: not known.
    """

    shut_until: float = 0.0
    again_at: float = 0.0
    why: str = ""
    probing: bool = False
    in_flight: int = 0
    first_s: float = 0.0
    token_s: float = 0.0


@dataclass(slots=True)
class Moment:
    """What is known of a plan's candidates, by their places, and of all together.

    `shut_until` is the latest of theirs, `probing` whether any is half open: where neither tells anything, nobody
    looks at each.
    """

    nows: list[Now]
    shut_until: float = 0.0
    probing: bool = False


@frozen_value
class Ask:
    """What a job is, as far as its way depends on it. `key` keeps jobs together, None: each for itself.

    `input_tokens` is its size; `output_tokens` what its answer will likely have, `most_output` at most. `regions`:
    one of them must be the target's. `tried`: names of targets that have failed it. `level`: how many tiers up it has gone.
    `body` is the request as JSON, for conditions on what it says; `deadline` is in epoch seconds.
    """

    tenant: str = ""
    project: str = ""
    app: str | None = None
    user: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    job_class: str = "standard"
    operation: str = "chat"
    input_tokens: int = 0
    output_tokens: int = 0
    most_output: int = 0
    needs: Need = Need.NOTHING
    regions: frozenset[str] = frozenset()
    key: str | None = None
    job: str = ""
    tried: frozenset[str] = frozenset()
    level: int = 0
    body: bytes = b""
    deadline: float = ENDLESS


@frozen_value
class Look:
    """What became of one candidate, for people who ask why."""

    name: str
    kept: bool
    why: str


@frozen_value
class Decision:
    """Where a job goes: `chosen`, None where it has to wait until `until` (epoch seconds) or for good (`until` None).

    `why` in a few words. `arm` of a split. `looks` only where they were asked for.
    """

    chosen: Candidate | None
    why: str
    until: float | None = None
    arm: str | None = None
    looks: tuple[Look, ...] = field(default=())
