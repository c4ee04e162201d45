"""What can go wrong with the embedded servers; every message says what to do.

DevstackError
├── DataDirectoryInUse    another live stack holds the directory
├── PortBusy              a port that was asked for is taken
├── ServerFailed          a server ended or did not answer in time; carries the tail of its log
├── BinariesMissing       a server's programs are not on this machine
├── JarsUnavailable       the broker's jars cannot be fetched
└── JarMismatch           a jar is not the pinned one
"""

from pathlib import Path

from sluice_platform.errors import StartupError


class DevstackError(StartupError):
    """The embedded stack cannot do what was asked."""


class DataDirectoryInUse(DevstackError):
    """Another live stack holds the data directory."""


class PortBusy(DevstackError):
    """A port that was asked for by number is taken."""


class BinariesMissing(DevstackError):
    """A server's programs, or the account to run them, are not on this machine."""


class JarsUnavailable(DevstackError):
    """The broker's jars are not in the cache and cannot be fetched."""


class JarMismatch(DevstackError):
    """A jar's bytes are not those that are pinned."""


class ServerFailed(DevstackError):
    """A server ended, or did not answer before its deadline."""

    def __init__(self, what: str, log: Path) -> None:
        super().__init__(f"{what}. The end of {log}:\n{log_tail(log)}")
        self.log = log


def log_tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, for an error message; a missing or empty log is said."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return "(no log was written)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
