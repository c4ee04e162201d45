"""Policies, revocation and the audit, on a running system: refused on the reply, recorded, and told on the topic."""

import asyncio
import json

import pytest
from tests.conftest import Template
from tests.system import System, database_from
from tests.waiting import eventually

from sluice_client import Client, JobFailed
from sluice_client.model import Result
from sluice_core.keys.repository import KeyRepository
from sluice_core.keys.service import KeyService
from sluice_devstack.stack import Stack
from sluice_schemas.classes import JobClass
from sluice_schemas.events import Audit
from sluice_schemas.headers import EventHeaders

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("policies")]

PREFIX = "policies."
CONFIG = {
    "tenants": {
        "default": {
            "policy": {"models": {"deny": ["secret-*"]}, "max_tokens": 50},
            "users": {"jo": {"policy": {"models": {"allow": ["secret-model", "fast"]}}}},
        }
    },
    "worker": {"concurrency": 1},
}
BODY = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}


async def test_policies_keys_and_audit(stack: Stack, migrated_template: Template) -> None:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=PREFIX, config=CONFIG) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=PREFIX) as client,
    ):
        await _a_denied_model_is_forbidden(system, client)
        made = json.loads(
            await system.command("keys", "create", "--tenant", "default", "--user", "jo", "--json")
        )
        async with Client(
            stack.kafka.bootstrap,
            tenant="default",
            prefix=PREFIX,
            key_id=made["id"],
            secret=made["secret"],
        ) as signed:
            assert (await signed.complete(BODY | {"model": "secret-model"}, timeout=20)).succeeded
            await _its_use_is_seen(system, made["id"])
            await _its_waiting_job_is_refused(system, client, signed, made["id"])
        await _each_change_is_told(system, made["id"])


async def _refused(client: Client, body: dict[str, object]) -> Result:
    with pytest.raises(JobFailed) as caught:
        await client.complete(body, timeout=20)
    return caught.value.result


async def _a_denied_model_is_forbidden(system: System, client: Client) -> None:
    for body, param in (
        (BODY | {"model": "secret-model"}, "body.model"),
        (BODY | {"max_tokens": 51}, "body.max_tokens"),
    ):
        result = await _refused(client, body)
        assert result.error is not None
        assert (result.state, result.error.code) == ("rejected", "forbidden")
        assert result.error.param == param
        assert "policy" not in result.error.message
    denials = json.loads(await system.command("audit", "denials", "--json"))
    assert [denial["rule"] for denial in reversed(denials)] == [
        'tenant default: policy.models.deny "secret-*"',
        "tenant default: policy.max_tokens 50",
    ]
    assert await system.mock.requests() == []


async def _its_use_is_seen(system: System, key_id: str) -> None:
    async def seen() -> bool:
        keys = json.loads(await system.command("keys", "list", "--json"))
        return any(key["id"] == key_id and key["last_used_at"] for key in keys)

    await eventually(seen, within_s=20.0)


async def _its_waiting_job_is_refused(
    system: System, client: Client, signed: Client, key_id: str
) -> None:
    """The only slot is taken while the key is revoked; what it signed before is refused when its turn comes."""
    rule = await system.mock.rule("latency=8s", match={"body": "keep the slot"})
    busy = BODY | {"messages": [{"role": "user", "content": "keep the slot"}]}
    holding = asyncio.create_task(client.complete(busy, timeout=30))
    await eventually(lambda: _in_a_call(system))
    waiting = await signed.submit(BODY, job_class="standard")

    async def parked() -> bool:
        state = await system.pool.fetchval(
            "select state from sluice.jobs where uuid = $1", waiting.id
        )
        return state in (1, 2)

    await eventually(parked)
    await KeyService(KeyRepository(system.pool), "test").revoke(key_id)

    async def in_force() -> bool:
        """A record that is read before the worker has heard of it waits for the slot, in vain."""
        with pytest.raises(JobFailed) as caught:
            await signed.complete(BODY, timeout=20, max_wait_s=0.0)
        return caught.value.code == "unauthorized"

    # The word comes within a second (tests/integration/keys); here the machine's own load counts too.
    await eventually(in_force, within_s=5.0)
    assert (await holding).succeeded
    await system.mock.forget_rule(rule)
    results = await system.consume(system.topics.results("default"))
    (record,) = await results.wait_for(lambda: results.by_key(str(waiting.id).encode()))
    refused = json.loads(record.value)
    assert (refused["job"]["state"], refused["error"]["code"]) == ("rejected", "unauthorized")
    assert await system.mock.calls_of(str(waiting.id)) == []
    realtime = system.topics.jobs(JobClass.REALTIME)

    async def recorded() -> bool:
        denials = await system.pool.fetch("select * from sluice.denials where key_id = $1", key_id)
        # One before its call, and one when its record was read.
        return {denial["topic"] for denial in denials} >= {None, realtime}

    await eventually(recorded)


async def _in_a_call(system: System) -> bool:
    return any(request["outcome"] == "pending" for request in await system.mock.requests())


async def _each_change_is_told(system: System, key_id: str) -> None:
    topic = await system.consume(system.topics.audit)
    records = await topic.wait_for(lambda: topic.by_key(key_id.encode()), count=2)
    entries = [Audit.model_validate_json(record.value) for record in records]
    assert [entry.action for entry in entries] == ["key.create", "key.revoke"]
    assert entries[0].details["after"]["user"] == "jo"
    ids = set()
    for record in records:
        headers = EventHeaders.model_validate({n: v.decode() for n, v in record.headers})
        assert headers.ce_type == "com.sluicegate.audit.recorded.v1"
        assert headers.ce_subject == key_id
        ids.add(headers.ce_id)
    assert len(ids) == 2

    async def outbox_is_empty() -> bool:
        return not await system.pool.fetchval("select count(*) from sluice.outbox where kind = 5")

    await eventually(outbox_is_empty)
