"""Takes from the dead what they held: unstarted jobs go back to their lanes, calls are judged and settled."""

import random
from collections.abc import Mapping, Sequence

import asyncpg
import structlog

from sluice_core.jobs.model import Abandoned, AbandonedReading
from sluice_core.jobs.policy import Settle
from sluice_core.jobs.repository import POISON, JobRepository
from sluice_core.jobs.writes import Settlement
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_keeper.judgement import reading_settlement, settlement_of
from sluice_keeper.watch import Watch
from sluice_platform.clock import Clock
from sluice_platform.ids import uuid7

EVERY_S = 0.5
OWNED_BATCH = 1_000
CALLING_BATCH = 200

_log = structlog.stdlib.get_logger(__name__)


class Reaper:
    """One pass reads all beats and takes what is left of the dead. Their results go out by the sweeper.

    `providers` are the OpenTelemetry names of the accounts' providers, by account.
    """

    def __init__(
        self,
        watch: Watch,
        jobs: JobRepository,
        upkeep: UpkeepRepository,
        providers: Mapping[str, str],
        clock: Clock,
        *,
        owned_lease_s: float,
        calling_lease_s: float,
    ) -> None:
        self._watch = watch
        self._jobs = jobs
        self._upkeep = upkeep
        self._providers = providers
        self._clock = clock
        self._owned_lease_s = owned_lease_s
        self._calling_lease_s = calling_lease_s

    async def once(self) -> bool:
        """One pass. Never says there is more: two readings must lie apart."""
        await self._watch.read()
        silent_owned = self._watch.silent(self._owned_lease_s)
        silent = self._watch.silent(self._calling_lease_s)
        reaped = await self._jobs.reap_owned(silent_owned, OWNED_BATCH)
        if reaped:
            _log.warning("reaper.returned", jobs=reaped)
        await self._settle_abandoned(
            await self._jobs.abandoned(silent, silent_owned, CALLING_BATCH)
        )
        await self._settle_readings(await self._jobs.abandoned_readings(silent, CALLING_BATCH))
        if silent:
            for incarnation in await self._upkeep.bury(silent, self._calling_lease_s):
                _log.warning("reaper.buried", incarnation=incarnation)
        return False

    async def _settle_abandoned(self, left: Sequence[Abandoned]) -> None:
        for owner in {one.owner for one in left}:
            await self._settle(owner, [self._judged(one) for one in left if one.owner == owner])

    async def _settle_readings(self, left: Sequence[AbandonedReading]) -> None:
        for owner in {one.owner for one in left}:
            await self._settle(owner, [self._unread(one) for one in left if one.owner == owner])

    def _judged(self, left: Abandoned) -> Settlement:
        attempt = left.open_attempt
        return settlement_of(
            left,
            provider="" if attempt is None else self._provider_of(attempt.account),
            now=round(self._clock.now(), 6),
            jitter=random.random(),
            ce_id=uuid7(),
            usage_id=uuid7(),
        )

    def _unread(self, left: AbandonedReading) -> Settlement:
        return reading_settlement(
            left,
            provider=self._provider_of(left.open_attempt.account),
            now=round(self._clock.now(), 6),
            usage_id=uuid7(),
        )

    def _provider_of(self, account: str) -> str:
        """The account's own name where it is configured no more."""
        return self._providers.get(account, account)

    async def _settle(self, owner: int, settlements: list[Settlement]) -> None:
        """Settle in a dead owner's name; one that cannot be stored does not hold up the others."""
        try:
            settled = await self._jobs.settle(settlements, owner=owner)
        except asyncpg.PostgresError as exc:
            if exc.sqlstate is None or not exc.sqlstate.startswith(POISON):
                raise
            if len(settlements) == 1:
                _log.error("reaper.poison", job_id=str(settlements[0].id), error=repr(exc))
                return
            for settlement in settlements:
                await self._settle(owner, [settlement])
            return
        for settlement, verdict in zip(settlements, settled.verdicts, strict=True):
            if verdict is Settle.SETTLED:
                _log.warning(
                    "reaper.settled",
                    job_id=str(settlement.id),
                    attempt=settlement.attempt,
                    state=None if settlement.state is None else settlement.state.label,
                )
