"""`python -m tests.chaos [--seed N] [--jobs N] [--money N] [--failover SECONDS] [--snapshot SECONDS]`: default leases, both PostgreSQL versions."""

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.failover import storm as failover_storm
from tests.forwarder import Forwarder
from tests.money.storm import SCOPES, configuration, log_decisions
from tests.money.storm import storm as money_storm
from tests.storm.storm import Plan, run
from tests.system import System

from sluice_devstack.postgres import EmbeddedPostgres
from sluice_devstack.stack import Stack
from sluice_migrations.run import upgrade_async
from sluice_platform.logging import configure_logging

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
    counts = {
        "storm": "crash",
        "postgres": 15 if debian else 18,
        "held": not verdict.faults,
        **verdict.counts,
    }
    sys.stdout.write(json.dumps(counts) + "\n")
    for fault in verdict.faults[:100]:
        say(fault)
    return not verdict.faults


MONEY_CAPS = dict(zip(SCOPES, (0.00045, 0.0004, 0.0003, 0.000125), strict=True))
"""Dollars a job: too few for all of them."""


async def money(seed: int, jobs: int) -> bool:
    """The storm over hard budgets; True if not a nano-dollar was overspent and none is left reserved."""
    caps = {scope: f"{dollars * jobs:.6f}" for scope, dollars in MONEY_CAPS.items()}
    with tempfile.TemporaryDirectory(prefix="sluice-money-") as directory:
        Path(directory).chmod(0o755)
        async with Stack(Path(directory) / "stack") as stack:
            dsn = stack.postgres.dsn
            await upgrade_async(dsn)
            await log_decisions(dsn)
            async with System(
                stack,
                database_dsn=dsn,
                kafka_prefix="money.",
                workers=4,
                keepers=2,
                config=configuration(caps, leases={"grace": 20}),
            ) as system:
                await system.mock.rule("latency=uniform:20ms:200ms")
                outcome = await money_storm(
                    system,
                    jobs=jobs,
                    rate=150,
                    kills=max(6, jobs // 700),
                    seed=seed,
                    settle_within_s=300.0,
                )
    faults = [*outcome.overdrawn, *outcome.faults]
    told = outcome.replay
    counts = {
        "storm": "money",
        "held": not faults,
        "jobs": jobs,
        "seed": seed,
        "kills": outcome.kills,
        "states": outcome.states,
        "decisions": {
            "all": told.decisions,
            "begun": told.begun,
            "busy": told.busy,
            "over": told.over,
        },
        "looks_at_budgets": outcome.looks,
    }
    sys.stdout.write(json.dumps(counts) + "\n")
    for fault in faults[:100]:
        say(fault)
    return not faults


async def failover(seconds: float) -> bool:
    """One of three accounts dies in each way for so long; True if no job failed for it and it was left alone."""
    with tempfile.TemporaryDirectory(prefix="sluice-failover-") as directory:
        Path(directory).chmod(0o755)
        async with Stack(Path(directory) / "stack") as stack, Forwarder() as gate:
            dsn = stack.postgres.dsn
            await upgrade_async(dsn)
            async with System(
                stack,
                database_dsn=dsn,
                kafka_prefix="failover.",
                workers=2,
                config=lambda url: failover_storm.configuration(url, gate),
            ) as system:
                ways = list(failover_storm.WAYS)
                deaths = await failover_storm.storm(
                    system, gate, seconds=seconds, ways=ways, say=say
                )
    for death in deaths:
        sys.stdout.write(json.dumps({"storm": "failover", **asdict(death)}) + "\n")
    return not any(death.faults for death in deaths)


async def everything(chosen: argparse.Namespace) -> bool:
    """The crash storms, the money storm, the accounts' deaths; what is 0 is left out."""
    held = await both(chosen.seed, chosen.jobs, chosen.snapshot) if chosen.jobs else True
    if chosen.money:
        say("money storm")
        held = await money(chosen.seed, chosen.money) and held
    if chosen.failover:
        say("failover")
        held = await failover(chosen.failover) and held
    return held


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
    parser.add_argument("--jobs", type=int, default=30_000, help="of each crash storm; 0: none")
    parser.add_argument(
        "--money", type=int, default=20_000, help="jobs of the money storm; 0: none"
    )
    parser.add_argument(
        "--failover", type=float, default=20.0, help="seconds of each way to die; 0: none"
    )
    parser.add_argument("--snapshot", type=float, default=600.0, help="seconds it is held open")
    chosen = parser.parse_args()
    configure_logging()
    say(f"seed {chosen.seed}")
    return 0 if asyncio.run(everything(chosen)) else 1


if __name__ == "__main__":
    sys.exit(main())
