"""How much each tenant has parked: at its bound a tenant's own topic pauses, and elsewhere its new jobs are refused."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from sluice_core.config.model import Config, TenantConfig
from sluice_core.jobs.parked import ParkedRepository
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.classes import JobClass
from sluice_worker.backlog import FASTEST_S, ROWS_A_SECOND, SLOWEST_S

LOW = 0.9
"""Of its bound, below which a tenant may go on."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Crowd:
    """What one tenant has parked in one class: counted, and added here since; when to count again."""

    bound: int
    counted: int = 0
    added: int = 0
    full: bool = False
    count_at: float = 0.0

    def judge(self) -> None:
        """Hysteresis between the bound and what is a little less."""
        waiting = self.counted + self.added
        self.full = waiting >= (self.bound * LOW if self.full else self.bound)


class Crowds:
    """Counts the parked rows of those tenants that this worker parks for, each the more rarely the further from
    its bound it is."""

    def __init__(self, parked: ParkedRepository, config: Config) -> None:
        self._parked = parked
        self._tenants = config.tenants
        self._topics = {
            topic.name: (JobClass.from_label(topic.job_class), topic.tenant)
            for topic in config.intake.topics
            if topic.job_class != "control"
        }
        self._crowds: dict[tuple[JobClass, str], _Crowd] = {}
        for job_class, tenant in self._topics.values():
            self._crowd(job_class, tenant)

    def change(self, config: Config) -> None:
        """Go by another configuration's bounds; the topics that are read stay those of the start."""
        self._tenants = config.tenants
        for (_, tenant), crowd in self._crowds.items():
            crowd.bound = config.tenants.get(tenant, TenantConfig()).max_parked

    def parked(self, job_class: JobClass, tenant: str) -> None:
        """This worker parks a row."""
        crowd = self._crowd(job_class, tenant)
        crowd.added += 1
        if not crowd.full and crowd.counted + crowd.added >= crowd.bound:
            crowd.count_at = 0.0
            crowd.judge()

    def beyond(self, job_class: JobClass, tenant: str, topic: str) -> int | None:
        """How many of a tenant's jobs wait, if a record that came by `topic` is one too many; else None.

        On a topic of its own none is: that pauses instead.
        """
        crowd = self._crowds.get((job_class, tenant))
        if crowd is None or not crowd.full or topic in self._topics:
            return None
        return crowd.counted + crowd.added

    def full_topics(self, job_class: JobClass) -> frozenset[str]:
        """Topics of this class that are one tenant's own, and that pause."""
        return frozenset(
            name
            for name, key in self._topics.items()
            if key[0] is job_class and self._crowd(*key).full
        )

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            await asyncio.sleep(FASTEST_S)
            try:
                await self.count()
            except DATABASE_ERRORS as exc:
                _log.warning("crowds.not_counted", error=repr(exc))

    async def count(self) -> None:
        """Count those whose time has come, one statement a class."""
        now = time.monotonic()
        for job_class in JobClass:
            due = {
                tenant: crowd
                for (of, tenant), crowd in self._crowds.items()
                if of is job_class and crowd.count_at <= now
            }
            if not due:
                continue
            added = {tenant: crowd.added for tenant, crowd in due.items()}
            counts = await self._parked.of_tenants(
                job_class, {tenant: crowd.bound + 1 for tenant, crowd in due.items()}
            )
            self._take(job_class, due, counts, added, took=time.monotonic() - now)

    def _take(
        self,
        job_class: JobClass,
        due: Mapping[str, _Crowd],
        counts: Mapping[str, int],
        added: Mapping[str, int],
        *,
        took: float,
    ) -> None:
        for tenant, crowd in due.items():
            was = crowd.full
            crowd.counted, crowd.added = counts[tenant], crowd.added - added[tenant]
            crowd.judge()
            if crowd.full is not was:
                _log.info(
                    "tenant.backlog",
                    tenant=tenant,
                    job_class=job_class.label,
                    parked=crowd.counted,
                    full=crowd.full,
                )
            far = (crowd.bound - crowd.counted) / ROWS_A_SECOND
            # Counting a long queue takes its time; it may not become the load.
            crowd.count_at = time.monotonic() + max(20 * took, min(SLOWEST_S, max(FASTEST_S, far)))

    def _crowd(self, job_class: JobClass, tenant: str) -> _Crowd:
        key = (job_class, tenant)
        crowd = self._crowds.get(key)
        if crowd is None:
            bound = self._tenants.get(tenant, TenantConfig()).max_parked
            crowd = self._crowds[key] = _Crowd(bound=bound)
        return crowd
