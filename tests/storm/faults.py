"""The faults of a storm, drawn at random from a seed, with the moment of each that can leave a call unknown."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.storm.proxy import CuttingProxy
from tests.system import System

from sluice_devstack.processes import Process


@dataclass(slots=True, kw_only=True)
class Faults:
    """Does harm to a system; every kill is followed by a fresh process in the victim's place.

    `freeze_s` is longer than the calling lease, `outage_s` longer than every lease.
    """

    system: System
    proxy: CuttingProxy
    chance: random.Random
    freeze_s: float
    outage_s: float
    done: Counter[str] = field(default_factory=Counter)
    moments: list[float] = field(default_factory=list)
    names: int = 0

    async def kill_worker(self) -> None:
        """SIGKILL a worker, and start another."""
        self.moments.append(time.time())
        name = self.chance.choice(sorted(self.system.workers))
        await _end(self.system.workers.pop(name))
        self._worker()
        self.done["worker killed"] += 1

    async def kill_keeper(self) -> None:
        """SIGKILL a keeper, and start another."""
        name = self.chance.choice(sorted(self.system.keepers))
        await _end(self.system.keepers.pop(name))
        self._keeper()
        self.done["keeper killed"] += 1

    async def freeze_worker(self) -> None:
        """SIGSTOP a worker past its leases, then let it go on with what it thinks it has."""
        self.moments.append(time.time())
        name = self.chance.choice(sorted(self.system.workers))
        frozen = self.system.workers.pop(name)
        self._worker()
        frozen.freeze()
        await asyncio.sleep(self.freeze_s)
        frozen.thaw()
        # Time for late settlements; a worker that was declared dead has ended by then.
        await asyncio.sleep(3.0)
        self.moments.append(time.time())
        await _end(frozen)
        self.done["worker frozen"] += 1

    async def freeze_keeper(self) -> None:
        """SIGSTOP a keeper past its leases, and thaw it."""
        keeper = self.system.keepers[self.chance.choice(sorted(self.system.keepers))]
        keeper.freeze()
        await asyncio.sleep(self.freeze_s)
        keeper.thaw()
        self.done["keeper frozen"] += 1

    async def cut_connections(self) -> None:
        """Drop half of all database connections at their next answer."""
        self.moments.append(time.time())
        self.proxy.cut(0.5, self.chance)
        self.done["connections cut"] += 1

    async def restart_kafka(self) -> None:
        """SIGKILL the broker and start it again."""
        await self.system.stack.kafka.kill()
        await self.system.stack.kafka.start()
        self.done["kafka killed"] += 1

    async def restart_postgres(self) -> None:
        """Immediate shutdown, and a start at once."""
        self.moments.append(time.time())
        await self.system.stack.postgres.kill(mode="immediate")
        await self.system.stack.postgres.start()
        self.done["postgres stopped"] += 1

    async def outage_of_postgres(self) -> None:
        """Stop the database for longer than every lease: nobody may be taken for dead because of it."""
        self.moments.append(time.time())
        await self.system.stack.postgres.kill(mode="immediate")
        await asyncio.sleep(self.outage_s)
        await self.system.stack.postgres.start()
        self.done["postgres away"] += 1

    def _worker(self) -> None:
        self.names += 1
        self.system.start_worker(f"worker-again-{self.names}")

    def _keeper(self) -> None:
        self.names += 1
        self.system.start_keeper(f"keeper-again-{self.names}")


async def _end(process: Process) -> None:
    process.kill()
    await process.stop()
