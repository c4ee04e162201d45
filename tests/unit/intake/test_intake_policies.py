"""What policies refuse at intake, and that no refusal tells what others have."""

from dataclasses import replace

import pytest
from tests.unit.intake.intake_world import (
    BODY,
    CONFIG,
    OPEN,
    job,
    key,
    read,
    record,
    rejected,
    signed,
)

from sluice_core.config.load import parse_config
from sluice_core.intake.model import DeadLetter
from sluice_core.intake.policy import IntakePolicy

POLICY = """
  acme:
    policy: {models: {allow: [fast, "openai/*"]}, max_tokens: 100}
    users: {jo: {policy: {max_tokens: 200}}}
    keys: {sgk_a: {policy: {classes: {deny: [bulk]}}}}
    projects: {search: {team: ml, apps: {web: {}}}, support: {policy: {operations: {deny: [embeddings]}}}}
    teams: {ml: {}, ops: {}}
    reply_topics: [my.replies]
"""
WRITTEN = CONFIG[: CONFIG.index("  acme:")] + POLICY[1:] + CONFIG[CONFIG.index("  zeta:") :]
RULED = replace(
    IntakePolicy.from_config(parse_config(WRITTEN, {"K": "x"}), cluster_id="cluster"),
    unsigned_tenant="acme",
)


@pytest.mark.parametrize(
    ("change", "code", "param", "rule"),
    [
        ({"body": BODY | {"model": "gpt-9"}}, "forbidden", "body.model", "tenant acme: policy.models.allow does not name it"),
        ({"body": BODY | {"max_tokens": 101}}, "forbidden", "body.max_tokens", "tenant acme: policy.max_tokens 100"),
        ({"body": BODY | {"max_tokens": 5, "max_completion_tokens": 101}}, "forbidden", "body.max_completion_tokens",
         "tenant acme: policy.max_tokens 100"),
        ({"body": BODY | {"max_tokens": 201}, "options": {"user": "jo"}}, "forbidden", "body.max_tokens",
         "user jo: policy.max_tokens 200"),
        ({"url": "/v1/embeddings", "body": {"model": "fast", "input": "x"}, "options": {"project": "support"}},
         "forbidden", "url", 'project support: policy.operations.deny "embeddings"'),
        ({"body": BODY | {"max_tokens": "101"}}, "invalid_record", "body.max_tokens", None),
        ({"body": BODY | {"max_completion_tokens": 1e9}}, "invalid_record", "body.max_completion_tokens", None),
    ],
)  # fmt: skip
def test_what_a_policy_refuses(change: dict, code: str, param: str, rule: str | None) -> None:
    verdict = rejected(record(headers={"reply_to": "my.replies"}, **change), policy=RULED)
    assert (verdict.code, verdict.param, verdict.rule) == (code, param, rule)
    assert verdict.requester.reply_to == "my.replies"
    for name in ("acme", "support", "policy", "jo"):
        assert name not in verdict.message


def test_what_a_policy_leaves_alone() -> None:
    assert job(record(), policy=RULED)
    assert job(record(body=BODY | {"max_tokens": 100}), policy=RULED)
    assert job(record(body=BODY | {"max_tokens": 150}, options={"user": "jo"}), policy=RULED)
    assert job(record(body=BODY | {"model": "openai/x"}), policy=RULED)
    assert job(record(topic="zeta.jobs", body=BODY | {"max_tokens": 10**6}), policy=RULED)


def test_a_keys_own_policy() -> None:
    verdict = rejected(signed(record()), key(), policy=RULED)
    assert (verdict.code, verdict.key_id) == ("forbidden", "sgk_a")
    assert verdict.rule == 'key sgk_a: policy.classes.deny "bulk"'
    assert job(signed(record(topic="llm.jobs.realtime.v1")), key(), policy=RULED)


def test_a_denied_model_is_denied_whether_it_exists_or_not() -> None:
    verdicts = [
        rejected(record(body=BODY | {"model": name}), policy=RULED) for name in ("slow", "opnai/x")
    ]
    assert {(verdict.code, verdict.message.rpartition(" ")[0]) for verdict in verdicts} == {
        ("forbidden", "this caller may not use the model")
    }


def test_a_name_of_somebody_else_reads_like_one_of_nobody() -> None:
    by_team, pinned = key(team="ml"), key(project="search", app="web")
    for holder, ours, nobodys in (
        (by_team, {"project": "support"}, {"project": "nope"}),
        (by_team, {"team": "ops"}, {"team": "nope"}),
        (pinned, {"project": "support"}, {"project": "nope"}),
        (pinned, {"app": "other"}, {"app": "nope"}),
    ):
        told = [rejected(signed(record(options=options)), holder) for options in (ours, nobodys)]
        assert len({(verdict.code, verdict.message, verdict.param) for verdict in told}) == 1
        assert told[0].code == "unknown_project"


def test_anothers_topic_reads_like_one_that_a_policy_denies() -> None:
    verdict = rejected(signed(record(topic="zeta.jobs")), key())
    assert (verdict.code, verdict.message) == (
        "forbidden",
        "this caller may not send by this topic",
    )


def test_a_vouched_tenant_that_is_not_there_is_not_told() -> None:
    vouching = key(grants=frozenset({"vouch"}))
    verdict = rejected(signed(record(), sluice_on_behalf_of="gone////"), vouching)
    assert "configured" not in verdict.message
    assert "gone" not in verdict.message


def test_a_wrong_signature_names_the_key_for_the_record_of_denials_alone() -> None:
    verdict = read(signed(record(), secret="other"), key(), policy=OPEN)
    assert isinstance(verdict, DeadLetter)
    assert verdict.named_key is not None
    assert (verdict.named_key.id, "sgk_a" in verdict.message) == ("sgk_a", False)
