"""The step that takes cancels: the ledger's flag first, then whatever of it this worker can end at once."""

from collections.abc import Sequence

from sluice_core.intake.model import Cancel, DeadLetter, Record, Rejection
from sluice_core.jobs.repository import JobRepository
from sluice_worker.admit import AdmitStep
from sluice_worker.claim import Claimer
from sluice_worker.reading import Reader

ENDING_BATCH = 200


class ControlStep:
    """Flags jobs and runs as cancelled and takes up those that nobody owns."""

    def __init__(
        self,
        jobs: JobRepository,
        admit: AdmitStep,
        claimer: Claimer,
        reader: Reader,
    ) -> None:
        self._jobs = jobs
        self._admit = admit
        self._claimer = claimer
        self._reader = reader

    async def take(self, records: Sequence[Record]) -> None:
        """Make a batch of control records durable."""
        verdicts = await self._reader.read(records)
        wishes = [(v.tenant, v.job_id, v.run_id) for v in verdicts if isinstance(v, Cancel)]
        refused = [v for v in verdicts if isinstance(v, DeadLetter | Rejection)]
        if refused:
            await self._admit.write(refused)
        if wishes:
            await self._jobs.cancel(wishes)
            self._claimer.hold(await self._jobs.claim_ending(ENDING_BATCH))
