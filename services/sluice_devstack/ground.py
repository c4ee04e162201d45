"""What a server stands on: a free port, and a data directory that nobody else uses."""

import fcntl
import os
import random
import socket
import time
from pathlib import Path

import psutil

from sluice_devstack.errors import DataDirectoryInUse, PortBusy

LOOPBACK = "127.0.0.1"

# Below the range from which operating systems take ports for outgoing connections: a server that
# is killed and restarted finds its port still free.
_PORTS = range(18_000, 32_000)
_HANDOVER_S = 20.0


def free_port() -> int:
    """A TCP port on the loopback interface on which nobody listens."""
    for port in random.sample(_PORTS, 200):
        if _is_free(port):
            return port
    raise PortBusy(f"no free TCP port found between {_PORTS.start} and {_PORTS.stop - 1}")


def require_port(port: int, what: str) -> None:
    """Raises PortBusy if somebody listens on `port` of the loopback interface."""
    if not _is_free(port):
        raise PortBusy(
            f"{what} cannot listen on {LOOPBACK}:{port}: the port is taken. "
            "Stop what listens there, or choose another port (none: a free one is found)."
        )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class DirectoryLock:
    """An exclusive lock on a data directory that lives as long as any process holding it.

    The server inherits the open file, so the lock is free exactly when the server and all its
    children are gone, even after SIGKILL of everybody else.
    """

    def __init__(self, directory: Path) -> None:
        """Takes the lock; raises DataDirectoryInUse if a live stack has it."""
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / "lock").open("a+b")
        try:
            self._take(directory)
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(0)
        self._file.write(b"%d" % os.getpid())
        self._file.flush()

    def _take(self, directory: Path) -> None:
        deadline = time.monotonic() + _HANDOVER_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = self._owner()
                # A killed owner's server is about to follow it: wait for that.
                if _lives(owner) or time.monotonic() >= deadline:
                    raise DataDirectoryInUse(
                        f"{directory} is in use by a live stack"
                        + (f" (process {owner})" if owner else "")
                        + ". Stop that one, or give this one another data directory."
                    ) from None
                time.sleep(0.05)
            else:
                return

    def _owner(self) -> int | None:
        self._file.seek(0)
        text = self._file.read()
        return int(text) if text.isdigit() else None

    def fileno(self) -> int:
        """The descriptor that the server inherits."""
        return self._file.fileno()

    def release(self) -> None:
        """Closes this process's copy; the server's own copy goes on holding the lock."""
        self._file.close()


def _lives(pid: int | None) -> bool:
    """Whether the process runs; one that is dead but not yet reaped does not."""
    if pid is None:
        return False
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
