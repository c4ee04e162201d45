"""Policies explained; changes and refusals listed."""

from uuid import uuid4

import pytest
from tests.integration.cli.shell import Shell

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("cli")]

POLICIES = """
models: {fast: {targets: [{account: openai}]}, gpt-9: {targets: [{account: openai}]}}
"""


async def test_a_policy_is_explained_with_the_rule_that_decides(sluice: Shell) -> None:
    made = (
        await sluice("keys", "create", "--tenant", "acme", "--project", "search", "--user", "jo", "--json")
    ).json  # fmt: skip
    text = sluice.config.read_text().replace(
        "{acme: {projects:",
        '{acme: {policy: {models: {deny: ["gpt-*"]}, max_tokens: 10}, users: {jo: {policy: {max_tokens: 20}}}, projects:',
    )
    sluice.config.write_text(text + POLICIES)
    explain = ("policy", "explain", "--key", made["id"])
    told = (await sluice(*explain, "--model", "gpt-9", "--max-tokens", "15", "--json")).json
    assert (told["allowed"], told["code"], told["param"]) == (False, "forbidden", "body.model")
    assert told["subject"]["project"] == "search"
    rules = {aspect["aspect"]: aspect["rule"] for aspect in told["aspects"]}
    assert rules["models"] == 'tenant acme: policy.models.deny "gpt-*"'
    assert rules["max_tokens"] == "user jo: policy.max_tokens 20"
    ran = await sluice(*explain, "--model", "fast", "--class", "bulk", "--ip", "10.0.0.1")
    assert ran.code == 0
    assert "the job may go on" in ran.out
    refused = await sluice(*explain, "--tenant", "acme", "--model", "gpt-9")
    assert "refused: this caller may not use the model gpt-9" in refused.out
    for wrong, message in (
        (("--model", "fast"), "name the tenant"),
        (("--tenant", "acne", "--model", "fast"), 'did you mean "acme"?'),
        (("--tenant", "acme", "--project", "sorch", "--model", "fast"), 'did you mean "search"?'),
        (("--tenant", "acme", "--model", "fast", "--class", "bluk"), "the classes are"),
        (
            ("--tenant", "acme", "--model", "fast", "--operation", "sing"),
            "chat, embeddings, responses, rerank",
        ),
        (("--key", "sgk_nobodys", "--model", "fast"), "see `sluice keys list`"),
        (("--key", made["id"], "--user", "eve", "--model", "fast"), "bound to user jo"),
    ):
        ran = await sluice("policy", "explain", *wrong)
        assert (ran.code, message in ran.err) == (1, True), ran.err


async def test_the_audit_and_denials_are_listed(sluice: Shell) -> None:
    made = (await sluice("keys", "create", "--tenant", "acme", "--json")).json
    await sluice("keys", "revoke", made["id"])
    await sluice("config", "apply")
    entries = (await sluice("audit", "list", "--json")).json
    assert [entry["action"] for entry in entries] == ["config.apply", "key.revoke", "key.create"]
    assert entries[1]["before"]["revoked_at"] is None
    assert entries[1]["actor"].count("@") == 1
    mine = (await sluice("audit", "list", "--subject", made["id"], "--limit", "1", "--json")).json
    assert [entry["action"] for entry in mine] == ["key.revoke"]
    assert (await sluice("audit", "list", "--since", "2999-01-01", "--json")).json == []
    assert "key.create" in (await sluice("audit", "list")).out
    assert made["secret"] not in (await sluice("audit", "list")).out
    assert (await sluice("audit", "list", "--since", "soon")).code == 1
    await sluice.pool.execute(
        "insert into sluice.denials (record, tenant, topic, code, rule) values ($1, 'acme', 't', 'forbidden', 'r')",
        uuid4(),
    )
    (denied,) = (await sluice("audit", "denials", "--tenant", "acme", "--json")).json
    assert (denied["code"], denied["rule"], denied["key_id"]) == ("forbidden", "r", None)
    assert (await sluice("audit", "denials", "--tenant", "other", "--json")).json == []
    assert "forbidden" in (await sluice("audit", "denials")).out
