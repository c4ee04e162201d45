import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.waiting import eventually

from sluice_devstack.errors import DevstackError
from sluice_devstack.processes import Process, installed_command, scripts_environment

_STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""

# Starts a process and a grandchild of it, says their pids, and waits to be killed.
_PARENT = """
import sys, time
from pathlib import Path
from sluice_devstack.processes import Process
process = Process(["sh", "-c", "sleep 61 & echo $!; exec sleep 60"], log=Path(sys.argv[1]))
print(process.pid, flush=True)
time.sleep(60)
"""


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_output_goes_to_the_log_and_the_status_comes_back(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "echo out; echo err >&2; exit 3"], log=tmp_path / "log")
    assert await process.wait(10) == 3
    assert (tmp_path / "log").read_text() == "out\nerr\n"


async def test_the_environment_and_the_directory_are_those_given(tmp_path: Path) -> None:
    environment = scripts_environment({"SLUICE_TEST": "42"})
    process = Process(
        ["sh", "-c", "echo $SLUICE_TEST; pwd"],
        log=tmp_path / "log",
        environment=environment,
        directory=tmp_path,
    )
    assert await process.wait(10) == 0
    assert (tmp_path / "log").read_text() == f"42\n{tmp_path}\n"


async def test_a_command_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(DevstackError, match="cannot run no-such-command: .*No such file"):
        Process(["no-such-command"], log=tmp_path / "log")
    with pytest.raises(DevstackError, match="not installed"):
        installed_command("no-such-command")


@pytest.mark.parametrize(
    ("act", "number"), [(Process.kill, signal.SIGKILL), (Process.terminate, signal.SIGTERM)]
)
async def test_a_signal_ends_it(
    tmp_path: Path, act: Callable[[Process], None], number: signal.Signals
) -> None:
    process = Process(["sleep", "60"], log=tmp_path / "log")
    act(process)
    assert await process.wait(10) == -number
    act(process)  # a second time it is harmless


async def test_stopping_ends_in_a_kill_after_the_grace(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = Process([sys.executable, "-c", _STUBBORN], log=log, grace_s=0.2)
    await eventually(lambda: "ready" in log.read_text())
    assert await process.stop() == -signal.SIGKILL


async def test_a_frozen_process_stands_still_and_can_be_stopped(tmp_path: Path) -> None:
    process = Process(["sleep", "60"], log=tmp_path / "log")
    process.freeze()
    await eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    process.thaw()
    await eventually(lambda: psutil.Process(process.pid).status() != psutil.STATUS_STOPPED)
    process.freeze()
    assert await process.stop() == -signal.SIGTERM


async def test_waiting_has_a_deadline(tmp_path: Path) -> None:
    process = Process(["sleep", "60"], log=tmp_path / "log")
    with pytest.raises(TimeoutError):
        await process.wait(0.05)
    await process.stop()


async def test_cpu_and_memory_are_measured(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "while True: pass"], log=tmp_path / "log")
    await eventually(lambda: process.cpu_seconds() > 0.1)
    assert process.rss_bytes() > 1_000_000
    process.kill()
    await process.wait(10)
    assert process.cpu_seconds() == 0.0
    assert process.rss_bytes() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_nothing_outlives_the_parent(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        await eventually(lambda: log.read_text().strip())
        grandchild = int(log.read_text())
        assert not _gone(child)
        assert not _gone(grandchild)
        parent.send_signal(number)
        parent.wait(10)
        await eventually(lambda: _gone(child) and _gone(grandchild))


async def test_nothing_outlives_the_supervisor(tmp_path: Path) -> None:
    process = Process(["sleep", "60"], log=tmp_path / "log")
    supervisor = psutil.Process(process.pid).parent()
    assert supervisor is not None
    supervisor.kill()
    await eventually(lambda: _gone(process.pid))
    assert await process.wait(10) == -signal.SIGKILL


async def test_a_forked_child_that_holds_the_pipe_keeps_nothing_alive(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from sluice_devstack.processes import Process\n"
        "process = Process(['sleep', '60'], log=Path(sys.argv[1]))\n"
        "forked = os.fork()\n"
        "if forked == 0:\n"
        "    time.sleep(20)\n"
        "    os._exit(0)\n"
        "print(process.pid, forked, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child, forked = (int(word) for word in parent.stdout.readline().split())
        try:
            await eventually(lambda: _gone(child))
        finally:
            os.kill(forked, signal.SIGKILL)


async def test_supervision_is_quick(tmp_path: Path) -> None:
    started = time.monotonic()
    process = Process(["true"], log=tmp_path / "log")
    assert await process.wait(10) == 0
    assert time.monotonic() - started < 2.0
