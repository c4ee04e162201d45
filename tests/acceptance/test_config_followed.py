"""A configuration that is applied is followed by workers that run: policies, limits, models, weights."""

from typing import Any

import pytest
import yaml
from tests.conftest import Template
from tests.system import System, database_from
from tests.waiting import eventually

from sluice_client import Client, JobFailed
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("client")]

PREFIX = "followed."


def body(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


async def test_what_is_applied_counts_without_a_restart(
    stack: Stack, migrated_template: Template
) -> None:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=PREFIX) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=PREFIX) as client,
    ):
        assert (await client.complete(body("fast"), timeout=20)).succeeded
        document = yaml.safe_load(system.config_path.read_text())
        document["models"]["quick"] = document["models"]["fast"]
        document["tenants"]["default"] |= {
            "policy": {"models": {"deny": ["fast"]}},
            "limits": {"requests": {"limit": 2, "per": "day"}},
        }
        changed = system.directory / "changed.yaml"
        changed.write_text(yaml.safe_dump(document))
        await system.command("config", "apply", str(changed))
        await eventually(lambda: "config.followed" in system.log("worker-1"), within_s=10.0)
        with pytest.raises(JobFailed, match="forbidden"):
            await client.complete(body("fast"), timeout=20)
        for _ in range(2):
            assert (await client.complete(body("quick"), timeout=20)).succeeded
        with pytest.raises(JobFailed, match="rate_limited"):
            await client.complete(body("quick"), timeout=20, max_wait_s=1.0)
        # What cannot be read here changes nothing, and is told.
        document["providers"]["paid"] = {
            "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "provider": "openai",
            "api_key": "${NOT_SET_HERE}",
        }  # fmt: skip
        changed.write_text(yaml.safe_dump(document))
        await system.command("config", "apply", str(changed))
        await eventually(lambda: "config.not_followed" in system.log("worker-1"), within_s=10.0)
        with pytest.raises(JobFailed, match="forbidden"):
            await client.complete(body("fast"), timeout=20)
