import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
import typer
from typer.main import get_command

from sluice_cli.config import changes
from sluice_cli.keys import state_of
from sluice_cli.main import app
from sluice_cli.output import Refused, cell, plain
from sluice_cli.processes import read_classes
from sluice_cli.provisions import Ports, at_port, kept_secret, with_mock
from sluice_cli.session import moment, uuid_of
from sluice_cli.unresolved import read_cost
from sluice_cli.usage import dimensions, totals
from sluice_core.config.load import Withheld, parse_config
from sluice_core.jobs.model import State
from sluice_core.keys.model import KeyRecord, KeyScope
from sluice_core.spending.model import UsageLine, UsageQuery
from sluice_schemas.classes import JobClass

_PACKAGED = Path(__file__).parents[3] / "services" / "sluice_cli" / "demo" / "sluice.yaml"
_NOW = datetime(2026, 11, 1, 12, 0, 0, 5, tzinfo=UTC)


def _commands(command: object, path: str = "sluice") -> list[tuple[str, object]]:
    found = []
    for name, inner in getattr(command, "commands", {}).items():
        below = _commands(inner, f"{path} {name}")
        found += below or [(f"{path} {name}", inner)]
    return found


@pytest.mark.parametrize(("path", "command"), _commands(get_command(app)))
def test_every_command_teaches_with_an_example(path: str, command: object) -> None:
    text = str(command.help)  # type: ignore[attr-defined]
    assert path in text or "Example" in text
    names = {name for param in command.params for name in param.opts}  # type: ignore[attr-defined]
    servers = {"sluice worker", "sluice keeper", "sluice mock-provider"}
    assert "--json" in names or path in servers


def test_the_command_starts_without_its_heavy_parts() -> None:
    heavy = ("aiokafka", "faststream", "sqlalchemy", "asyncpg", "pydantic", "rich.table", "httpx")
    code = f"import sys, sluice_cli.main; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_mistake_is_one_message_and_status_1() -> None:
    clean = {name: text for name, text in os.environ.items() if not name.startswith("SLUICE_")}
    command = [sys.executable, "-m", "sluice_cli.main", "keys", "list"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=clean)
    assert ran.returncode == 1
    assert ran.stderr.startswith("sluice: SLUICE_DATABASE is not set; write postgresql://")
    assert "Traceback" not in ran.stderr


def test_a_wrong_option_is_status_2() -> None:
    command = [sys.executable, "-m", "sluice_cli.main", "unresolved", "settle", "x"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2


def test_values_as_json_and_in_tables() -> None:
    value = {
        "at": _NOW,
        "cost": Decimal("0.000000001"),
        "id": UUID(int=1),
        "state": State.FAILED,
        "grants": frozenset({"b", "a"}),
        "day": date(2026, 11, 1),
    }
    assert json.loads(json.dumps(plain(value))) == {
        "at": "2026-11-01T12:00:00.000005Z",
        "cost": "0.000000001",
        "id": "00000000-0000-0000-0000-000000000001",
        "state": "failed",
        "grants": ["a", "b"],
        "day": "2026-11-01",
    }
    values: list[object] = [None, True, 12345, State.FAILED, []]
    assert [cell(shown) for shown in values] == [
        "–",
        "yes",
        "12,345",
        "failed",
        "–",
    ]


def test_classes_by_name() -> None:
    assert read_classes("realtime, bulk,realtime") == (JobClass.REALTIME, JobClass.BULK)
    for wrong in ("", "fast"):
        with pytest.raises(Refused, match="--classes"):
            read_classes(wrong)


def test_times_as_people_write_them() -> None:
    assert moment("2026-11-01") == datetime(2026, 11, 1, tzinfo=UTC)
    assert moment("2026-11-01T02:00:00+02:00") == datetime(2026, 11, 1, tzinfo=UTC)
    assert abs(moment("24h") - (datetime.now(UTC) - timedelta(days=1))) < timedelta(minutes=1)
    with pytest.raises(Refused, match="write 2026-11-01"):
        moment("yesterday")
    with pytest.raises(Refused, match="UUID"):
        uuid_of("17")


def test_dimensions_by_the_names_people_say() -> None:
    assert dimensions(["project,model", "project"]) == ("project", "model_requested")
    for wrong in (["colour"], [","]):
        with pytest.raises(Refused, match="--by"):
            dimensions(wrong)
    query = UsageQuery(by=("project", "class"), since=date(2026, 11, 1))
    line = UsageLine(
        group=("a", "bulk"),
        calls=2,
        input_tokens=3,
        output_tokens=4,
        cost_usd=Decimal("0.5"),
        list_cost_usd=Decimal("0.5"),
    )
    assert totals(query, [line, line]) == ("total", "", 4, 6, 8, "1.000000")


def test_a_cost_is_said_in_exactly_one_way() -> None:
    assert read_cost("0.0021", not_billed=False) == 2_100_000
    assert read_cost(None, not_billed=True) == 0
    for cost, not_billed in ((None, False), ("1", True), ("-1", False)):
        with pytest.raises(typer.BadParameter):
            read_cost(cost, not_billed=not_billed)


def test_the_state_of_a_key() -> None:
    def key(expires: datetime | None, revoked: datetime | None) -> KeyRecord:
        scope = KeyScope(tenant="a")
        return KeyRecord(
            id="k", scope=scope, created_at=_NOW, expires_at=expires, revoked_at=revoked
        )

    assert state_of(key(None, None), _NOW) == "valid"
    assert state_of(key(_NOW, None), _NOW) == "expired"
    assert state_of(key(_NOW, _NOW), _NOW) == "revoked"


def test_changes_are_a_diff() -> None:
    assert changes("a\nb\n", "a\nb\n") == ()
    assert changes("a\n", "b\n")[-2:] == ("-a", "+b")


def test_the_packaged_configuration_runs_on_any_port() -> None:
    packaged = _PACKAGED.read_text()
    config = parse_config(at_port(packaged, 9), {})
    assert config.providers["openai"].base_url == "http://127.0.0.1:9/v1"
    assert config.intake.unsigned_tenant == "default"


def test_a_configuration_without_providers_gets_the_mock() -> None:
    text = with_mock("tenants: {mine: {}}\n", _PACKAGED.read_text(), 9)
    config = parse_config(text, {})
    assert set(config.tenants) == {"mine"}
    assert config.providers["openai"].base_url == "http://127.0.0.1:9/v1"
    assert "fast" in config.models


def test_providers_keys_are_withheld() -> None:
    text = 'providers: {p: {kind: openai, base_url: "http://x", api_key: "${NOT_SET_HERE}"}}\n'
    key = parse_config(text, Withheld()).providers["p"].api_key
    assert key is not None
    assert key.get_secret_value() == "withheld"


def test_ports_and_secrets_stay(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json")
    taken = ports.take("kafka")
    ports.save()
    assert Ports(tmp_path / "ports.json").take("kafka") == taken
    assert kept_secret(tmp_path / "key", "one") == "one"
    assert kept_secret(tmp_path / "key", "two") == "one"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
