"""Limits, budgets and policies: what contradicts itself is named with its line, and what to write."""

from textwrap import indent

import pytest

from sluice_core.config.load import ConfigError, parse_config

BASE = """\
providers: {openai: {kind: openai, base_url: "http://x"}}
models: {fast: {targets: [{account: openai}]}, smart: {targets: [{account: openai}]}}
intake: {topics: [{name: acme.jobs, class: bulk, tenant: acme}, {name: zeta.jobs, class: bulk, tenant: zeta}]}
tenants:
  zeta:
  acme:
"""
PEOPLE = "teams: {ml: {}, ops: {}}\nprojects: {search: {team: ml, apps: {web: {}}}, support: {}}\n"


def problems(tenant: str, more: str = "") -> list[str]:
    """What is wrong with a tenant's section, which begins on line 7; without the file's name."""
    try:
        parse_config(BASE + indent(tenant, "    ") + more, {})
    except ConfigError as exc:
        return [line.removeprefix("sluice.yaml:") for line in exc.problems]
    return []


@pytest.mark.parametrize(
    ("tenant", "problem"),
    [
        ("limits: {requests: {limit: 0, per: minute}}", "7: tenants.acme.limits.requests.limit: input should be greater"),
        ("limits: {requests: {limit: -5, per: minute}}", "requests.limit: input should be greater"),
        ("limits: {tokens: {limit: 10000000000000000, per: minute}}", "tokens.limit: input should be less"),
        ("limits: {concurrency: 0}", "limits.concurrency: input should be greater"),
        ("max_parked: 10000000000000000", "max_parked: input should be less"),
        ("limits:\n  requests:\n    limit: 5\n    per: day\n    zone: Europe/Berln",
         '11: tenants.acme.limits.requests.zone: no time zone "Europe/Berln"; did you mean "Europe/Berlin"?'),
        ("budgets: {usd: 5, per: day, zone: Moon}", '7: tenants.acme.budgets.zone: no time zone "Moon"; write a name such as'),
        ("budgets: {usd: 5, per: day, zone: ../etc}", "budgets.zone: no time zone"),
        ("limits: {requests: [{limit: 5, per: minute}, {limit: 6, per: minute}]}",
         "limits.requests[1].per: a limit per minute stands here already (requests[0]): keep one of them"),
        ("limits: {tokens: [{limit: 5, per: day}, {limit: 6, per: day}]}", "limits.tokens[1].per: a limit per day stands"),
        ("limits: {requests: {limit: 5, per: minute, burst: 51}}", "requests.burst: is more than 10 times the limit; write at most 50"),
        ("limits: {requests: {limit: 5, per: day, burst: 1}}", "requests.burst: a limit per day has no burst: leave it out"),
        ("budgets: [{usd: 5, per: day}, {usd: 9, per: day, kind: soft}]",
         "budgets[1].per: a budget per day stands here already (budgets[0])"),
        ("budgets: {usd: 5, per: day, thresholds: [80, 50]}", "budgets.thresholds: must ascend, each once: write [50, 80]"),
        ("budgets: {usd: 5, per: day, thresholds: [50, 50]}", "budgets.thresholds: must ascend, each once: write [50]"),
        ("budgets: {usd: -1, per: day}", "budgets.usd: input should be greater"),
        ("keys: {abc: {}}", '7: tenants.acme.keys.abc: not the id of a key: write "sgk_…"'),
        ("policy: {models: {allow: [fist]}}", 'policy.models.allow[0]: no model "fist"; did you mean "fast"?'),
        ("policy: {models: {deny: ['opnai/*']}}", 'policy.models.deny[0]: no model "opnai/*"'),
        ("policy: {models: {deny: ['f*t']}}", 'policy.models.deny[0]: "*" counts only at the end; write "f*"'),
        ("policy: {ips: {allow: [10.0.0.1/8]}}", 'policy.ips.allow[0]: "10.0.0.1/8" is no network; did you mean 10.0.0.0/8?'),
        ("policy: {ips: {deny: ['10.*']}}", 'policy.ips.deny[0]: "10.*" is no network; write an address'),
        ("policy: {topics: {allow: [acne.jobs]}}", 'topics.allow[0]: no topic "acne.jobs" is read for jobs; did you mean "acme.jobs"?'),
        ("policy: {topics: {allow: [zeta.jobs]}}", 'topics.allow[0]: "zeta.jobs" is the topic of another tenant'),
        ("limits: {requets: {limit: 5, per: minute}}", '7: tenants.acme.limits.requets: no such setting; did you mean "requests"?'),
        ("limits:\n  requests:\n    - {limit: 5, per: minute, bust: 1}", '9: tenants.acme.limits.requests[0].bust: no such setting; did you mean "burst"?'),
        ("limits: {tokens: {limit: 5, per: minute, reserv: bound}}", 'limits.tokens.reserv: no such setting; did you mean "reserve"?'),
        ("limits: {concurency: 5}", 'limits.concurency: no such setting; did you mean "concurrency"?'),
        ("budgets:\n  - {usd: 5, per: day}\n  - {usd: 5, per: month, treshholds: [50]}", '9: tenants.acme.budgets[1].treshholds: no such setting; did you mean "thresholds"?'),
        ("budgets: {cap: 5, usd: 5, per: day}", "budgets.cap: no such setting"),
        ("policy: {modles: {allow: [fast]}}", '7: tenants.acme.policy.modles: no such setting; did you mean "models"?'),
        ("policy:\n  models:\n    alow: [fast]", '9: tenants.acme.policy.models.alow: no such setting; did you mean "allow"?'),
        ("policy: {max_token: 5}", 'policy.max_token: no such setting; did you mean "max_tokens"?'),
        ("users: {ann: {limit: {concurrency: 5}}}", '7: tenants.acme.users.ann.limit: no such setting; did you mean "limits"?'),
        ("teams: {ml: {budget: {usd: 5, per: day}}}", 'teams.ml.budget: no such setting; did you mean "budgets"?'),
        ("projects: {search: {apps: {web: {polcy: {}}}}}", 'projects.search.apps.web.polcy: no such setting; did you mean "policy"?'),
        ("wieght: 2", '7: tenants.acme.wieght: no such setting; did you mean "weight"?'),
        ("policy: {max_tokens: 0}", "policy.max_tokens: input should be greater"),
        ("policy: {max_cost_usd: -1}", "policy.max_cost_usd: input should be greater"),
        ("policy: {default: maybe}", "policy.default: input should be"),
        ("policy: {classes: {allow: [quick]}}", "policy.classes.allow[0]: input should be"),
    ],
)  # fmt: skip
def test_each_fault_says_what_to_write(tenant: str, problem: str) -> None:
    found = problems(tenant)
    assert any(problem in line for line in found), found
    assert len(found) == 1, found


@pytest.mark.parametrize(
    ("tenant", "problem"),
    [
        ("policy: {models: {allow: []}}", "policy.models.allow: allows nothing at all"),
        ("policy: {ips: {allow: []}}", "policy.ips.allow: allows nothing at all"),
        ("users: {jo: {policy: {topics: {allow: []}}}}", "users.jo.policy.topics.allow: allows nothing"),
        ("policy: {models: {allow: [fast], deny: ['f*']}}", "policy.models.deny: denies all models that it allows"),
        ("policy: {models: {deny: ['*']}}", "policy.models.deny: denies all models"),
        ("policy: {classes: {deny: [bulk, standard, realtime]}}", "policy.classes.deny: denies all classes"),
        ("policy: {operations: {deny: [chat, embeddings, responses, rerank]}}", "policy.operations.deny: denies all operations"),
        ("policy: {topics: {allow: [acme.jobs], deny: ['acme.*']}}", "policy.topics.deny: denies all topics"),
        ("keys: {'*': {policy: {models: {deny: ['*']}}}}", "keys.*.policy.models.deny: denies all models"),
        ("policy: {default: deny, models: {allow: [fast]}, classes: {allow: [bulk]}}",
         "policy.default: denies all operations, and no scope above or below allows any: write policy.operations.allow"),
        # What another project allows opens nothing here.
        (PEOPLE.replace("support: {}", "support: {policy: {models: {deny: ['*']}}}")
         .replace("web: {}", "web: {policy: {models: {allow: [fast]}}}"),
         "projects.support.policy.models.deny: denies all models"),
        (PEOPLE.replace("ops: {}", "ops: {policy: {models: {deny: ['*']}}}")
         .replace("web: {}", "web: {policy: {models: {allow: [fast]}}}"),
         "teams.ops.policy.models.deny: denies all models"),
    ],
)  # fmt: skip
def test_a_policy_that_locks_its_author_out(tenant: str, problem: str) -> None:
    found = problems(tenant)
    assert any(problem in line for line in found), found
    assert len(found) == 1, found


def test_a_tenant_that_denies_by_default_and_allows_nothing() -> None:
    found = problems("policy: {default: deny}")
    assert [line.split("all ")[1].split(",")[0] for line in found] == [
        "classes",
        "models",
        "operations",
    ]


@pytest.mark.parametrize(
    "tenant",
    [
        "policy: {default: deny, models: {allow: ['*']}, operations: {allow: [chat]}, classes: {allow: [bulk]}}",
        "policy: {default: deny}\nkeys: {'*': {policy: {models: {allow: [fast]}, operations: {allow: [chat]}, classes: {allow: [bulk]}}}}",
        "policy: {default: deny}\nusers: {jo: {policy: {default: allow}}}",
        "policy: {models: {deny: ['*']}}\nkeys: {'*': {policy: {models: {allow: [fast]}}}}",
        "policy: {models: {allow: [fast]}}\nusers: {jo: {policy: {default: deny, operations: {allow: [chat]}, classes: {allow: [bulk]}}}}",
        PEOPLE.replace("ml: {}", "ml: {policy: {models: {deny: ['*']}}}")
        .replace("web: {}", "web: {policy: {models: {allow: [fast]}}}"),
        "policy: {models: {allow: [fast, smart], deny: [fast]}}",
        "policy: {models: {allow: [openai/gpt-9, 'open*', '*']}, topics: {allow: ['llm.*', acme.jobs]}}",
        "policy: {ips: {allow: [10.0.0.0/8, 192.168.0.1, '2001:db8::/32']}}",
        "keys: {sgk_0123456789abcdef01234567: , '*': {}}\nusers: [jo, '*']",
        "budgets: [{usd: 0, per: day}, {usd: 5, per: month, zone: America/New_York, kind: soft}]",
        "limits: {tokens: [{limit: 5, per: day, reserve: bound}, {limit: 5, per: day}, {limit: 5, per: minute, burst: 50}]}",
        # A budget that can never matter is no fault.
        PEOPLE.replace("support: {}", "support: {budgets: {usd: 50, per: day}}") + "budgets: {usd: 5, per: day}",
    ],
)  # fmt: skip
def test_what_is_in_order(tenant: str) -> None:
    assert problems(tenant) == []


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("dispatch: {minimum: {realtime: 0.9}}", "dispatch.minimum: is more than all slots together (realtime 0.9, standard 0.1, bulk 0.1)"),
        ("dispatch: {weights: {bulk: 0}}", "dispatch.weights.bulk: input should be greater"),
        ("dispatch: {minimum: {bulk: -1}}", "dispatch.minimum.bulk: input should be greater"),
    ],
)  # fmt: skip
def test_shares(more: str, problem: str) -> None:
    found = problems("", more)
    assert len(found) == 1
    assert problem in found[0]
    assert problems("", "dispatch: {minimum: {realtime: 0.6, standard: 0.3}}") == []


def test_a_strict_limit_below_one_request() -> None:
    text = BASE.replace(
        "fast: {",
        "fast: {default_max_tokens: 500, limits: {tokens: {limit: 400, per: minute, reserve: bound}}, ",
    )
    with pytest.raises(ConfigError, match=r"tokens\.limit: is below one request: .* is 500"):
        parse_config(text, {})
    assert parse_config(text.replace("bound", "expected"), {})


def test_where_every_model_may_be_asked_for_any_name_may_stand_in_a_policy() -> None:
    text = BASE.replace("smart:", '"*":') + "    policy: {models: {allow: [gpt-9]}}"
    assert parse_config(text, {})


def test_what_cannot_be_read_is_not_judged_by_policies() -> None:
    text = BASE.replace("openai: {kind", "Open!: {kind") + "    policy: {models: {allow: [nope]}}"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, {})
    assert not any("policy" in line for line in caught.value.problems)
