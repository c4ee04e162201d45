"""The compiled policies against a slow reading of the same rules, over generated configurations."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_core.config.model import Config
from sluice_core.policies.model import Ask, Subject
from sluice_core.policies.policy import Permissions
from sluice_schemas.classes import JobClass

MODELS = ["fast", "fat", "slow", "gpt-4", "openai/x"]
PATTERNS = st.sampled_from([*MODELS, "fa*", "gpt-*", "*", "openai/*"])
CLASSES = ["realtime", "standard", "bulk"]
OPERATIONS = ["chat", "embeddings"]
TOPICS = ["a.jobs", "a.other", "b"]
ADDRESSES = ["10.0.0.1", "10.1.0.1", "192.168.0.1"]


def choice(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    some = st.lists(names, max_size=2)
    return st.fixed_dictionaries({}, optional={"allow": some, "deny": some})


POLICY = st.fixed_dictionaries(
    {},
    optional={
        "default": st.sampled_from(["allow", "deny"]),
        "models": choice(PATTERNS),
        "operations": choice(st.sampled_from(OPERATIONS)),
        "classes": choice(st.sampled_from(CLASSES)),
        "topics": choice(st.sampled_from([*TOPICS, "a.*"])),
        "ips": choice(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "192.168.0.1"])),
        "max_tokens": st.integers(1, 3),
        "max_cost_usd": st.integers(0, 2),
    },
)
SAID = st.fixed_dictionaries({}, optional={"policy": POLICY})
TENANT = st.builds(
    lambda own, ml, ops, search, web, users, keys: {
        **own,
        "teams": {"ml": ml, "ops": ops},
        "projects": {"search": {**search, "team": "ml", "apps": {"web": web}}},
        "users": users,
        "keys": keys,
    },
    SAID, SAID, SAID, SAID, SAID,
    st.dictionaries(st.sampled_from(["jo", "*"]), SAID),
    st.dictionaries(st.sampled_from(["sgk_1", "*"]), SAID),
)  # fmt: skip
SUBJECTS = st.builds(
    Subject,
    tenant=st.just("acme"),
    team=st.sampled_from([None, "ml", "ops", "unallocated"]),
    project=st.sampled_from([None, "search", "unallocated"]),
    app=st.sampled_from([None, "web", "unallocated"]),
    user=st.sampled_from([None, "jo", "eve", "*"]),
    key_id=st.sampled_from([None, "sgk_1", "sgk_2"]),
)
ASKS = st.builds(
    Ask,
    model=st.sampled_from(MODELS),
    operation=st.sampled_from(OPERATIONS),
    job_class=st.sampled_from(JobClass),
    topic=st.none() | st.sampled_from(TOPICS),
    ip=st.none() | st.sampled_from(ADDRESSES),
    max_tokens=st.none() | st.integers(1, 4),
    worst_nano=st.none() | st.integers(0, 3 * 10**9),
)


def policies_of(tenant: dict[str, Any], subject: Subject) -> list[dict[str, Any]]:
    """The policies that speak of a subject, key first, tenant last."""
    project = tenant["projects"].get(subject.project, {})
    sections = [
        _own_or_every(tenant["keys"], subject.key_id),
        _own_or_every(tenant["users"], subject.user),
        project.get("apps", {}).get(subject.app, {}),
        project,
        tenant["teams"].get(subject.team, {}),
        tenant,
    ]
    return [section.get("policy", {}) for section in sections]


def _own_or_every(entries: dict[str, Any], name: str | None) -> dict[str, Any]:
    if name is None or name == "*":
        return {}
    return entries.get(name, entries.get("*", {}))  # type: ignore[no-any-return]


def _stands_for(aspect: str, pattern: str, value: str) -> bool:
    if aspect == "ips":
        given_bytes = [int(part) for part in value.split(".")]
        address, _, bits = pattern.partition("/")
        count = int(bits or 32) // 8
        return given_bytes[:count] == [int(part) for part in address.split(".")][:count]
    return value.startswith(pattern[:-1]) if pattern[-1] == "*" else value == pattern


def slow(tenant: dict[str, Any], subject: Subject, ask: Ask) -> bool:
    policies = policies_of(tenant, subject)
    for aspect, value in [
        ("models", ask.model),
        ("operations", ask.operation),
        ("classes", ask.job_class and ask.job_class.label if ask.job_class else "realtime"),
        ("topics", ask.topic),
        ("ips", ask.ip),
    ]:
        if value is None:
            continue
        verdict = None
        for policy in policies:
            said = policy.get(aspect, {})
            if any(_stands_for(aspect, p, value) for p in said.get("deny", [])):
                verdict = False
            elif "allow" in said:
                verdict = any(_stands_for(aspect, p, value) for p in said["allow"])
            if verdict is not None:
                break
        if verdict is None and aspect in {"models", "operations", "classes"}:
            defaults = [policy["default"] for policy in policies if "default" in policy]
            verdict = not defaults or defaults[0] == "allow"
        if verdict is False:
            return False
    for name, asked, unit in (
        ("max_tokens", ask.max_tokens, 1),
        ("max_cost_usd", ask.worst_nano, 10**9),
    ):
        stated = [policy[name] * unit for policy in policies if name in policy]
        if asked is not None and stated and asked > stated[0]:
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(TENANT, st.lists(st.tuples(SUBJECTS, ASKS), min_size=1, max_size=8))
def test_the_compiled_policies_decide_as_the_rules_read(tenant: Any, asked: Any) -> None:
    permissions = Permissions.from_config(Config.model_validate({"tenants": {"acme": tenant}}))
    for subject, ask in asked + asked:  # once more, from memory
        decision = permissions.decide(subject, ask)
        assert decision.allowed == slow(tenant, subject, ask), (subject, ask, decision)
        assert decision.allowed == all(
            e.decision.allowed for e in permissions.explain(subject, ask)
        )
        if not decision.allowed:
            assert decision.rule is not None
            assert decision.code == "forbidden"


@pytest.mark.parametrize("name", ["max_tokens", "max_cost_nano"])
@given(tenant=TENANT, subject=SUBJECTS)
def test_numbers_are_those_of_the_most_specific_scope(name: str, tenant: Any, subject: Any) -> None:
    permissions = Permissions.from_config(Config.model_validate({"tenants": {"acme": tenant}}))
    key, unit = ("max_tokens", 1) if name == "max_tokens" else ("max_cost_usd", 10**9)
    stated = [policy[key] * unit for policy in policies_of(tenant, subject) if key in policy]
    assert getattr(permissions, name)(subject) == (stated[0] if stated else None)
