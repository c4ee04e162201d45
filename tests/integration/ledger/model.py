"""The ledger as a pure model: what every execution must look like after each step."""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from sluice_core.jobs.model import Outcome, State
from sluice_core.jobs.policy import MAX_DEATHS, judge


@dataclass
class Execution:
    """One execution; `due`: `later`, `deadline` (already past), or `wait` (max_wait_s is over, the deadline is not)."""

    id: UUID
    row: int
    number: int
    state: State
    owner: int | None
    body: bytes
    due: str
    max_attempts: int
    retry_unknown: bool
    streams: bool
    in_run: bool
    attempt: int
    cancel: bool = False
    deaths: int = 0
    retry_due: bool = False
    archived: bool = False
    reader: int | None = None
    first_attempt: int = 0
    records: set[UUID] = field(default_factory=set)
    waiters: set[UUID] = field(default_factory=set)
    answered: Counter[UUID] = field(default_factory=Counter)
    attempts: dict[int, Outcome | None] = field(default_factory=dict)

    @property
    def attempts_left(self) -> bool:
        return self.attempt - self.first_attempt < self.max_attempts and self.due != "deadline"

    def end(self, state: State) -> None:
        self.state, self.owner = state, None
        self.answered.update(self.waiters)

    def go_on(self) -> None:
        """The attempt ended, the job is still its owner's."""
        self.state = State.OWNED
        if self.due == "wait":
            self.due = "later"

    def wait(self, *, due: bool) -> None:
        self.state, self.owner, self.retry_due = State.RETRY_WAIT, None, due
        if self.due == "wait":
            self.due = "later"


@dataclass
class Model:
    """Every execution by its row, and the money by (row, attempt)."""

    executions: dict[int, Execution] = field(default_factory=dict)
    current: dict[UUID, Execution] = field(default_factory=dict)
    cancels: set[UUID] = field(default_factory=set)
    run_cancelled: bool = False
    late: Counter[int] = field(default_factory=Counter)
    usage: set[tuple[UUID, int]] = field(default_factory=set)
    unresolved: set[tuple[int, int]] = field(default_factory=set)
    corrected: set[tuple[UUID, int]] = field(default_factory=set)

    def add(self, execution: Execution) -> None:
        self.executions[execution.row] = execution
        self.current[execution.id] = execution

    def bill(self, execution: Execution, attempt: int, *, unknown: bool) -> None:
        self.usage.add((execution.id, attempt))
        if unknown:
            self.unresolved.add((execution.row, attempt))

    def owner_died(self, execution: Execution) -> None:
        """What the reaper does to a job whose owner is dead."""
        execution.deaths += 1
        judgement = judge(
            execution.state,
            deaths=execution.deaths,
            retry_unknown=execution.retry_unknown,
            streams=execution.streams,
            attempts_left=execution.attempts_left,
        )
        if judgement.attempt_unknown:
            execution.attempts[execution.attempt] = Outcome.UNKNOWN
            self.bill(execution, execution.attempt, unknown=True)
        if not judgement.again:
            execution.end(judgement.state)
        elif judgement.attempt_unknown:
            execution.wait(due=False)
        else:
            assert execution.deaths < MAX_DEATHS
            execution.state, execution.owner = State.PARKED, None

    def reader_died(self, execution: Execution) -> None:
        execution.reader = None
        execution.attempts[execution.attempt] = Outcome.UNKNOWN
        self.bill(execution, execution.attempt, unknown=True)

    def ending_due(self, execution: Execution) -> State | None:
        """The state in which expiry ends an execution now; None: it has no end yet."""
        if execution.state not in (State.PARKED, State.RETRY_WAIT):
            return None
        if execution.cancel:
            return State.CANCELLED
        if execution.state is State.PARKED and execution.due != "later":
            return State.EXPIRED if execution.due == "deadline" else State.REJECTED
        return None
