"""Who may do what: the most specific scope that says something of a thing decides, and deny wins there."""

from dataclasses import replace

import pytest
from tests.unit.policies.policy_world import CALLER, ask, permissions

from sluice_core.policies.model import Ask, Subject
from sluice_core.policies.policy import REMEMBERED, Permissions
from sluice_schemas.classes import JobClass

SECTIONS = """
teams: {ml: {}}
projects: {search: {team: ml, apps: {web: {}}}}
"""


def rule(given: Permissions, model: str = "fast", **more: object) -> tuple[bool, str | None]:
    decision = given.decide(CALLER, ask(model, **more))
    return decision.allowed, None if decision.rule is None else str(decision.rule)


def test_without_a_policy_everything_is_allowed() -> None:
    given = permissions(SECTIONS)
    assert not given.governs("acme")
    assert rule(given) == (True, None)
    assert given.decide(Subject(tenant="free"), ask()).allowed
    assert given.decide(Subject(tenant="nobody"), ask()).allowed
    assert (given.max_tokens(CALLER), given.max_cost_nano(CALLER)) == (None, None)
    assert given.users("acme") == frozenset()


@pytest.mark.parametrize(
    ("tenant", "model", "allowed", "decided_by"),
    [
        ("policy: {models: {deny: ['gpt-*']}}", "gpt-4", False, 'tenant acme: policy.models.deny "gpt-*"'),
        ("policy: {models: {deny: ['gpt-*']}}", "fast", True, None),
        ("policy: {models: {allow: [fast]}}", "fast", True, 'tenant acme: policy.models.allow "fast"'),
        ("policy: {models: {allow: [fast]}}", "slow", False, "tenant acme: policy.models.allow does not name it"),
        ("policy: {models: {allow: ['f*'], deny: ['fas*']}}", "fast", False, 'tenant acme: policy.models.deny "fas*"'),
        # However exact: deny wins at one scope.
        ("policy: {models: {allow: [fast], deny: ['f*', x]}, default: allow}\nkeys: {'*': {policy: {models: {allow: [fast, y]}}}}",
         "fast", True, 'key *: policy.models.allow "fast"'),
        # A list of what is denied says nothing of the rest: the next scope is asked.
        ("policy: {models: {allow: [fast]}}\nusers: {jo: {policy: {models: {deny: [x]}}}}",
         "slow", False, "tenant acme: policy.models.allow does not name it"),
        ("policy: {models: {deny: [fast]}}\nusers: {jo: {policy: {models: {allow: [fast]}}}}",
         "fast", True, 'user jo: policy.models.allow "fast"'),
        ("policy: {models: {allow: [fast]}}\nusers: {jo: {policy: {models: {deny: [fast]}}}}",
         "fast", False, 'user jo: policy.models.deny "fast"'),
        # An entry of one's own stands in the way of `*`, even where it says nothing.
        ("users: {jo: {}, '*': {policy: {models: {deny: [fast]}}}}", "fast", True, None),
        ("users: {'*': {policy: {models: {deny: [fast]}}}}", "fast", False, 'user *: policy.models.deny "fast"'),
        (("policy: {default: deny, operations: {allow: [chat]}, classes: {allow: [bulk]}, models: {allow: [y]}}\n"
         "keys: {sgk_0123456789ab: {policy: {default: allow}}, '*': {policy: {models: {allow: ['*']}}}}"),
         "fast", False, "tenant acme: policy.models.allow does not name it"),
        (("policy: {default: deny, operations: {allow: [chat]}, classes: {allow: [bulk]}}\n"
         "keys: {'*': {policy: {models: {allow: [fast]}}}}"),
         "fast", True, 'key *: policy.models.allow "fast"'),
        (("policy: {default: deny, operations: {allow: [chat]}, classes: {allow: [bulk]}}\n"
         "keys: {sgk_0123456789ab: {}, '*': {policy: {models: {allow: [fast]}}}}"),
         "fast", False, "tenant acme: policy.default deny"),
        ("policy: {default: deny}\nusers: {jo: {policy: {default: allow}}}", "fast", True, "user jo: policy.default allow"),
    ],
)  # fmt: skip
def test_models(tenant: str, model: str, allowed: bool, decided_by: str | None) -> None:
    assert rule(permissions(SECTIONS + tenant), model) == (allowed, decided_by)


LEVELS = {
    "tenant acme": "policy: {P}",
    "team ml": "teams: {ml: {policy: {P}}}",
    "project search": "teams: {ml: {}}\nprojects: {search: {team: ml, apps: {web: {}}, policy: {P}}}",
    "app web of project search": "teams: {ml: {}}\nprojects: {search: {team: ml, apps: {web: {policy: {P}}}}}",
    "user jo": "users: {jo: {policy: {P}}}",
    "key sgk_0123456789ab": "keys: {sgk_0123456789ab: {policy: {P}}}",
}


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_speaks(level: str) -> None:
    text = LEVELS[level].replace(
        "{P}", "{models: {deny: [fast]}, max_tokens: 5, max_cost_usd: '0.5'}"
    )
    given = permissions(text)
    assert rule(given) == (False, f'{level}: policy.models.deny "fast"')
    assert (given.max_tokens(CALLER), given.max_cost_nano(CALLER)) == (5, 500_000_000)
    assert given.decide(CALLER, ask("slow", max_tokens=5, worst_nano=500_000_000)).allowed
    refused = given.decide(CALLER, ask("slow", max_tokens=6))
    assert (refused.code, refused.param) == ("forbidden", "body.max_tokens")
    assert str(refused.rule) == f"{level}: policy.max_tokens 5"
    refused = given.decide(CALLER, ask("slow", worst_nano=500_000_001))
    assert str(refused.rule) == f"{level}: policy.max_cost_usd 0.500000000"
    other = Subject(tenant="free", team="ml", project="search", app="web", user="jo")
    assert given.decide(other, ask()).allowed


def test_the_more_specific_number_counts_even_where_it_is_larger() -> None:
    given = permissions(
        "policy: {max_tokens: 10, max_cost_usd: 1}\nusers: {jo: {policy: {max_tokens: 20}}}"
    )
    assert given.max_tokens(CALLER) == 20
    assert given.max_tokens(replace(CALLER, user=None)) == 10
    assert given.max_cost_nano(CALLER) == 10**9


@pytest.mark.parametrize(
    ("policy", "asked", "param"),
    [
        ("classes: {deny: [bulk]}", ask(), None),
        ("operations: {allow: [embeddings]}", ask(), "url"),
        ("topics: {allow: ['own.*']}", ask(), None),
        ("ips: {allow: [10.0.0.0/8]}", ask(ip="192.168.0.1"), None),
        ("ips: {deny: ['2001:db8::/32', 10.1.0.0/16]}", ask(ip="10.1.2.3"), None),
        ("ips: {deny: ['2001:db8::/32', 10.1.0.0/16]}", ask(ip="2001:db8::1"), None),
        ("ips: {deny: [10.1.0.0/16]}", ask(ip="::ffff:10.1.2.3"), None),
        ("ips: {deny: [10.1.0.0/16]}", ask(ip="nonsense"), None),
    ],
)
def test_other_aspects(policy: str, asked: Ask, param: str | None) -> None:
    decision = permissions(f"policy: {{{policy}}}").decide(CALLER, asked)
    assert not decision.allowed
    assert (decision.code, decision.param) == ("forbidden", param)
    for word in ("acme", "policy", "own", "embeddings", "10.0.0.0"):
        assert word not in decision.message


def test_what_is_not_asked_is_not_judged() -> None:
    given = permissions(
        "policy: {topics: {allow: [a]}, ips: {allow: [10.0.0.1]}, classes: {allow: [bulk]}}"
    )
    asked = Ask(model="fast", operation="chat", job_class=JobClass.BULK)
    assert given.decide(CALLER, asked).allowed
    assert given.decide(CALLER, replace(asked, ip="10.0.0.1", topic="a")).allowed


def test_what_is_kept_in_memory_is_bounded() -> None:
    given = permissions("policy: {models: {deny: [m7]}}")
    for number in range(REMEMBERED + 50):
        assert given.decide(CALLER, ask(f"m{number}")).allowed == (number != 7)
    assert len(given._decided) <= REMEMBERED


def test_explaining_names_every_scope_that_was_looked_at() -> None:
    given = permissions(
        "policy: {default: deny, models: {allow: ['*']}, max_tokens: 9}\n"
        "teams: {ml: {policy: {models: {deny: [x]}}}}\n"
        "users: {jo: {policy: {models: {allow: [fast]}, classes: {allow: [bulk]}, operations: {allow: [chat]}}}}"
    )
    found = {e.aspect: e for e in given.explain(CALLER, ask(max_tokens=10, ip="1.2.3.4"))}
    assert set(found) == {"models", "classes", "topics", "operations", "ips", "max_tokens"}
    models = found["models"]
    assert str(models.decision.rule) == 'user jo: policy.models.allow "fast"'
    assert [(look.scope, look.says) for look in models.looked_at] == [
        ("user jo", True),
        ("team ml", None),
        ("tenant acme", True),
    ]
    assert found["topics"].decision.allowed
    assert found["topics"].decision.rule is None
    assert not found["max_tokens"].decision.allowed
    assert permissions("").explain(CALLER, ask())[0].looked_at == ()
