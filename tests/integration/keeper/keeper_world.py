"""A keeper's tasks without its process: who is silent is said by the test, what is published is written down."""

from dataclasses import dataclass, field

from tests.integration.ledger.world import World

from sluice_core.holds.model import Holds
from sluice_core.jobs.repository import JobRepository
from sluice_core.publishing.model import Due, Origin
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_keeper.expiry import Expiry
from sluice_keeper.reaper import Reaper
from sluice_platform.clock import SystemClock
from sluice_schemas.topics import Topics

ORIGIN = Origin(cell="main", topics=Topics(), record_bytes=8 * 1024**2)


@dataclass
class ToldWatch:
    """A watch that knows what it is told."""

    dead: list[int] = field(default_factory=list)

    async def read(self) -> None:
        pass

    def silent(self, lease_s: float) -> list[int]:
        return self.dead


@dataclass
class Paper:
    """A publisher that writes down."""

    rows: list[int] = field(default_factory=list)
    published: list[Due] = field(default_factory=list)
    unconfirmed: int = 0

    async def publish_rows(self, ids: list[int]) -> None:
        self.rows += ids

    def publish(self, due: Due) -> None:
        self.published.append(due)


def reaper(world: World, jobs: JobRepository, watch: ToldWatch) -> Reaper:
    return Reaper(
        watch,  # type: ignore[arg-type]
        jobs,
        UpkeepRepository(world.pool, jobs.incarnation),
        {"mock": "openai"},
        SystemClock(),
        owned_lease_s=6.0,
        calling_lease_s=30.0,
    )


def expiry(jobs: JobRepository, paper: Paper) -> Expiry:
    async def nothing_held() -> Holds:
        return Holds()

    return Expiry(jobs, paper, SystemClock(), nothing_held)  # type: ignore[arg-type]
