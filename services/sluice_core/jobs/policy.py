"""The state machine, pure: what each step may do to a job, as the SQL functions decide it.

                     ┌────────────── release, owner died ──────────────┐
                     ▼                                                 │
    admit ──────▶ parked ────────── claim ──────────▶ owned ◀── claim ── retry_wait
       │                                               │ │                  ▲
       └── by its reader, a slot being free ───────────┘ │ begin            │ settle: try again
                                                         ▼                  │
                          cancelled, expired, ◀─ settle calling ────────────┘
                          rejected, failed           │    │ settle, or reap in its dead owner's name
                                     owned ◀─ settle ┘    │ (another target is asked at once)
                                                          ▼
                     succeeded  failed  rejected  expired  cancelled  unknown

Each deciding SQL function has its twin here; tests hold the two against each other.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sluice_core.jobs.model import Outcome, State

MAX_DEATHS: Final = 3
"""Workers that may die under one job before it is given up."""


class Admission(IntEnum):
    """What admission made of a record; the numbers are those of `sluice.admit_v1`."""

    AGAIN = 0
    ADMITTED = 1
    JOINED = 2
    RESENT = 3
    CONFLICT = 4
    REDELIVERED = 5
    CANCELLED = 6


class Duplicate(IntEnum):
    """What a record means that names a job which exists; numbers of `sluice.duplicate_v1`."""

    JOIN = 1
    RESEND = 2
    RERUN = 3
    CONFLICT = 4
    NOTHING = 5


def duplicate(state: State, *, seen: bool, same_body: bool, rerun: bool) -> Duplicate:
    """Decide what a repeated identity gets.

    `seen`: this very record was here before. A job rejected after admission does not bind its key:
    the next record is its next execution.
    """
    if seen:
        return Duplicate.NOTHING
    if not same_body:
        return Duplicate.CONFLICT
    if not state.terminal:
        return Duplicate.JOIN
    if state is State.REJECTED:
        return Duplicate.RERUN
    if rerun and state in (State.FAILED, State.EXPIRED, State.CANCELLED):
        return Duplicate.RERUN
    return Duplicate.RESEND


class Begin(IntEnum):
    """Whether a provider call may begin; the numbers are those of `sluice.begin_v2`.

    From RATE_LIMITED to BUDGET_BUSY it may later; OVER_BUDGET and TOO_LARGE are final.
    """

    LOST = 0
    BEGUN = 1
    CANCELLED = 2
    EXPIRED = 3
    RATE_LIMITED = 4
    AT_CAPACITY = 5
    COOLING = 6
    BUDGET_BUSY = 7
    OVER_BUDGET = 8
    TOO_LARGE = 9

    @property
    def waits(self) -> bool:
        """Whether the job keeps its place and asks again."""
        return Begin.RATE_LIMITED <= self <= Begin.BUDGET_BUSY


def begin(
    state: State, *, mine: bool, cancel: bool, deadline: float, now: float, hedge: bool = False
) -> Begin:
    """Decide whether the owner's next attempt may begin. Times are epoch seconds.

    `hedge`: beside one that is under way.
    """
    if not mine or state is not (State.CALLING if hedge else State.OWNED):
        return Begin.LOST
    if cancel:
        return Begin.CANCELLED
    return Begin.EXPIRED if deadline <= now else Begin.BEGUN


class Settle(IntEnum):
    """What became of a settlement; the numbers are those of `sluice.settle_v2`."""

    FENCED = 0
    SETTLED = 1
    MINE_BEFORE = 2


def settles(
    state: State, *, mine: bool, attempt: int, claimed: int, outcome: Outcome | None
) -> bool:
    """Whether a settlement changes the job: its owner's, for its last attempt, at the right moment.

    `outcome` is None for a job that ends without a call; such a job is owned, any other is calling.
    """
    expected = State.OWNED if outcome is None else State.CALLING
    return mine and attempt == claimed and state is expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What becomes of a job whose owner died: `again` gives it back, else it ends in `state`.

    `attempt_unknown`: its open attempt may have been billed, and holds its worst case.
    """

    again: bool
    state: State
    attempt_unknown: bool


def judge(
    state: State, *, deaths: int, retry_unknown: bool, streams: bool, attempts_left: bool
) -> Judgement:
    """Judge a job by the state its dead owner left it in; `deaths` counts this one too.

    A streaming job whose deltas may have gone out is never called again.
    """
    given_up = deaths >= MAX_DEATHS
    if state is State.OWNED:
        return Judgement(again=not given_up, state=State.FAILED, attempt_unknown=False)
    if not retry_unknown or streams:
        return Judgement(again=False, state=State.UNKNOWN, attempt_unknown=True)
    if given_up:
        return Judgement(again=False, state=State.FAILED, attempt_unknown=True)
    return Judgement(again=attempts_left, state=State.UNKNOWN, attempt_unknown=True)
