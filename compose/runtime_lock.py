"""Prints the part of requirements.lock that the services need: no embedded stack, no tools.

The lock says for every package which others ask for it (`# via`), so the closure of the project's
plain dependencies is found without a network, and every hash stays the committed one.
"""

import re
import sys
import tomllib
from pathlib import Path

_ENTRY = re.compile(r"^([a-z0-9-]+)(?:\[[^\]]*\])?==", re.MULTILINE)


def main() -> None:
    """`runtime_lock.py DIRECTORY [PACKAGE…]`: the packages named, else the project's dependencies,
    with all that they need; read from both files in the directory, written to standard output."""
    root, asked = Path(sys.argv[1]), sys.argv[2:]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = _entries((root / "requirements.lock").read_text(encoding="utf-8"))
    needed = {_name(requirement) for requirement in asked or project["dependencies"]}
    if missing := needed - entries.keys():
        raise SystemExit(f"requirements.lock lacks {', '.join(sorted(missing))}: make it anew")
    grown = True
    while grown:
        more = {name for name, entry in entries.items() if needed & _asked_by(entry)} - needed
        needed |= more
        grown = bool(more)
    sys.stdout.write("".join(entries[name] for name in sorted(needed)))


def _entries(lock: str) -> dict[str, str]:
    starts = list(_ENTRY.finditer(lock))
    ends = [start.start() for start in starts[1:]] + [len(lock)]
    return {
        start.group(1): lock[start.start() : end] for start, end in zip(starts, ends, strict=True)
    }


def _asked_by(entry: str) -> set[str]:
    _, _, via = entry.partition("# via")
    return set(re.findall(r"^\s*(?:#\s+)?([a-z0-9-]+)\s*$", via, re.MULTILINE))


def _name(requirement: str) -> str:
    """The normalised name: `faststream[kafka]==0.7.8` → `faststream`."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match.group()).lower()


if __name__ == "__main__":
    main()
