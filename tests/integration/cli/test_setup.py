"""Setting up: the ledger, topics, configuration, and what `doctor` says of them."""

import json

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from tests.integration.cli.shell import Shell

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("cli")]


async def test_migrate_is_idempotent(sluice: Shell) -> None:
    document = (await sluice("migrate", "--json")).json
    assert document["before"] == document["after"]
    assert document["changed"] is False


async def test_topics_are_created_once_and_doctor_sees_the_rest(sluice: Shell) -> None:
    before = await sluice("doctor", "--json")
    assert before.code == 1
    first = (await sluice("topics", "create", "--json")).json
    assert f"{sluice.prefix}jobs.bulk.v1" in first["created"]
    second = (await sluice("topics", "create", "--json")).json
    assert second == {"created": [], "existing": first["created"]}
    found = json.loads((await sluice("doctor", "--json")).out)["findings"]
    levels = {finding["check"]: finding["level"] for finding in found}
    assert levels["topics"] == levels["kafka version"] == levels["migrations"] == "ok"
    assert {check for check, level in levels.items() if level == "problem"} == {
        "workers",
        "keepers",
    }


async def test_a_configuration_is_planned_applied_and_then_in_force(sluice: Shell) -> None:
    plan = (await sluice("config", "plan", "--json")).json
    assert plan["version"] is None
    assert f"{sluice.prefix}usage.v1" in plan["missing_topics"]
    first = (await sluice("config", "apply", "--json")).json
    assert first["changed"] is True
    assert set(first["created_topics"]) == set(plan["missing_topics"])
    assert (await sluice("config", "apply", "--json")).json["changed"] is False
    assert await sluice.audited() == ["config.apply"]
    # Processes are told of the new version, and of the limits that count with it.
    assert (
        await sluice.pool.fetchval("select version from sluice.versions where name = 'config'") == 3
    )
    sluice.config.write_text(sluice.config.read_text().replace("${ABSENT}", "sk-written-out"))
    refused = await sluice("config", "apply")
    assert (refused.code, "written out" in refused.err) == (1, True)
    assert "sk-written-out" not in refused.err


async def test_config_check_names_lines(sluice: Shell) -> None:
    assert (await sluice("config", "check")).code == 0
    sluice.config.write_text("providers: {}\ntenant: {}\n")
    ran = await sluice("config", "check", "--json")
    assert ran.code == 1
    (problem,) = json.loads(ran.out)["problems"]
    assert ":2: tenant: no such setting" in problem


async def test_config_check_looks_whether_meanings_can_be_compared(sluice: Shell) -> None:
    if await sluice.pool.fetchval("select to_regclass('sluice.meanings') is null"):
        pytest.skip("this PostgreSQL has no pgvector")
    sluice.config.write_text(
        "providers: {a: {kind: openai, base_url: 'http://a'}}\n"
        "models: {vectors: {targets: [{account: a}]}}\n"
        "cache: {semantic: {model: vectors, threshold: 0.9}}\n"
    )
    assert (await sluice("config", "check")).code == 0
    await sluice.pool.execute("drop table sluice.meanings")
    for command in ("check", "apply"):
        refused = await sluice("config", command)
        assert (refused.code, "pgvector" in refused.err) == (1, True)
    assert (await sluice("migrate")).code == 0
    assert (await sluice("config", "check")).code == 0


async def test_config_check_says_which_judge_is_not_here(sluice: Shell) -> None:
    sluice.config.write_text(
        "providers: {a: {kind: openai, base_url: 'http://a'}, b: {kind: openai, base_url: 'http://b'}}\n"
        "models: {m: {targets: [{account: a}, {account: b}],\n"
        "  escalation: {tiers: [[a], [b]], check: {judge: {name: nobody, below: 0.5}}}}}\n"
    )
    checked = await sluice("config", "check")
    assert checked.code == 0
    assert 'no judge "nobody" is installed here' in checked.err


async def test_doctor_names_missing_reply_topics_and_unpriced_models(sluice: Shell) -> None:
    made = f"made-{sluice.prefix}replies"
    admin = AIOKafkaAdminClient(bootstrap_servers=sluice.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(made, num_partitions=1, replication_factor=1)])
    await admin.close()
    text = sluice.config.read_text().replace(
        "{projects:", f"{{reply_topics: [{made}, nowhere.replies], projects:"
    )
    sluice.config.write_text(text + "models: {tuned: {targets: [{account: openai}]}}\n")
    await sluice("topics", "create")
    found = json.loads((await sluice("doctor", "--json")).out)["findings"]
    findings = {finding["check"]: finding for finding in found}
    assert findings["reply topics"]["message"] == "missing: nowhere.replies (of acme)"
    assert findings["price of tuned"]["level"] == "warning"


async def test_schemas_are_fresh_and_rights_are_printed(sluice: Shell) -> None:
    assert (await sluice("schemas", "--check", "--json")).json["stale"] == []
    assert "kafka-acls.sh" in (await sluice("topics", "acls", "--commands")).out
    assert any(
        right["principal"] == "acme" for right in (await sluice("topics", "acls", "--json")).json
    )
