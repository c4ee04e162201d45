"""What is held as a process knows it, at most one heartbeat old; and changing it."""

from collections.abc import Callable

import structlog

from sluice_core.holds.model import Holds
from sluice_core.holds.repository import HoldRepository
from sluice_core.jobs.model import Facts
from sluice_schemas.classes import JobClass

_log = structlog.stdlib.get_logger(__name__)


class HeldNow:
    """Answers whether a lane or a job is held; read again when the version that heartbeats bring has moved.

    `accounts_of` names the accounts that a model's jobs may go to.
    """

    def __init__(
        self, repository: HoldRepository, accounts_of: Callable[[str], frozenset[str]]
    ) -> None:
        self._repository = repository
        self._accounts_of = accounts_of
        self._holds = Holds()
        self._version = -1

    @property
    def known(self) -> bool:
        """Whether the holds were read at all."""
        return self._version >= 0

    @property
    def accounts(self) -> frozenset[str]:
        """The accounts that are held."""
        return self._holds.accounts

    async def refresh(self, version: int) -> bool:
        """Read the holds if `version` is not the one read last; whether they are others now."""
        if version == self._version:
            return False
        found = await self._repository.current()
        self._version = version
        changed = found != self._holds
        if changed:
            _log.info("holds.changed", held=bool(found))
        self._holds = found
        return changed

    def lane(self, job_class: JobClass, tenant: str, model: str) -> bool:
        """Whether a whole lane is held."""
        holds = self._holds
        if not holds:
            return False
        accounts = self._accounts_of(model) if holds.accounts else frozenset()
        return holds.lane(job_class, tenant, model, accounts)

    def run(self, facts: Facts) -> bool:
        """Whether a job's run is held."""
        return bool(self._holds.runs) and self._holds.run(facts)

    def job(self, facts: Facts) -> bool:
        """Whether a job is held, by its lane or its run."""
        return bool(self._holds) and (
            self.run(facts) or self.lane(facts.job_class, facts.tenant, facts.model or "")
        )
