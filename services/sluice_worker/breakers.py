"""The loop that tells other workers which targets are left alone, and hears it from them; nothing on a job's way waits for it."""

import asyncio
import contextlib
import time

import structlog

from sluice_core.routing.repository import BreakerRepository
from sluice_platform.db import DATABASE_ERRORS
from sluice_worker.targets import Targets

SHARE_S = 0.5
"""Between two looks; what happens here is told at once."""
PROBE_S = 30.0
"""How long a probe that was granted is nobody else's, from the last that was heard of who has it."""
MOST_OFTEN_S = 0.02
"""Between two looks while there is news all the time."""

_log = structlog.stdlib.get_logger(__name__)


class Breakers:
    """Shares the targets' standings."""

    def __init__(self, repository: BreakerRepository) -> None:
        self._repository = repository
        self._news = asyncio.Event()
        self.targets = Targets(self._news.set)

    async def run(self) -> None:
        """Share for ever."""
        while True:
            self._news.clear()
            await self._share()
            await asyncio.sleep(MOST_OFTEN_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SHARE_S):
                    await self._news.wait()

    async def _share(self) -> None:
        targets = self.targets
        opened, targets.opened = targets.opened, []
        closed, targets.closed = targets.closed, []
        given_up, targets.given_up = targets.given_up, []
        wanted, targets.wanted = targets.wanted, {}
        unpriced, targets.unpriced = targets.unpriced, []
        try:
            rows = await self._repository.share(
                opened=opened,
                closed=closed,
                given_up=given_up,
                wanted=wanted | targets.asking(),
                unpriced=unpriced,
                probe_s=PROBE_S,
            )
        except DATABASE_ERRORS as exc:
            _log.warning("breakers.not_shared", error=repr(exc))
            targets.opened[:0], targets.closed[:0], targets.given_up[:0] = opened, closed, given_up
            targets.unpriced[:0] = unpriced
            await asyncio.sleep(SHARE_S)
            return
        for news in opened:
            _log.warning(
                "breaker.opened",
                account=news.key[0],
                model=news.key[1],
                reason=news.reason,
                seconds=round(news.open_s, 1),
            )
        for account, model in closed:
            _log.info("breaker.closed", account=account, model=model)
        targets.apply(rows, time.time())
