import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_platform import crash
from sluice_platform.crash import CrashPlan

_PROGRAM = """
import sys
from pathlib import Path
from sluice_platform import crash
crash.arm(crash.CrashPlan.parse(sys.argv[1], Path(sys.argv[2])))
for passage in (1, 2, 3):
    crash.crash_point("after_begin")
    print(passage, flush=True)
"""


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    crash.arm(None)


def _run(at: str, mark: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, at, str(mark)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_nothing_happens_unarmed() -> None:
    crash.crash_point("after_begin")


def test_the_process_dies_at_the_passage_asked_for(tmp_path: Path) -> None:
    assert _run("after_begin:2", tmp_path / "mark") == (-signal.SIGKILL, "1\n")
    assert (tmp_path / "mark").exists()


def test_the_second_process_of_a_run_survives(tmp_path: Path) -> None:
    assert _run("after_begin", tmp_path / "mark")[0] == -signal.SIGKILL
    assert _run("after_begin", tmp_path / "mark") == (0, "1\n2\n3\n")


def test_other_places_are_passed(tmp_path: Path) -> None:
    crash.arm(CrashPlan.parse("after_call", tmp_path / "mark"))
    crash.crash_point("after_begin")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("text", ["nowhere", "after_begin:0", "after_begin:x", "after_begin:-1"])
def test_a_wrong_place_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a positive|unknown crash point"):
        CrashPlan.parse(text, tmp_path / "mark")
