"""Drives the ledger and its model side by side, one operation at a time, and compares them after each."""

import random
import time
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

from tests.integration.keeper.keeper_world import Paper, ToldWatch, expiry, reaper
from tests.integration.ledger.comparison import compare
from tests.integration.ledger.model import Execution, Model
from tests.integration.ledger.world import (
    HEAD,
    World,
    again,
    elsewhere,
    ended,
    held,
    intent,
    reading,
    report,
)

from sluice_core.jobs.model import Job, Outcome, State
from sluice_core.jobs.policy import Admission, Begin, Duplicate, Settle, begin, duplicate, settles
from sluice_core.jobs.repository import JobRepository
from sluice_core.jobs.writes import Entry, Settlement
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_platform.ids import uuid7

KEYS = ("a", "b", "c")
ADMISSIONS = {
    Duplicate.JOIN: Admission.JOINED,
    Duplicate.RESEND: Admission.RESENT,
    Duplicate.CONFLICT: Admission.CONFLICT,
    Duplicate.NOTHING: Admission.REDELIVERED,
}
OPERATIONS = (
    "admit", "admit", "admit", "claim", "claim", "start", "start", "start", "settle", "settle", "settle",
    "settle_again", "read", "crash", "reap", "reap", "expire", "cancel", "cancel_run", "archive",
    "release", "resolve", "pass_time",
)  # fmt: skip


@dataclass
class Worker:
    """A worker as the test plays it: what it believes to hold may long be another's."""

    jobs: JobRepository
    held: dict[int, Job] = field(default_factory=dict)
    sent: list[Settlement] = field(default_factory=list)

    @property
    def incarnation(self) -> int:
        return self.jobs.incarnation


class Machine:
    """One tenant's jobs in a ledger that other machines may have used before."""

    def __init__(self, world: World, run: int) -> None:
        self.world = world
        self.run = run
        self.model = Model()
        self.workers: list[Worker] = []
        self.everyone: list[Worker] = []
        self.dead: set[int] = set()
        self.silent = ToldWatch()
        self.entries: dict[UUID, tuple[Entry, str]] = {}
        self.settled: set[UUID] = set()
        self.begun: dict[tuple[int, int], int] = {}
        self.ce_ids: dict[int, UUID] = {}

    async def step(self, operation: str, seed: int) -> None:
        self.dice = random.Random(seed)
        while len(self.workers) < 3:
            await self._hire()
        await getattr(self, operation)()
        await compare(self.world, self.model, self.ce_ids)

    async def drain(self) -> None:
        """All die; what they left must still come to one end each."""
        for worker in self.everyone:
            if worker.incarnation not in self.dead:
                await self._bury(worker)
        last = Worker(await self.world.worker())
        for _ in range(40):
            await self.reap()
            await self.pass_time()
            await self.expire()
            await self._claim(last, 50)
            for job in list(last.held.values()):
                await self._start(last, job)
            for job in list(last.held.values()):
                await self._settle(
                    last, ended(job, State.SUCCEEDED, report(Outcome.SUCCEEDED)), None
                )
            last.held.clear()
            if all(e.state.terminal for e in self.model.executions.values()):
                break
        await compare(self.world, self.model, self.ce_ids)
        assert all(e.state.terminal for e in self.model.executions.values())
        assert not any(None in e.attempts.values() for e in self.model.executions.values())

    async def admit(self) -> None:
        worker = self.dice.choice(self.workers)
        batch = {}
        for _ in range(self.dice.choice((1, 1, 2))):
            entry, due = self._entry()
            batch.setdefault(entry.id, (entry, due))
        expected = [self._expect(worker, entry) for entry, _ in batch.values()]
        admitted = await worker.jobs.admit([entry for entry, _ in batch.values()])
        assert list(admitted.verdicts) == expected
        for place, (entry, due) in enumerate(batch.values()):
            self.entries[entry.record_id] = (entry, due)
            if expected[place] in (Admission.ADMITTED, Admission.CANCELLED):
                row = admitted.rows[place]
                job = held(
                    entry, row, admitted.day, admitted.executions[place], admitted.attempts[place]
                )
                self._admitted(worker, entry, due, job, expected[place] is Admission.CANCELLED)
            else:
                self._repeated(entry, expected[place])

    def _entry(self) -> tuple[Entry, str]:
        dice = self.dice
        if self.entries and dice.random() < 0.25:
            return dice.choice(list(self.entries.values()))
        due = dice.choice(("later",) * 6 + ("deadline", "wait"))
        now = time.time()
        entry = self.world.entry(
            dice.choice(KEYS),
            record=uuid4(),
            state=dice.choice((State.OWNED, State.PARKED)),
            body=dice.choice((b"x", b"x", b"x", b"x", b"y")),
            deadline=now - 1 if due == "deadline" else now + 3600,
            due_at=now - 1 if due == "wait" else None,
            run=(self.run, "r") if dice.random() < 0.3 else None,
            max_attempts=dice.choice((1, 3, 5)),
            retry_unknown=dice.random() < 0.5,
            streams=dice.random() < 0.2,
            rerun=dice.random() < 0.5,
        )
        return entry, due

    def _expect(self, worker: Worker, entry: Entry) -> Admission:
        current = self.model.current.get(entry.id)
        cancelled = entry.id in self.model.cancels or (
            entry.run is not None and self.model.run_cancelled
        )
        fresh = Admission.CANCELLED if cancelled else Admission.ADMITTED
        if current is None:
            return fresh
        what = duplicate(
            current.state,
            seen=entry.record_id in current.records,
            same_body=entry.body == current.body,
            rerun=entry.rerun,
        )
        return ADMISSIONS.get(what, fresh)

    def _admitted(self, worker: Worker, entry: Entry, due: str, job: Job, cancelled: bool) -> None:
        before = self.model.current.get(entry.id)
        assert job.execution == (1 if before is None else before.number + 1)
        assert job.attempt == (0 if before is None else before.attempt)
        owned = cancelled or entry.state is State.OWNED
        self.model.add(
            Execution(
                id=entry.id,
                row=job.row,
                number=job.execution,
                state=State.OWNED if owned else State.PARKED,
                owner=worker.incarnation if owned else None,
                body=entry.body,
                due=due,
                max_attempts=entry.max_attempts,
                retry_unknown=entry.retry_unknown,
                streams=entry.streams,
                in_run=entry.run is not None,
                attempt=job.attempt,
                first_attempt=job.attempt,
                cancel=cancelled,
                records={entry.record_id} | (set() if before is None else before.records),
            )
        )
        self.model.cancels.discard(entry.id)
        if owned:
            worker.held[job.row] = job

    def _repeated(self, entry: Entry, verdict: Admission) -> None:
        current = self.model.current[entry.id]
        if verdict is Admission.JOINED:
            current.records.add(entry.record_id)
            current.waiters.add(entry.record_id)
        elif verdict is Admission.RESENT:
            current.records.add(entry.record_id)
            current.answered[entry.record_id] += 1

    async def claim(self) -> None:
        await self._claim(self.dice.choice(self.workers), self.dice.choice((1, 2, 5)))

    async def _claim(self, worker: Worker, limit: int) -> None:
        waiting = [
            e
            for e in self.model.executions.values()
            if e.state is State.PARKED or (e.state is State.RETRY_WAIT and e.retry_due)
        ]
        jobs = await worker.jobs.claim(
            [(self.world.lane, *HEAD, limit)], limit=limit, max_bytes=10_000
        )
        assert len(jobs) == min(limit, len(waiting))
        for job in jobs:
            execution = self.model.executions[job.row]
            assert execution in waiting
            assert (job.attempt, job.deaths, job.cancel, job.execution) == (
                execution.attempt,
                execution.deaths,
                execution.cancel,
                execution.number,
            )
            execution.state, execution.owner = State.OWNED, worker.incarnation
            worker.held[job.row] = job

    def _pick(self) -> tuple[Worker, Job] | None:
        choices = [(w, job) for w in self.workers for job in w.held.values()]
        return self.dice.choice(choices) if choices else None

    async def start(self) -> None:
        if picked := self._pick():
            await self._start(*picked)

    async def _start(self, worker: Worker, job: Job) -> None:
        execution = self.model.executions[job.row]
        expected = begin(
            execution.state,
            mine=execution.owner == worker.incarnation,
            cancel=execution.cancel,
            deadline=0.0 if execution.due == "deadline" else 2.0,
            now=1.0,
        )
        (begun,) = await worker.jobs.begin([intent(job)])
        verdict, attempt = begun.verdict, begun.attempt
        assert verdict is expected
        if verdict is Begin.BEGUN:
            execution.state = State.CALLING
            execution.attempt += 1
            assert attempt == execution.attempt
            execution.attempts[attempt] = None
            self.begun[job.row, attempt] = worker.incarnation
            worker.held[job.row] = replace(job, attempt=attempt)

    async def settle(self) -> None:
        if not (picked := self._pick()):
            return
        worker, job = picked
        kind = self.dice.choice(
            ("success", "success", "failed", "retry", "elsewhere", "unknown", "read_on", "no_call")
        )
        unknown = report(Outcome.UNKNOWN, money="unknown")
        settlement = {
            "success": lambda: ended(job, State.SUCCEEDED, report(Outcome.SUCCEEDED)),
            "failed": lambda: ended(job, State.FAILED, report(Outcome.FAILED, money="none")),
            "retry": lambda: again(job, report(Outcome.FAILED, money="none")),
            "elsewhere": lambda: elsewhere(job, report(Outcome.FAILED, money="none")),
            "unknown": lambda: ended(job, State.UNKNOWN, unknown),
            "read_on": lambda: ended(job, State.CANCELLED, unknown, read_on=True),
            "no_call": lambda: ended(job, State.EXPIRED, None),
        }[kind]()
        worker.sent.append(settlement)
        await self._settle(worker, settlement, job)

    async def settle_again(self) -> None:
        choices = [(w, s) for w in self.workers for s in w.sent]
        if choices:
            await self._settle(*self.dice.choice(choices), None)

    async def read(self) -> None:
        if picked := self._pick():
            worker, job = picked
            known = self.dice.random() < 0.5
            money = report(
                Outcome.CANCELLED if known else Outcome.UNKNOWN,
                money="estimated" if known else "unknown",
            )
            settlement = reading(job, money)
            worker.sent.append(settlement)
            await self._settle(worker, settlement, job)

    async def _settle(self, worker: Worker, settlement: Settlement, job: Job | None) -> None:
        execution = self.model.executions[settlement.row]
        if settlement.state is None:
            takes = (
                execution.reader == worker.incarnation and execution.attempt == settlement.attempt
            )
        else:
            takes = settles(
                execution.state,
                mine=execution.owner == worker.incarnation,
                attempt=execution.attempt,
                claimed=settlement.attempt,
                outcome=settlement.outcome,
            )
        # An attempt that cost nothing has no usage row to be told apart by: its owner and outcome are.
        same_end = settlement.usage is None and (
            settlement.outcome,
            self.begun.get((settlement.row, settlement.attempt)),
        ) == (execution.attempts.get(settlement.attempt) or "open", worker.incarnation)
        before = same_end or self._fingerprint(settlement) in self.settled
        expected = Settle.SETTLED if takes else Settle.MINE_BEFORE if before else Settle.FENCED
        outcome = await worker.jobs.settle([settlement])
        assert outcome.verdicts == [expected]
        if expected is Settle.FENCED:
            self.model.late[settlement.row] += 1
            assert not outcome.events
        elif expected is Settle.SETTLED:
            self.settled.add(self._fingerprint(settlement))
            self._took(execution, settlement, worker)

    @staticmethod
    def _fingerprint(settlement: Settlement) -> UUID:
        """What tells one settlement from another: its result's id, its usage row, or its very object."""
        if settlement.ce_id is not None:
            return settlement.ce_id
        if settlement.usage is not None:
            return settlement.usage.usage_id
        return UUID(int=settlement.row << 32 | settlement.attempt)

    def _took(self, execution: Execution, settlement: Settlement, worker: Worker) -> None:
        if settlement.outcome is Outcome.READ_ON:
            execution.reader = worker.incarnation
        elif settlement.outcome is not None:
            execution.attempts[execution.attempt] = settlement.outcome
            execution.reader = None
            if settlement.usage is not None:
                self.model.bill(
                    execution, execution.attempt, unknown=settlement.held_nano is not None
                )
        if settlement.state is State.RETRY_WAIT:
            execution.wait(due=True)
        elif settlement.state is State.OWNED:
            execution.go_on()
        elif settlement.state is not None:
            execution.end(settlement.state)

    async def crash(self) -> None:
        """One is dead to the others; it may itself go on, as a zombie, until it is replaced."""
        worker = self.dice.choice(self.workers)
        if self.dice.random() < 0.5:
            await self._bury(worker)
        else:
            self.dead.add(worker.incarnation)
            self.silent.dead.append(worker.incarnation)
        if len(self.workers) > 4:
            self.workers.pop(0)
        await self._hire()

    async def _bury(self, worker: Worker) -> None:
        self.dead.add(worker.incarnation)
        await self.world.pool.execute(
            "delete from sluice.workers where incarnation = $1", worker.incarnation
        )

    async def _hire(self) -> None:
        worker = Worker(await self.world.worker())
        self.workers.append(worker)
        self.everyone.append(worker)

    async def reap(self) -> None:
        await reaper(self.world, await self.world.worker(kind="keeper"), self.silent).once()
        for execution in self.model.executions.values():
            if execution.owner in self.dead:
                self.model.owner_died(execution)
            if execution.reader in self.dead:
                self.model.reader_died(execution)

    async def expire(self) -> None:
        keeper = await self.world.worker(kind="keeper")
        await expiry(keeper, Paper()).once()
        for execution in self.model.executions.values():
            if self.model.run_cancelled and execution.in_run and not execution.state.terminal:
                execution.cancel = True
            state = self.model.ending_due(execution)
            if state is not None:
                execution.end(state)

    async def cancel(self) -> None:
        job_id = self.world.entry(self.dice.choice(KEYS)).id
        mine = self.dice.random() < 0.8
        tenant = self.world.tenant if mine else "other"
        flagged = await self.workers[0].jobs.cancel([(tenant, job_id, None)])
        current = self.model.current.get(job_id)
        hits = mine and current is not None and not current.state.terminal and not current.cancel
        assert flagged == int(hits)
        if hits:
            assert current is not None
            current.cancel = True
        elif mine and current is None:
            self.model.cancels.add(job_id)

    async def cancel_run(self) -> None:
        if self.dice.random() < 0.3:
            await self.workers[0].jobs.cancel([(self.world.tenant, None, "r")])
            self.model.run_cancelled = True

    async def archive(self) -> None:
        await self.workers[0].jobs.archive(0, 0.0, 100_000)
        for execution in self.model.executions.values():
            execution.archived = execution.state.terminal

    async def release(self) -> None:
        worker = self.dice.choice(self.workers)
        rows = list(worker.held)
        mine = [
            e
            for e in self.model.executions.values()
            if e.row in worker.held and e.state is State.OWNED and e.owner == worker.incarnation
        ]
        assert await worker.jobs.release(rows) == len(mine)
        for execution in mine:
            execution.state, execution.owner = State.PARKED, None

    async def resolve(self) -> None:
        if self.model.unresolved:
            row, attempt = self.dice.choice(sorted(self.model.unresolved))
            usage_id = await self.world.pool.fetchval(
                "select usage_id from sluice.unresolved where job = $1 and attempt = $2",
                row,
                attempt,
            )
            upkeep = UpkeepRepository(self.world.pool, self.workers[0].incarnation)
            assert await upkeep.resolve(usage_id, uuid7(), 7)
            assert not await upkeep.resolve(usage_id, uuid7(), 7)
            self.model.unresolved.discard((row, attempt))
            self.model.corrected.add((self.model.executions[row].id, attempt))

    async def pass_time(self) -> None:
        await self.world.pool.execute(
            "update sluice.jobs set run_at = clock_timestamp() where state = 4 and lane = $1",
            self.world.lane,
        )
        for execution in self.model.executions.values():
            execution.retry_due = True
