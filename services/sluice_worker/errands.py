"""Jobs that the worker makes itself, for another job's sake: admitted, called, settled and booked like any."""

import asyncio
import time
from collections.abc import Callable
from uuid import UUID, uuid5

import orjson
import structlog

from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Facts, State
from sluice_core.jobs.policy import Admission
from sluice_core.jobs.repository import JobRepository
from sluice_core.jobs.writes import Entry
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.identity import body_hash
from sluice_worker.entries import flight_of
from sluice_worker.flight import Flight
from sluice_worker.names import Names

_log = structlog.stdlib.get_logger(__name__)


class Errands:
    """Sends errands and hands their answers to who asked; nothing waits for a slot, and nothing is tried twice.

    `pool_of` says by whose workers a model is served: only this one's can be asked here. `start` takes one in hand at
    once, whatever waits: its parent keeps a slot for both.
    """

    def __init__(
        self,
        jobs: JobRepository,
        names: Names,
        *,
        pool: str,
        pool_of: Callable[[str], str],
        start: Callable[[Flight], None],
    ) -> None:
        self._jobs = jobs
        self._names = names
        self._pool = pool
        self._pool_of = pool_of
        self._start = start

    async def embedding(
        self, parent: Flight, words: str, *, model: str, within_s: float
    ) -> bytes | None:
        """The answer of an embeddings job for `words`, in OpenAI's form; None where there is none in time.

        It belongs to whom its parent belongs, and draws on the same limits and budgets; its id follows from its
        parent's, so that it is made once. Its result goes to the results topic, like any.
        """
        if self._pool_of(model) != self._pool:
            return None
        job = parent.job
        body = {"model": model, "input": words, "encoding_format": "float"}
        facts = Facts(
            tenant=job.facts.tenant,
            team=job.facts.team,
            project=job.facts.project,
            app=job.facts.app,
            user_id=job.facts.user_id,
            key_id=job.facts.key_id,
            run_id=job.facts.run_id,
            tags=job.facts.tags,
            job_class=job.facts.job_class,
            model=model,
            operation="embeddings",
            url="/v1/embeddings",
            cache="off",
        )
        deadline = min(job.deadline, time.time() + within_s)
        try:
            flight = await self._admit(parent, facts, body, deadline)
        except DATABASE_ERRORS as exc:
            _log.warning("errand.not_admitted", job_id=str(job.id), error=repr(exc))
            return None
        if flight is None:
            return None
        told: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def tell(answer: bytes | None) -> None:
            if not told.done():
                told.set_result(answer)

        flight.told = tell
        self._start(flight)
        try:
            async with asyncio.timeout(within_s):
                return await told
        except TimeoutError:
            return None

    async def _admit(
        self, parent: Flight, facts: Facts, body: dict[str, str], deadline: float
    ) -> Flight | None:
        job = parent.job
        identity = uuid5(job.id, f"embedding/{job.execution}")
        lane = await self._names.lane(
            facts.job_class, self._pool, facts.tenant, facts.project, facts.model or ""
        )
        requester = _nobody(identity)
        entry = Entry(
            id=identity,
            record_id=identity,
            body_hash=body_hash("/v1/embeddings", body),
            lane=lane,
            state=State.OWNED,
            max_attempts=1,
            retry_unknown=False,
            streams=False,
            rerun=False,
            due_at=deadline,
            deadline=deadline,
            # It counts in no run: its caller sent one job, not two. What it costs does, by the name of the run.
            run=None,
            facts=facts,
            body=orjson.dumps(body),
            requester=requester.to_bytes(),
        )
        admitted = await self._jobs.admit([entry])
        if admitted.verdicts[0] is not Admission.ADMITTED:
            return None
        return flight_of(entry, requester, admitted, 0, time.time())


def _nobody(identity: UUID) -> Requester:
    """Nobody is replied to."""
    return Requester(
        custom_id=None,
        correlation_id=str(identity).encode(),
        echo=(),
        cause=None,
        reply_to=None,
        reply_partition=None,
        reply_only=False,
        traceparent=None,
        tracestate=None,
        record_key=None,
        record_id=identity,
    )
