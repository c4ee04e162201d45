"""`sluice config check` says what it did not look at."""

import json
from pathlib import Path

import pytest

from sluice_cli.config import check

CONFIG = """
providers:
  here: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: "${KEY_THAT_IS_SET}"}
  absent: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: "${KEY_THAT_IS_NOT}"}
  bare: {kind: openai, base_url: "http://127.0.0.1:1/v1"}
models:
  fast: {targets: [{account: here, model: m}]}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEY_THAT_IS_SET", "sk-here")
    monkeypatch.delenv("KEY_THAT_IS_NOT", raising=False)
    path = tmp_path / "sluice.yaml"
    path.write_text(CONFIG)
    return path


def test_the_variables_that_were_not_looked_at_are_named(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(file)
    valid, withheld, unset = capsys.readouterr().out.replace("\n  ", " ").splitlines()
    assert "is valid: 3 providers" in valid
    assert withheld == "not looked at without --secrets: KEY_THAT_IS_SET, KEY_THAT_IS_NOT"
    assert unset == "not set here, and needed by the workers of their pool: KEY_THAT_IS_NOT"
    check(file, json_output=True)
    out = capsys.readouterr().out
    assert "sk-here" not in out
    assert json.loads(out) == {
        "valid": True,
        "problems": [],
        "not_looked_at": ["KEY_THAT_IS_SET", "KEY_THAT_IS_NOT"],
        "not_set_here": ["KEY_THAT_IS_NOT"],
    }


def test_with_secrets_nothing_is_left_out(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEY_THAT_IS_NOT", "sk-there")
    check(file, secrets=True)
    (valid,) = capsys.readouterr().out.splitlines()
    assert "is valid" in valid
