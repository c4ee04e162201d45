"""The self-audit gives back what two looks agree on, and never a call in flight."""

import asyncio

from tests.unit.worker.worker_world import MemoryLedger, flight

from sluice_core.jobs.model import State
from sluice_worker.audit import SelfAudit
from sluice_worker.holdings import Holdings


class SecondLook(MemoryLedger):
    """A ledger in which `happens` comes between the two looks."""

    def happens(self) -> None:
        """What comes between the looks."""

    async def mine(self) -> dict[int, tuple[State, int]]:
        if self.looks == 1:
            self.happens()
        return await super().mine()


async def audited(ledger: MemoryLedger, holdings: Holdings) -> list[int]:
    async with asyncio.timeout(20):
        await SelfAudit(ledger, holdings).once()  # type: ignore[arg-type]
    return ledger.released


async def test_one_look_is_enough_where_everything_is_held() -> None:
    held = flight()
    holdings = Holdings()
    holdings.add(held)
    ledger = MemoryLedger(rows={held.job.row: (State.OWNED, 0), 999: (State.CALLING, 1)})
    assert await audited(ledger, holdings) == []
    assert ledger.looks == 1


async def test_only_owned_rows_that_stay_missing_go_back() -> None:
    answered, holdings = flight(), Holdings()

    class World(SecondLook):
        def happens(self) -> None:
            holdings.add(answered)  # the claim's answer came after all
            self.rows[12] = (State.CALLING, 1)  # and one began
            del self.rows[13]  # another was settled
            self.rows[14] = (State.OWNED, 0)  # this one is new: the next audit's

    ledger = World(
        rows={
            answered.job.row: (State.OWNED, 0),
            **dict.fromkeys((11, 12, 13), (State.OWNED, 0)),
            15: (State.CALLING, 1),
        }
    )
    assert await audited(ledger, holdings) == [11]
    assert ledger.looks == 2
