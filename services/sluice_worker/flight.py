"""A job while this worker holds it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from sluice_core.config.routing import FailureClass
from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Job
from sluice_core.settlement.model import Report
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_worker.resolve import Route

if TYPE_CHECKING:
    from sluice_worker.cache import Ticket
    from sluice_worker.hedge import Race


@dataclass(slots=True, eq=False)
class Flight:
    """One job on its way through the steps; mutable, owned by the step that has it.

    `answered`: the requester has its result already (cancelled, expired) and only the attempt is still open;
    `late_report` is how that ended, if it did before the answer was durable.
    `rule` is the policy's statement that refuses it.
    `spent_nano` is what its other attempts cost, or may cost as long as they are under way, as far as this worker knows.
    `bound_tokens` and `expected_tokens` are input and output together, at most and as recent ones tell;
    dispatch charges the latter (0: nobody has said yet). `charged` is what it did charge and the ledger has not
    confirmed; `guess` is how much of that nothing is known of; `tenant_floor` and `project_floor` are what `begin` raises the shared virtual times to first.
    `asks`: its lane waits for the answer of its begin, for which it was queued at `asked_at` (monotonic seconds).
    `waits_for` is what it waits for, the code and a sentence, `retry_after_s` how long its requester should;
    until `not_before` (epoch seconds) it does not start. `arrival` is its place among those due at one moment.
    `pressure` and `cool_until` are what the answer said of its account's and target's load.
    `secret` is what it is called with; `spared` says that its failure was that of this secret alone.
    `ticket`: its place with the cache, once that has been asked. `tried` are the targets that have failed it
    here, `fell_back` how the last of them did. `recalled`: the cache has been asked because no target could be.
    `level`: how many tiers up it has gone, `falls_short` why its last answer did not pass the tier's check, `kept` the
    last attempt that did not: it is the answer if no better one comes.
    `race`: another attempt of the same job is under way beside this one; `hedges`: this is the one that begins beside
    it, `overtaken`: the other was faster, and this one is only read on.
    `told` hears the answer of a job that the worker made itself, or None.
    `deltas` counts those sent for this attempt, `flush` sends what a stream still gathers.
    """

    job: Job
    requester: Requester
    size: int
    route: Route | None = None
    worst_nano: int = 0
    input_nano: int = 0
    spent_nano: int = 0
    bound_tokens: int = 0
    expected_tokens: int = 0
    started_at: float = 0.0
    pressure: float | None = None
    cool_until: float | None = None
    secret: str = field(default="", repr=False)
    spared: bool = False
    answered: bool = False
    answer_durable: bool = False
    late_report: Report | None = None
    cancelled: bool = False
    rule: str | None = None
    timer: asyncio.TimerHandle | None = None
    task: "asyncio.Task[None] | None" = None
    ticket: "Ticket | None" = None
    tried: frozenset[str] = frozenset()
    fell_back: FailureClass | None = None
    recalled: bool = False
    level: int = 0
    falls_short: str | None = None
    kept: Report | None = None
    race: "Race | None" = None
    hedges: bool = False
    overtaken: bool = False
    told: Callable[[bytes | None], object] | None = None
    deltas: int = 0
    flush: Callable[[], None] | None = None
    charged: float = 0.0
    guess: float = 0.0
    tenant_floor: float = 0.0
    project_floor: float = 0.0
    asks: bool = False
    asked_at: float = 0.0
    not_before: float = 0.0
    waits_for: tuple[ErrorCode, str] | None = None
    retry_after_s: float | None = None
    arrival: int = 0

    @property
    def realtime(self) -> bool:
        """Whether somebody waits for this job: it goes in the small, prompt batches."""
        return self.job.facts.job_class is JobClass.REALTIME

    @property
    def id(self) -> UUID:
        """The job's public id."""
        return self.job.id
