"""The admit step of one worker on a real ledger, and what came of it besides rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.integration.ledger.world import World

from sluice_core.config.model import Config
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.parked import ParkedRepository
from sluice_core.policies.repository import DenialRepository
from sluice_core.publishing.model import Origin
from sluice_core.publishing.repository import OutboxRepository
from sluice_schemas.classes import JobClass
from sluice_schemas.topics import Topics
from sluice_worker.admit import AdmitStep
from sluice_worker.crowds import Crowds
from sluice_worker.flight import Flight
from sluice_worker.names import Names

ORIGIN = Origin(cell="main", topics=Topics(), record_bytes=64 * 1024)


@dataclass
class Desk:
    """The admit step of one worker, and what came of it besides rows."""

    ledger: World
    held: list[Flight] = field(default_factory=list)
    parked: list[int] = field(default_factory=list)
    published: list[int] = field(default_factory=list)

    async def step(self) -> AdmitStep:
        parked = ParkedRepository(self.ledger.pool)
        return AdmitStep(
            await self.ledger.worker(),
            Names(NameRepository(self.ledger.pool)),
            self,  # type: ignore[arg-type]
            ORIGIN,
            pool_of=lambda _model: "default",
            room_here=lambda job_class, *_: 500 if job_class is JobClass.REALTIME else 0,
            parked=lambda lane, *_: self.parked.append(lane),
            crowds=Crowds(parked, Config()),
            known=parked.known,
            hold=self.held.extend,
            cluster_id="cluster",
            denials=DenialRepository(self.ledger.pool),
        )

    async def publish_rows(self, ids: Sequence[int]) -> None:
        self.published += ids

    async def messages(self) -> list[tuple[str, bytes, dict[str, bytes]]]:
        due = await OutboxRepository(self.ledger.pool, ORIGIN).load(self.published)
        return [(m.topic, m.value or b"", dict(m.headers)) for d in due for m in d.messages]
