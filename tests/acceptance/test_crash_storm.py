"""The crash test in its short form: everything is killed, frozen and cut, and nothing is lost, doubled or invented."""

import os
import secrets
from pathlib import Path

import pytest
from tests.storm.storm import Plan, run

from sluice_devstack.stack import Stack
from sluice_migrations.run import upgrade_async

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(420)]


async def test_nothing_is_lost_doubled_or_invented(short_directory: Path) -> None:
    seed = int(os.environ.get("SLUICE_STORM_SEED", "0")) or secrets.randbits(32)
    plan = Plan(
        seed=seed,
        jobs=3_000,
        rate=60,
        kills=20,
        workers=2,
        keepers=2,
        leases={"owned_lease": 2, "calling_lease": 5, "grace": 5},
        freeze_s=9.0,
        outage_s=9.0,
        pause_s=0.8,
        snapshot_s=60.0,
    )
    # A stack of its own: its servers are killed under it.
    async with Stack(short_directory / "storm") as stack:
        await upgrade_async(stack.postgres.dsn)
        verdict = await run(
            stack, plan, database_dsn=stack.postgres.dsn, kafka_prefix="storm.", say=print
        )
    print(verdict.counts)
    assert not verdict.faults, f"seed {seed}: " + "\n".join(verdict.faults[:40])
