"""`python -m tests.bench [case …] [--quick]`."""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.bench import cases, policies, ways
from tests.conftest import Template

from sluice_devstack.stack import Stack
from sluice_migrations.run import upgrade_async

ALL = (
    *("full_load", "latency", "memory", "streams", "claims", "history", "naive"),
    *("policies", "limits", "priority", "turns", "routing", "caching"),
)


async def run(names: list[str], quick: bool) -> None:
    """Run the cases one after another on one stack."""
    scale = 10 if quick else 1
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as directory:
        Path(directory).chmod(0o755)
        async with Stack(Path(directory) / "stack") as stack:
            template = await _template(stack)
            cases.emit(
                "machine", cores=os.cpu_count(), python=platform.python_version(), quick=quick
            )
            rate, ours = 1000.0, None  # where full load is not measured in the same run
            if "full_load" in names:
                for workers in (1, 2, 4):
                    reached = await cases.full_load(
                        stack, template, jobs=40_000 // scale, workers=workers
                    )
                    if workers == 1:
                        rate, ours = reached
            if "latency" in names:
                await cases.latency(stack, template, seconds=30 / scale + 3, full_rate=rate)
            if "memory" in names:
                await cases.memory(stack, template, jobs=200_000 // scale)
            if "streams" in names:
                await cases.streams(stack, template, jobs=1_000 // scale)
            if "claims" in names:
                await cases.claims(stack, template, parked=1_000_000 // scale)
            if "history" in names:
                await cases.history(
                    stack,
                    template,
                    jobs=100_000 // scale,
                    finished=1_000_000 // scale,
                    identities=10_000_000 // scale,
                )
            if "naive" in names:
                await cases.naive(stack, template, jobs=4_000 // scale, ours_us=ours)
            await _policies(names, stack, template, scale)


async def _policies(names: list[str], stack: Stack, template: Template, scale: int) -> None:
    emit = cases.emit
    if "policies" in names:
        await policies.cost(stack, template, jobs=40_000 // scale, emit=emit)
    if "limits" in names:
        await policies.limits(stack, template, seconds=60 / scale + 2, emit=emit)
    if "priority" in names:
        await policies.priority(
            stack, template, backlog=200_000 // scale, jobs=2_000 // scale, emit=emit
        )
    if "turns" in names:
        await policies.turns(stack, template, seconds=60 / scale + 2, emit=emit)
    if "routing" in names:
        await ways.routing(stack, template, jobs=30_000 // scale, emit=emit)
    if "caching" in names:
        await ways.caching(stack, template, jobs=20_000 // scale, emit=emit)


async def _template(stack: Stack) -> Template:
    template = Template(admin_dsn=stack.postgres.dsn, name="bench_template")
    import asyncpg

    connection = await asyncpg.connect(template.admin_dsn)
    await connection.execute(f'create database "{template.name}"')
    await connection.close()
    await upgrade_async(template.dsn_of(template.name))
    return template


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *ALL], default=[])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    chosen = parser.parse_args()
    asyncio.run(run(list(chosen.cases) or list(ALL), chosen.quick))


if __name__ == "__main__":
    sys.exit(main())
