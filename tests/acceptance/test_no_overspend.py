"""No hard budget is exceeded, at any instant, by many workers that are killed at random; and none is left unused."""

import os
import secrets

import pytest
from tests.conftest import Template
from tests.money.storm import SCOPES, configuration, log_decisions, storm
from tests.system import System, database_from

from sluice_devstack.stack import Stack

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("storm"),  # one at a time: it needs the machine for itself
]

SEED = int(os.environ.get("SLUICE_STORM_SEED", "0")) or secrets.randbits(32)
CAPS = dict(zip(SCOPES, ("0.90", "0.80", "0.60", "0.25"), strict=True))


async def test_nothing_is_overspent_and_no_reservation_is_left(
    stack: Stack, migrated_template: Template
) -> None:
    async with database_from(migrated_template.admin_dsn, migrated_template.name) as dsn:
        await log_decisions(dsn)
        async with System(
            stack,
            database_dsn=dsn,
            kafka_prefix="money.",
            workers=4,
            config=configuration(CAPS),
        ) as system:
            await system.mock.rule("latency=uniform:20ms:200ms")
            outcome = await storm(
                system, jobs=2_000, rate=150, kills=6, seed=SEED, settle_within_s=90
            )
    print(SEED, outcome.states, outcome.replay.decisions, outcome.looks)  # noqa: T201
    assert not outcome.overdrawn, f"seed {SEED}: {outcome.overdrawn[:9]}"
    assert not outcome.faults, f"seed {SEED}: " + "\n".join(outcome.faults[:40])
    assert outcome.kills == 6
    assert outcome.looks > 100
    assert outcome.replay.over > 100  # budgets did run out
    assert int(outcome.states["10"]) > 100  # and were used before
