"""How an exchange ends early: foreign errors are mapped to `ExchangeError` once, here."""

import ssl
import traceback
from typing import Final

import aiohttp

from sluice_core.jobs.fates import FailureKind
from sluice_providers.clock import Clock

_BROKEN: Final[dict[FailureKind, str]] = {
    FailureKind.DNS_FAILED: "the name of the provider's host cannot be resolved",
    FailureKind.TLS_FAILED: "no secure connection to the provider's host can be made",
    FailureKind.CONNECT_FAILED: "the provider's host cannot be connected to",
    FailureKind.NOT_SENT: "the connection ended before the whole request was sent",
    FailureKind.RESET_NO_STATUS: "the connection ended before an answer",
    FailureKind.CUT_AFTER_STATUS: "the answer's body was cut short",
}
"""What is said of an exchange whose connection failed."""


class ExchangeError(Exception):
    """The exchange ended early; `kind` says how, `sent` whether the whole request had left."""

    def __init__(self, kind: FailureKind, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent


def unprepared() -> ExchangeError:
    """What an exchange says that our own code ended before the request had left."""
    message = "the gateway failed before the request was sent"
    return ExchangeError(FailureKind.UNPREPARED, message, sent=False)


def place(exc: BaseException) -> str:
    """Where a defect is: class, file and line. Its message may hold a prompt or a key, so it is left out."""
    frames = traceback.extract_tb(exc.__traceback__)
    at = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return type(exc).__name__ + at


def timed_out(clock: Clock) -> ExchangeError:
    """What an exchange that ran out of time says."""
    if clock.deadline_hit:
        kind, message = FailureKind.DEADLINE, "the deadline passed during the call"
    elif not clock.begun:
        kind, message = FailureKind.CONNECT_FAILED, "no connection within the connect timeout"
    elif clock.answered:
        kind, message = FailureKind.CUT_AFTER_STATUS, "the answer paused for longer than allowed"
    elif clock.sent:
        kind, message = FailureKind.TIMEOUT_NO_STATUS, "no status within the timeout"
    else:
        kind, message = FailureKind.NOT_SENT, "the request could not be sent in time"
    return ExchangeError(kind, message, sent=clock.sent or clock.answered)


def broken(exc: Exception, clock: Clock) -> ExchangeError:
    """What an exchange whose connection failed says."""
    if clock.answered:
        kind = FailureKind.CUT_AFTER_STATUS
    elif isinstance(exc, aiohttp.ClientConnectorDNSError):
        kind = FailureKind.DNS_FAILED
    elif isinstance(exc, aiohttp.ClientSSLError | ssl.SSLError):
        kind = FailureKind.TLS_FAILED
    elif isinstance(exc, aiohttp.ClientConnectorError):
        kind = FailureKind.CONNECT_FAILED
    else:
        kind = FailureKind.RESET_NO_STATUS if clock.sent else FailureKind.NOT_SENT
    # What a library says of itself (classes, addresses, system calls) is no message for a caller.
    return ExchangeError(kind, _BROKEN[kind], sent=clock.sent or clock.answered)
