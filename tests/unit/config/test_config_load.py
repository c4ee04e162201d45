"""Configuration: what the written example means, and that every fault is named with its line."""

import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.config.durations import duration_text, parse_duration, parse_size
from sluice_core.config.load import ConfigError, load_config, parse_config
from sluice_core.config.model import Config, TargetRef, resolve_model
from sluice_schemas.classes import JobClass

EXAMPLE = """\
providers:
  openai: {kind: openai, base_url: "https://api.openai.com/v1", api_key: "${OPENAI_API_KEY}", pool: default}
models:
  fast: {targets: [{account: openai, model: gpt-4o-mini}]}
  "*": {targets: [{account: openai}]}
tenants:
  acme: {teams: {ml: {}}, projects: {search: {team: ml, apps: {web: {}}}, support: {}}, reply_topics: [my.replies]}
intake:
  unsigned: reject
"""
ENVIRON = {"OPENAI_API_KEY": "sk-secret"}


def faults(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, ENVIRON if environ is None else environ)
    assert "sk-secret" not in str(caught.value)
    return list(caught.value.problems)


def test_the_written_example() -> None:
    config = parse_config(EXAMPLE, ENVIRON)
    openai = config.providers["openai"]
    assert openai.api_key is not None
    assert openai.api_key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in repr(config)
    assert (openai.provider_name, openai.pool, openai.timeouts.connect) == ("openai", "default", 5)
    assert config.tenants["acme"].projects["search"].team == "ml"
    assert list(config.tenants["acme"].projects["search"].apps) == ["web"]
    assert config.intake.unsigned_tenant is None
    assert config.limits.record_bytes == 8 * 1024**2
    assert config.retention.idempotency == 35 * 86400
    assert (config.unknown.after, config.unknown.book) == (72 * 3600, "worst_case")
    assert config.grace_s == 610


def test_models_resolve() -> None:
    config = parse_config(EXAMPLE, ENVIRON)
    assert resolve_model(config, "fast") == (TargetRef(account="openai", model="gpt-4o-mini"),)
    assert resolve_model(config, "other") == (TargetRef(account="openai", model="other"),)
    assert resolve_model(config, "openai/x/y") == (TargetRef(account="openai", model="x/y"),)
    assert resolve_model(config, "org/model") == (TargetRef(account="openai", model="org/model"),)
    assert resolve_model(config, "*") == resolve_model(config, "") == ()
    closed = parse_config(EXAMPLE.replace('"*"', "also"), ENVIRON)
    assert resolve_model(closed, "other") == ()
    assert resolve_model(closed, "openai/x") == (TargetRef(account="openai", model="x"),)
    assert resolve_model(closed, "also") == (TargetRef(account="openai", model="also"),)


def test_an_empty_file_is_all_defaults() -> None:
    for text in ("", "# nothing\n", "tenants:\n", "{}"):
        assert parse_config(text, {}) == Config()
    assert Config().worker.backlog.rows(JobClass.BULK).high > 1_000_000


def test_shapes_people_write() -> None:
    config = parse_config(
        """
tenants:
  007: {teams: [a, b], projects: {p: {team: a, apps: [x, y]}, q: }}
  acme:
models:
  m:
    targets: [{account: p}]
    prices: {input: 0.15, cached_input: "0.075", output: 1}
providers:
  p: {kind: openai, base_url: http://localhost:1, timeouts: {total: 2m, connect: 500ms}}
retention: {jobs: 72h, idempotency: 5w}
limits: {record_bytes: 1MiB}
intake:
  unsigned: tenant:acme
  topics: [{name: t, class: control, tenant: "007", project: p, app: x}]
""",
        {},
    )
    assert list(config.tenants["007"].teams) == ["a", "b"]
    (prices,) = config.models["m"].prices
    assert (prices.input, prices.cached_input) == (Decimal("0.15"), Decimal("0.075"))
    assert config.providers["p"].timeouts.total == 120
    assert config.providers["p"].timeouts.connect == 0.5
    assert config.retention.jobs == 259200
    assert config.limits.record_bytes == 1024**2
    assert config.intake.unsigned_tenant == "acme"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("provders: {}", 'sluice.yaml:1: provders: no such setting; did you mean "providers"?'),
        (
            "providers:\n  o:\n    kind: openai\n    base_url: http://x\n    timeouts:\n      conect: 3\n",
            'sluice.yaml:6: providers.o.timeouts.conect: no such setting; did you mean "connect"?',
        ),
        (
            "providers: {openai: {kind: openai, base_url: http://x}}\nmodels:\n  fast:\n    targets:\n      - account: opnai\n",
            'sluice.yaml:5: models.fast.targets[0].account: no provider "opnai"; did you mean "openai"?',
        ),
        ("models:\n  m: {targets: []}", "sluice.yaml:2: models.m.targets: tuple should have at least 1"),
        ("models:\n  m: {}", "sluice.yaml:2: models.m.targets: is missing"),
        ("tenants:\n  a: {}\n  a: {}\n", "sluice.yaml:3: tenants.a: written twice; the first is on line 2"),
        ("tenants:\n\n  Acme: {}", "sluice.yaml:3: tenants.Acme: not a usable name"),
        ("cell: ${HOME}", "sluice.yaml:1: cell: ${…} is read only in secrets"),
        (
            "providers:\n  o: {kind: openai, base_url: http://x,\n      api_key: '${NONE}'}",
            "sluice.yaml:3: providers.o.api_key: the environment variable NONE is not set",
        ),
        (
            'providers:\n  o: {kind: openai, base_url: http://x,\n      api_key: "sk-1\\n"}',
            "sluice.yaml:3: providers.o.api_key: holds a line break",
        ),
        (
            "providers: {o: {kind: openai, base_url: 'https://me:word@x/v1'}}",
            "sluice.yaml:1: providers.o.base_url: a name and password in a url are not sent",
        ),
        ("tenants:\n  a:\n    projects: {p: {team: x}}", 'a.projects.p.team: no team "x"; there are none'),
        ("tenants: {a: {reply_topics: [llm.usage.v1]}}", "is a topic of the gateway itself"),
        ("tenants: {a: {reply_topics: [llm.replies.b.v1]}, b: {}}", "is a topic of the gateway itself"),
        ("tenants: {a: {projects: {unallocated: {}}}}", "choose another name"),
        ("intake: {unsigned: 'tenant:x'}", 'intake.unsigned: no tenant "x"'),
        ("intake: {unsigned: maybe}", "sluice.yaml:1: intake.unsigned: string should match"),
        ("intake:\n  topics:\n  - {name: t, class: bluk, tenant: a}", "sluice.yaml:3: intake.topics[0].class"),
        ("intake: {topics: [{name: t, class: bulk, tenant: a}]}", 'topics[0].tenant: no tenant "a"'),
        (
            "tenants: {a: {}}\nintake: {topics: [{name: llm.jobs.bulk.v1, class: bulk, tenant: a}]}",
            "sluice.yaml:2: intake.topics[0].name: \"llm.jobs.bulk.v1\" is a topic of the gateway itself",
        ),
        (
            "tenants: {a: {}}\nintake: {topics: [{name: t, class: bulk, tenant: a},\n {name: t, class: bulk, tenant: a}]}",
            'sluice.yaml:3: intake.topics[1].name: "t" is listed twice',
        ),
        (
            "tenants: {a: {reply_topics: [t]}}\nintake: {topics: [{name: t, class: bulk, tenant: a}]}",
            'reply_topics[0]: "t" is read for jobs',
        ),
        ("retention:\n  idempotency: 3d", "sluice.yaml:2: retention.idempotency: is shorter than"),
        (
            "retention:\n  results: 40d",
            "sluice.yaml:1: retention.idempotency: is shorter than retention.results: a replay would pay again; write 40d or more",
        ),
        (
            "retention:\n  idempotency: 60d\n  payloads: 36h",
            "sluice.yaml:3: retention.payloads: is shorter than retention.idempotency: a duplicate's stored result would be gone; write 60d or more",
        ),
        ("retention: {payloads: 34d}", "sluice.yaml:1: retention.payloads: is shorter than"),
        ("retention:\n  jobs: 7", "sluice.yaml:2: retention.jobs: has no unit: 7; write 7d"),
        ("retention: {payloads: '35.5'}", "retention.payloads: has no unit: '35.5'; write 7d"),
        ("unknown: {after: 72}", "sluice.yaml:1: unknown.after: has no unit: 72; write 7d, 72h"),
        ("retention: {jobs: soon}", "retention.jobs: not a duration: 'soon'; write 30s"),
        ("limits: {record_bytes: 1.5}", "limits.record_bytes: not a size"),
        ("worker: {backlog: {bulk: {high: 5, low: 5}}}", "worker.backlog.bulk.low: must be below high"),
        ("models: {m: {targets: [{account: a}], prices: {input: -1}}}", "models.m.prices.input: input should"),
        ("a: [", "sluice.yaml:1: not YAML"),
        ("x: 1\ny: *nope", "sluice.yaml:2: not YAML: found undefined alias"),
        ("x: 1\ncell: &a [*a, *a]", "sluice.yaml:2: cell[0]: refers to itself"),
        ("cell: 2026-99-99", "sluice.yaml:1: cell: not a value"),
        ("- a", "sluice.yaml:1: a configuration is a mapping of sections"),
        ("just text", "sluice.yaml:1: a configuration is a mapping of sections"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_line(text: str, fault: str) -> None:
    found = faults(text)
    assert any(fault in line for line in found), found
    assert len(found) <= 4, found


def test_every_fault_comes_in_one_list() -> None:
    found = faults("cell: X!\nprovders: {}\ntenants: {a: {x: 1}, a: {}}\nmodels: {m: {}}\n", {})
    assert [line.split(": ")[1] for line in found] == [
        "cell",
        "provders",
        "tenants.a",
        "tenants.a.x",
        "models.m.targets",
    ]


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ("cell: X!", "cell"),
        ("provders: {}", "provders"),
        ("worker: {x: 1}", "worker.x"),
        ("limits: 5", "limits"),
        ("retention: {jobs: 7}", "retention.jobs"),
        ("providers: {openai: {kind: openai, base_url: 7}}", "providers.openai.base_url"),
        ("providers: {openai: {kind: openai, base_url: http://x, timeouts: {conect: 3}}}",
         "providers.openai.timeouts.conect"),
    ],
)  # fmt: skip
def test_references_are_judged_beside_wrong_values(wrong: str, path: str) -> None:
    text = f"""
{wrong}
models: {{fast: {{targets: [{{account: openai}}, {{account: opnai}}]}}, bad: {{}}}}
tenants: {{acme: {{projects: {{p: {{team: x}}}}}}}}
"""
    if "providers:" not in wrong:
        text += "providers: {openai: {kind: openai, base_url: http://x}}\n"
    assert sorted(line.split(": ")[1] for line in faults(text)) == sorted(
        [path, "models.bad.targets", "models.fast.targets[1].account", "tenants.acme.projects.p.team"]
    )  # fmt: skip


def test_what_cannot_be_read_is_not_said_to_be_missing() -> None:
    found = faults(
        """
providers: {Open!: {kind: openai, base_url: http://x}}
models: {m: {targets: [{account: Open!}]}}
tenants: {acme: {teams: 5, projects: {p: {team: x}}}}
intake: {unsigned: "tenant:acme"}
"""
    )
    assert [line.split(": ")[1] for line in found] == ["providers.Open!", "tenants.acme.teams"]


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    with pytest.raises(ConfigError, match=r"s\.yaml: cannot be read: No such file"):
        load_config(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_config(path, {})
    path.write_text(EXAMPLE)
    assert load_config(path, ENVIRON) == parse_config(EXAMPLE, ENVIRON)
    path.write_text("x: 1")
    with pytest.raises(ConfigError, match=r"s\.yaml:1: x: no such setting"):
        load_config(str(path), {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604800), ("72h", 259200), ("30m", 1800), (45, 45), ("1.5", 1.5), ("500ms", 0.5), ("2w", 1209600)],
)  # fmt: skip
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1s", "1y", "1d2h", True, None, "1e9"])
def test_other_texts_are_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_sizes() -> None:
    assert [parse_size(text) for text in ("8MiB", "64 KiB", 12, "1GiB", "5B")] == [
        8388608, 65536, 12, 1073741824, 5,
    ]  # fmt: skip
    for wrong in ("8MB", "-1", "1.5KiB", True, None):
        with pytest.raises(ValueError, match="not a size"):
            parse_size(wrong)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_named_fault(text: str) -> None:
    problems: tuple[str, ...] = ("sluice.yaml:",)
    try:
        parse_config(text, {})
    except ConfigError as exc:
        problems = exc.problems
    assert problems
    assert all(line.startswith("sluice.yaml:") for line in problems)


@pytest.mark.parametrize("text", ["60d", "36h", "90m", "45s", "500ms"])
def test_a_duration_is_written_as_people_write_it(text: str) -> None:
    assert duration_text(parse_duration(text)) == text


def test_references_to_references_are_no_bomb() -> None:
    lines = ["models: {}", "x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join(f'*x{n - 1}' for _ in range(9))}]" for n in range(1, 12)]
    since = time.monotonic()
    assert any("is more than 100,000 values" in fault for fault in faults("\n".join(lines)))
    assert time.monotonic() - since < 5
