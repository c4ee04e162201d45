"""`python -m tests.chaos [--seed N] [--jobs N] [--snapshot SECONDS]`: default leases, both PostgreSQL versions."""

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
from pathlib import Path

from tests.storm.storm import Plan, run

from sluice_devstack.postgres import EmbeddedPostgres
from sluice_devstack.stack import Stack
from sluice_migrations.run import upgrade_async

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


def say(text: str) -> None:
    """Progress goes to standard error, figures to standard output."""
    sys.stderr.write(text + "\n")


async def storm(seed: int, jobs: int, snapshot_s: float, *, debian: bool) -> bool:
    """One storm on one PostgreSQL; True if every point held."""
    with tempfile.TemporaryDirectory(prefix="sluice-chaos-") as directory:
        Path(directory).chmod(0o755)
        base = Path(directory) / "stack"
        old = None
        if debian:
            account = "postgres" if os.geteuid() == 0 else None
            old = EmbeddedPostgres(base / "postgres", bin_dir=DEBIAN_15, run_as=account)
        plan = Plan(
            seed=seed,
            jobs=jobs,
            rate=80,
            kills=30,
            workers=3,
            keepers=2,
            leases={"grace": 20},
            freeze_s=40.0,
            outage_s=40.0,
            pause_s=4.0,
            snapshot_s=snapshot_s,
            settle_within_s=300.0,
        )
        async with Stack(base, postgres=old) as stack:
            await upgrade_async(stack.postgres.dsn)
            verdict = await run(
                stack, plan, database_dsn=stack.postgres.dsn, kafka_prefix="storm.", say=say
            )
    counts = {"postgres": 15 if debian else 18, "held": not verdict.faults, **verdict.counts}
    sys.stdout.write(json.dumps(counts) + "\n")
    for fault in verdict.faults[:100]:
        say(fault)
    return not verdict.faults


async def both(seed: int, jobs: int, snapshot_s: float) -> bool:
    """The embedded PostgreSQL, and Debian's 15 where it is installed."""
    held = await storm(seed, jobs, snapshot_s, debian=False)
    if DEBIAN_15.exists():
        held = await storm(seed, jobs, snapshot_s, debian=True) and held
    else:
        say(f"no PostgreSQL 15 in {DEBIAN_15}: the storm ran on the embedded one alone")
    return held


def main() -> int:
    """Parse and run; 1 if a point did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="repeats a storm")
    parser.add_argument("--jobs", type=int, default=30_000)
    parser.add_argument("--snapshot", type=float, default=600.0, help="seconds it is held open")
    chosen = parser.parse_args()
    say(f"seed {chosen.seed}")
    return 0 if asyncio.run(both(chosen.seed, chosen.jobs, chosen.snapshot)) else 1


if __name__ == "__main__":
    sys.exit(main())
