"""Runs one command and ends it when the process that asked for it is gone.

    python supervise.py --stop-signal N --grace SECONDS [--account UID:GID] -- COMMAND…

Standard input is a pipe whose other end the parent holds: a line `signal N` is passed on to the
command, end-of-file (the parent left, however it died) stops it: the stop signal first, SIGKILL
after the grace. Standard output says `pid N` once, or `error TEXT`. The exit status is the
command's, or 128 + its signal.

Runs as a script without site-packages, so that it starts in milliseconds: standard library only.
"""

import argparse
import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PARENT_CHECK_S = 1.0


def main() -> int:
    """Runs the command in `sys.argv` to its end and returns its exit status."""
    options = _options()
    parent = os.getppid()
    waker, wake_write = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # The terminal's Ctrl-C is for the parent; it decides in which order things end.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    _prctl(libc, _PR_SET_CHILD_SUBREAPER, 1)  # a killed server's children come to us, to be ended
    pid = _spawn(options, libc)
    if pid is None:
        return 127
    status = _Loop(pid, options, parent, waker).run()
    _end_adopted()
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop-signal", type=int, default=signal.SIGTERM)
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--account", default="")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    with suppress(AttributeError):  # Linux has it; elsewhere the pipe alone must do
        libc.prctl(option, value, 0, 0, 0)


def _spawn(options: argparse.Namespace, libc: ctypes.CDLL) -> int | None:
    """Starts the command; its pid, or None where it cannot be executed."""
    error_read, error_write = os.pipe()  # close-on-exec: end-of-file says that exec succeeded
    log = os.dup(2)
    pid = os.fork()
    if pid == 0:
        try:
            _become(options, libc, log)
            os.execvp(options.command[0], options.command)  # noqa: S606 - no shell is meant
        except OSError as exc:
            os.write(error_write, str(exc).encode())
        os._exit(127)
    os.close(error_write)
    os.close(log)
    failure = os.read(error_read, 4096)
    os.close(error_read)
    _say(f"error {failure.decode()}" if failure else f"pid {pid}")
    if failure:
        os.waitpid(pid, 0)
        return None
    return pid


def _become(options: argparse.Namespace, libc: ctypes.CDLL, log: int) -> None:
    """In the child: its own input and output, signals and account."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    if options.account:
        uid, gid = (int(part) for part in options.account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of account, which would clear it: if this supervisor itself is killed, the
    # command gets its stop signal from the kernel.
    _prctl(libc, _PR_SET_PDEATHSIG, options.stop_signal)


class _Loop:
    """Waits for the command's end, the parent's lines and the parent's end."""

    def __init__(self, pid: int, options: argparse.Namespace, parent: int, waker: int) -> None:
        self._pid = pid
        self._options = options
        self._parent = parent
        self._waker = waker
        self._watched = [0, waker]
        self._kill_at: float | None = None
        self._pending = b""

    def run(self) -> int:
        while True:
            status = self._reap()
            if status is not None:
                return status
            ready, _, _ = select.select(self._watched, [], [], self._timeout())
            if 0 in ready:
                self._read_parent()
            if self._waker in ready and signal.SIGTERM in os.read(self._waker, 4096):
                self._stop()
            # A process forked from the parent may hold the pipe open, so its pid counts as well.
            if os.getppid() != self._parent:
                self._stop()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                os.kill(self._pid, signal.SIGKILL)

    def _timeout(self) -> float:
        if self._kill_at is None:
            return _PARENT_CHECK_S
        return min(_PARENT_CHECK_S, max(0.01, self._kill_at - time.monotonic()))

    def _reap(self) -> int | None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == self._pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if pid == 0:
                return None

    def _read_parent(self) -> None:
        data = os.read(0, 4096)
        if not data:
            self._watched.remove(0)
            self._stop()
            return
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            os.kill(self._pid, int(line.removeprefix(b"signal ")))

    def _stop(self) -> None:
        if self._kill_at is not None:
            return
        self._kill_at = time.monotonic() + self._options.grace
        os.kill(self._pid, self._options.stop_signal)
        os.kill(self._pid, signal.SIGCONT)  # a frozen command must wake up to hear it


def _end_adopted() -> None:
    """Kills what the command left behind: a killed postmaster's busy backends, for one."""
    listing = f"/proc/self/task/{os.getpid()}/children"
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        try:
            with open(listing, encoding="ascii") as file:  # noqa: PTH123 - pathlib costs 10 ms here
                children = [int(child) for child in file.read().split()]
        except OSError:
            return
        if not children:
            return
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, 0):
                pass


def _say(line: str) -> None:
    with suppress(OSError):  # a parent that is already gone shows as end-of-file
        os.write(1, line.encode() + b"\n")
    with suppress(OSError):
        os.close(1)


if __name__ == "__main__":
    sys.exit(main())
