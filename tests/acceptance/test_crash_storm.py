"""The crash test in its short form: everything is killed, frozen and cut, and nothing is lost, doubled or invented."""

import os
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from tests.storm.storm import Plan, run

from sluice_devstack.postgres import EmbeddedPostgres
from sluice_devstack.stack import Stack
from sluice_migrations.run import upgrade_async

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
    pytest.mark.xdist_group("storm"),  # one at a time: it needs the machine for itself
]

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
SEED = int(os.environ.get("SLUICE_STORM_SEED", "0")) or secrets.randbits(32)
PLAN = Plan(
    seed=SEED,
    jobs=3_000,
    rate=60,
    kills=20,
    workers=2,
    keepers=2,
    leases={"owned_lease": 4, "calling_lease": 8, "grace": 5},
    freeze_s=13.0,
    outage_s=12.0,
    pause_s=0.8,
    snapshot_s=60.0,
)


async def test_nothing_is_lost_doubled_or_invented(short_directory: Path) -> None:
    # A stack of its own: its servers are killed under it.
    await _storm(Stack(short_directory / "storm"), PLAN)


@pytest.mark.skipif(not DEBIAN_15.exists(), reason="Debian's PostgreSQL 15 is not installed")
async def test_the_same_on_the_oldest_postgres(short_directory: Path) -> None:
    base = short_directory / "storm15"
    account = "postgres" if os.geteuid() == 0 else None
    oldest = EmbeddedPostgres(base / "postgres", bin_dir=DEBIAN_15, run_as=account)
    plan = replace(PLAN, jobs=800, kills=4, snapshot_s=0.0)
    await _storm(Stack(base, postgres=oldest), plan)


async def _storm(servers: Stack, plan: Plan) -> None:
    async with servers as stack:
        await upgrade_async(stack.postgres.dsn)
        verdict = await run(
            stack, plan, database_dsn=stack.postgres.dsn, kafka_prefix="storm.", say=print
        )
    print(verdict.counts)  # noqa: T201 - what happened, for whoever reads the test's output
    assert not verdict.faults, f"seed {plan.seed}: " + "\n".join(verdict.faults[:40])
