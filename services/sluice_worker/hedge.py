"""Two attempts of one job at two targets, of which the first answer counts; the other is read on and booked."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sluice_core.jobs.fates import FailureKind
from sluice_core.jobs.model import Outcome, State
from sluice_core.routing.retries import RetryBudget
from sluice_core.settlement.model import Problem, Report
from sluice_providers.calls import OnChunks, uncalled
from sluice_providers.port import Answer
from sluice_worker.flight import Flight
from sluice_worker.reports import bare, moment, of_end
from sluice_worker.route import Router
from sluice_worker.settle import SettleStep

REMEMBERED: Final = 10_000
"""Models whose share of hedged calls is known."""
READ_ON_S: Final = 30.0
"""How long a provider is read on after its job was answered, for the usage it reports at the end."""


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended; `sent`: whether anything may have left, where there is no answer."""

    answer: Answer | None
    sent: bool

    @property
    def well(self) -> bool:
        """Whether it is an answer."""
        return self.answer is not None and self.answer.failure is None


@dataclass(slots=True, eq=False)
class Race:
    """The attempt that was under way, and the one beside it, which is the job's own in the ledger once it has begun.

    `beginning`: whether the second has begun is not known yet; what happens to the first waits for that: `held` is how
    it ended, `early` in which state the job is to end. `failed`: how the second ended while the first goes on.
    """

    first: Flight
    second: Flight
    beginning: bool = True
    held: End | None = None
    early: tuple[State, Problem] | None = None
    failed: End | None = None


class Calls(Protocol):
    """What the call step does with the ends of attempts."""

    def finish(self, flight: Flight, end: End) -> None:
        """End the job's own attempt, and the job as that says."""
        ...

    def give_early(self, flight: Flight, state: State, problem: Problem) -> None:
        """Answer the requester of a job with one attempt."""
        ...

    def end_of(self, flight: Flight, end: End) -> State:
        """In which state a job ends whose attempt failed for good."""
        ...

    def repeatable(self, flight: Flight, report: Report) -> None:
        """Let others have a good answer, too."""
        ...


class Hedging:
    """Begins second attempts, and decides what the end of either means. Nothing here concerns a job that is not hedged.

    `begin` takes a second attempt, `hold` a flight that is its job's only one now.
    """

    def __init__(
        self,
        router: Router,
        settle: SettleStep,
        calls: Calls,
        *,
        begin: Callable[[Flight], None],
        hold: Callable[[Flight], None],
    ) -> None:
        self._router = router
        self._settle = settle
        self._calls = calls
        self._begin = begin
        self._hold = hold
        self._budgets: dict[tuple[str, float], RetryBudget] = {}

    def called(self, flight: Flight) -> None:
        """A call began: where its model hedges, a second is due a while later, if it has brought nothing by then."""
        route, job = flight.route, flight.job
        assert route is not None
        if route.hedge is None or not flight.realtime or flight.race is not None:
            return
        if flight.told is not None or flight.kept is not None or route.check is not None:
            return
        # By its share as well: another configuration may bring another one.
        key = (job.facts.model or "", route.hedge.share)
        budget = self._budgets.get(key)
        if budget is None:
            if len(self._budgets) > REMEMBERED:
                self._budgets.clear()
            budget = RetryBudget(share=route.hedge.share, floor_s=0.0)
            self._budgets[key] = budget
        budget.called()
        after = route.hedge.after
        asyncio.get_running_loop().call_later(after, self._due, flight, flight.task, budget)

    def _due(self, flight: Flight, task: "asyncio.Task[None] | None", budget: RetryBudget) -> None:
        job, route, now = flight.job, flight.route, time.time()
        if task is None or task.done() or flight.task is not task or flight.race is not None:
            return
        if flight.answered or flight.deltas or job.attempts_made >= job.max_attempts:
            return
        assert route is not None
        tried = flight.tried | {route.name}
        if now >= job.deadline or not self._router.other(job, tried, now):
            return
        if not budget.allows(now):
            return
        second = Flight(
            job=job,
            requester=flight.requester,
            size=0,
            tried=tried,
            hedges=True,
            spent_nano=flight.spent_nano + flight.worst_nano,
        )
        flight.race = second.race = Race(flight, second)
        self._begin(second)

    def begun(self, second: Flight) -> bool:
        """The second attempt is durable; False where nobody waits for it any more: it is not called."""
        race = second.race
        assert race is not None
        race.beginning, second.hedges = False, False
        held, race.held = race.held, None
        # Who has shown a chunk is the one, whatever becomes of it.
        settled = race.first.deltas > 0 or (held is not None and held.well)
        if race.early is None and not settled:
            if held is not None:
                self.ended(race.first, held)
            return True
        assert second.route is not None
        self._router.never_went(second.route, time.time())
        race.failed = End(uncalled(FailureKind.UNPREPARED, "the job needed no second call"), False)
        if race.early is not None:
            self.end_early(race, *race.early)
            if held is not None:
                self._settle.read(race.first, of_end(race.first, held.answer, sent=held.sent))
        elif held is not None:
            self.ended(race.first, held)
        return False

    def not_begun(self, second: Flight) -> None:
        """There is no second attempt: the first is alone again."""
        race = second.race
        assert race is not None
        self._part(race)
        if race.early is not None:
            self._calls.give_early(race.first, *race.early)
            if race.held is not None:
                first, held = race.first, race.held
                self._settle.read(first, of_end(first, held.answer, sent=held.sent))
        elif race.held is not None:
            self._calls.finish(race.first, race.held)

    def listens(self, flight: Flight, chunks: OnChunks | None) -> OnChunks | None:
        """Where a stream's chunks go that may be hedged: whoever brings the first is the one."""
        if chunks is None or flight.route is None or flight.route.hedge is None:
            return chunks

        def take(pieces: list[bytes]) -> None:
            race = flight.race
            if race is not None and flight is race.second:
                if race.first.deltas:
                    return  # the other's go out already
                self._overtake(race.first, durable=True)
                self._alone(race)
            if not flight.overtaken:
                chunks(pieces)

        return take

    def ended(self, flight: Flight, end: End) -> None:
        """An attempt of a race ended whose requester waits."""
        race = flight.race
        assert race is not None
        if race.beginning:
            race.held = end
        elif flight is race.first:
            self._first_ended(race, end)
        elif end.well and not race.first.deltas:
            self._overtake(race.first, durable=True)
            self._alone(race)
            self._calls.finish(flight, end)
        elif end.well:
            # The other's chunks have gone out: this answer comes too late.
            self._overtake(flight, durable=False)
            self._settle.read(flight, of_end(flight, end.answer, sent=end.sent))
        else:
            race.failed = end

    def _first_ended(self, race: Race, end: End) -> None:
        first = race.first
        report = of_end(first, end.answer, sent=end.sent)
        first.answered = first.answer_durable = True
        if end.well:
            self._concludes(race, State.SUCCEEDED, report, instead=report)
            if first.ticket is not None and first.ticket.asks:
                self._calls.repeatable(first, report)
        elif first.deltas:
            # Its chunks have gone out: nobody else's answer can follow them.
            self._concludes(race, self._calls.end_of(first, end), report, instead=None)
        else:
            self._alone(race)
            if race.failed is not None:
                self._calls.finish(race.second, race.failed)
        self._settle.read(first, report)

    def end_early(self, race: Race, state: State, problem: Problem) -> None:
        """Answer the requester now; what is under way is read on."""
        if race.beginning:
            race.early = (state, problem)
            return
        race.first.answered = race.first.answer_durable = True
        race.second.cancelled = race.first.cancelled = state is State.CANCELLED
        self._bound(race.first)
        if race.failed is not None:
            second = race.second
            report = of_end(second, race.failed.answer, sent=race.failed.sent)
            self._settle.end(second, state, report=report, problem=problem)
        else:
            self._read_on(race.second, state, problem)
        self._part(race)

    def _concludes(
        self, race: Race, state: State, report: Report, *, instead: Report | None
    ) -> None:
        """The first attempt is the job's end, whatever becomes of the second."""
        second = race.second
        if race.failed is None:
            second.overtaken = True
            self._read_on(second, state, report.problem, instead=instead)
        else:
            other = of_end(second, race.failed.answer, sent=race.failed.sent)
            problem = other.problem if instead is not None else report.problem
            self._settle.end(second, state, report=other, problem=problem, instead=instead)
        self._part(race)

    def _read_on(
        self,
        second: Flight,
        state: State,
        problem: Problem | None,
        *,
        instead: Report | None = None,
    ) -> None:
        report = bare(second, outcome=Outcome.READ_ON, money="unknown", now=moment())
        second.answered = True
        self._settle.end(
            second, state, report=report, problem=problem, instead=instead, read_on=True
        )
        self._hold(second)
        self._bound(second)

    def _overtake(self, flight: Flight, *, durable: bool) -> None:
        flight.answered = flight.overtaken = True
        flight.answer_durable = durable
        self._bound(flight)

    @staticmethod
    def _bound(flight: Flight) -> None:
        if flight.task is not None:
            asyncio.get_running_loop().call_later(READ_ON_S, flight.task.cancel)

    def _alone(self, race: Race) -> None:
        """The second is the job's only attempt, and its flight the job's."""
        first, second = race.first, race.second
        second.ticket, first.ticket = first.ticket, None
        second.cancelled = first.cancelled
        self._part(race)
        self._hold(second)

    @staticmethod
    def _part(race: Race) -> None:
        race.first.race = race.second.race = None
