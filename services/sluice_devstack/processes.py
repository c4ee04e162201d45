"""Starts a command that cannot outlive this process, and lets tests kill, freeze and measure it."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from sluice_devstack import supervise
from sluice_devstack.errors import DevstackError

_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user that a server runs as."""

    name: str
    uid: int
    gid: int


class Process:
    """One command under a supervisor that stops it when this process is gone, however it died.

    The command has its own session, so the terminal's Ctrl-C does not reach it. Standard output
    and error are appended to `log`. Constructing it starts it; a command that cannot be executed
    raises DevstackError. Keep the object: letting go of it stops the command. `keep_open` are descriptors that the command inherits.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = 10.0,
        account: Account | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self._grace_s = grace_s
        supervisor = [sys.executable, "-I", "-S", str(Path(supervise.__file__).resolve())]
        supervisor += ["--stop-signal", str(int(stop_signal)), "--grace", str(grace_s)]
        if account is not None:
            supervisor += ["--account", f"{account.uid}:{account.gid}"]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._supervisor = subprocess.Popen(  # noqa: S603 - the caller's own command
                [*supervisor, "--", *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=None if environment is None else dict(environment),
                cwd=directory,
                start_new_session=True,
                pass_fds=tuple(keep_open),
            )
        self.pid = self._read_pid()
        self._measured: psutil.Process | None = None
        with suppress(psutil.NoSuchProcess):  # it may have ended already
            self._measured = psutil.Process(self.pid)

    def _read_pid(self) -> int:
        assert self._supervisor.stdout is not None
        with self._supervisor.stdout as output:
            word, _, rest = output.readline().decode().strip().partition(" ")
        if word == "pid":
            return int(rest)
        self._release()
        self._supervisor.wait()
        reason = rest or f"the supervisor ended; see {self.log}"
        raise DevstackError(f"cannot run {self.command[0]}: {reason}")

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while the command runs."""
        status = self._supervisor.poll()
        if status is None:
            return None
        self._release()
        return 128 - status if 128 < status <= 128 + signal.NSIG else status

    def kill(self) -> None:
        """SIGKILL, as the machine's own out-of-memory killer would."""
        self.signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: the command is asked to drain and leave."""
        self.signal(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: the command stands still, its connections stay open."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: a frozen command goes on."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal through the supervisor, which knows that the pid is still the command's.

        A command that has ended already is left alone.
        """
        assert self._supervisor.stdin is not None
        if self._supervisor.stdin.closed:
            return
        with suppress(BrokenPipeError):
            self._supervisor.stdin.write(b"signal %d\n" % number)
            self._supervisor.stdin.flush()

    async def wait(self, timeout_s: float) -> int:
        """Waits for the end; returns `returncode`, raises TimeoutError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (code := self.returncode) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self.command[0]} still runs after {timeout_s:g} s")
            await asyncio.sleep(_POLL_S)
        return code

    async def stop(self) -> int:
        """Stops the command (its stop signal, SIGKILL after its grace); returns `returncode`."""
        self._release()
        return await self.wait(self._grace_s + 10.0)

    def _release(self) -> None:
        """Lets go of the pipe, which tells the supervisor to stop the command."""
        if self._supervisor.stdin is not None:
            with suppress(BrokenPipeError):
                self._supervisor.stdin.close()

    def cpu_seconds(self) -> float:
        """User and system CPU time of the command itself since its start; 0.0 once it is gone."""
        if self._measured is None:
            return 0.0
        with suppress(psutil.NoSuchProcess):
            times = self._measured.cpu_times()
            return float(times.user + times.system)
        return 0.0

    def rss_bytes(self) -> int:
        """Resident memory of the command itself, in bytes; 0 once it is gone."""
        if self._measured is None:
            return 0
        with suppress(psutil.NoSuchProcess):
            return int(self._measured.memory_info().rss)
        return 0


def scripts_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with `environment` on top and this interpreter's scripts first
    on PATH, so that `sluice` is found in a virtualenv that is not activated."""
    merged = {**os.environ, **environment}
    merged["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), merged.get("PATH", "")])
    return merged


def installed_command(name: str) -> str:
    """The path of an installed command such as `sluice`; raises DevstackError if there is none."""
    found = shutil.which(name, path=scripts_environment({})["PATH"])
    if found is None:
        raise DevstackError(f"the command {name!r} is not installed beside {sys.executable}")
    return found
