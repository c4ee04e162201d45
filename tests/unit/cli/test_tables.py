import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from sluice_cli.output import Column, print_table

_ID = "0192f0c1-2a3b-7c4d-8e5f-0123456789ab"
_TITLES = ("id", "state", "tenant", "project", "model", "run", "admitted", "finished")
_ROW = (_ID, "succeeded", "acme", "search-and-rank", "gpt-large", "nightly-run", "2026", "2026")
_PROGRAM = (
    "from sluice_cli.output import Column, print_table\n"
    f"print_table('Jobs', [Column(title=t, whole=t == 'id') for t in {_TITLES!r}], [{_ROW!r}])"
)


def test_nothing_wraps_in_a_pipe() -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-c", _PROGRAM]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    (line,) = [line for line in ran.stdout.splitlines() if _ID in line]
    assert all(value in line for value in _ROW)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_an_id_is_whole_in_a_terminal_of_any_width(columns: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {n: v for n, v in os.environ.items() if n not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-c", _PROGRAM]
    subprocess.run(
        command, stdin=theirs, stdout=theirs, check=True, env={**environment, "TERM": "xterm"}
    )
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    os.close(theirs)
    assert _ID in shown


def test_an_empty_table_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Keys", [Column(title="id")], [])
    assert capsys.readouterr().out == "Keys: none\n"
