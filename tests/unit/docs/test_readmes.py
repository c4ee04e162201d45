"""What the README and the map say is true: the example is a configuration, and every package and feature is named."""

import re
from pathlib import Path

from sluice_core.admission.definitions import definitions
from sluice_core.admission.model import ScopeKind
from sluice_core.config.compatible import ROWS
from sluice_core.config.load import parse_config
from sluice_core.config.model import resolve_model
from sluice_core.policies.model import Ask, Subject
from sluice_core.policies.policy import Permissions
from sluice_core.routing.model import Ask as Route
from sluice_core.routing.plan import plan_of

ROOT = Path(__file__).parents[3]


def _examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_readmes_routes_lead_where_it_says() -> None:
    accounts = "".join(
        f"  {a}: {{kind: openai, base_url: 'http://{a}'}}\n" for a in ("openai", "claude")
    )
    config = parse_config(f"providers:\n{accounts}{_examples()[1]}", {})
    plan = plan_of(resolve_model(config, "fast"), config.models["fast"], lambda _: (1.0, 1.0))
    bulk, _ = plan.group(Route(job_class="bulk", tags=(("team", "mlops"),)))
    assert [candidate.name for candidate in bulk.candidates] == ["haiku"]
    assert config.tenants["euro"].residency == ("eu",)


def test_the_example_of_the_readme_is_a_configuration_that_does_what_it_says() -> None:
    config = parse_config(_examples()[0], {"OPENAI_API_KEY": "sk"})
    scopes, budgets = definitions(config)
    assert {(budget.name, budget.hard) for budget in budgets} == {
        ("acme", True),
        ("acme/search", False),
    }
    limited = {(scope.kind, scope.name) for scope in scopes if scope.rates}
    assert limited == {(ScopeKind.PROJECT, "acme/search"), (ScopeKind.ACCOUNT, "openai")}
    permissions = Permissions.from_config(config)
    search = Subject(tenant="acme", team="ml", project="search")
    assert permissions.decide(search, Ask(model="smart")).allowed
    assert not permissions.decide(Subject(tenant="acme"), Ask(model="smart")).allowed


def test_the_map_names_every_package_and_feature_and_no_other() -> None:
    text = (ROOT / "services" / "README.md").read_text()
    packages = {path.parent.name for path in (ROOT / "services").glob("sluice_*/__init__.py")}
    assert {name for name in packages if f"    {name} " not in text} == set()
    core = text[text.index("    sluice_core ") : text.index("        ledger.py")]
    named = {
        name
        for line in core.splitlines()[2:]
        for name in re.split(r"\s{2,}", line.strip())[0].split()
    }
    features = {path.parent.name for path in (ROOT / "services/sluice_core").glob("*/__init__.py")}
    assert named == features


def test_the_map_names_every_file_of_the_processes() -> None:
    text = (ROOT / "services" / "README.md").read_text()
    words = set(re.findall(r"\w+", text[: text.index("sluice_client")]))
    for process in ("sluice_worker", "sluice_keeper"):
        files = {path.stem for path in (ROOT / "services" / process).glob("*.py")}
        assert files - words - {"__init__", "main", "route", "draw"} == set(), process


def test_the_readmes_accounts_are_what_it_says() -> None:
    names = ("OPENAI_A", "OPENAI_B", "GROQ", "TENANT", "CLIENT", "SECRET")
    providers = parse_config(
        _examples()[2], dict.fromkeys(names, "x") | {"OPENAI_B": "y"}
    ).providers
    assert providers["openai"].keys == ("x", "y")
    assert providers["groq"].url == "https://api.groq.com/openai/v1"
    own = providers["own"].differences
    assert own is not None
    assert own.reasoning_field == "reasoning"
    assert providers["azure"].entra is not None
    text = (ROOT / "README.md").read_text()
    known = re.search(r"Known by name: ([^.]*)\.", text)
    assert known is not None
    assert known[1].replace("\n", " ").split(", ") == sorted(ROWS)
