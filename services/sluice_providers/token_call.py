"""Asks a token endpoint: one POST by the same transport as every provider call."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from sluice_core.jobs.fates import FailureKind
from sluice_providers.adapter import Outgoing
from sluice_providers.clock import Timeouts
from sluice_providers.credentials import NoSecretError, Token
from sluice_providers.faults import ExchangeError
from sluice_providers.http import Transport

WAIT_S: Final = 10.0
"""For the whole answer of a token endpoint."""
_ANSWER_BYTES: Final = 1024 * 1024
_LIFE_S: Final = 3600.0
"""Of a token whose endpoint does not say."""


class _Collected:
    """The answer's status and body."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:  # noqa: ARG002 - a sink's form
        """The status is there."""
        self.status = status

    def data(self, chunk: bytes) -> bool:
        """Take body bytes, up to a bound."""
        self.body += chunk
        return len(self.body) < _ANSWER_BYTES


async def ask_token(transport: Transport, url: str, form: Mapping[str, str]) -> Token:
    """Send a form to a token endpoint and read its `access_token` and `expires_in`. Raises NoSecretError."""
    now = asyncio.get_running_loop().time()
    timeouts = Timeouts(
        connect_s=WAIT_S,
        first_byte_s=WAIT_S,
        between_chunks_s=WAIT_S,
        total_at=now + WAIT_S,
        deadline_at=now + WAIT_S,
    )
    outgoing = Outgoing(
        url=url,
        headers=(
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
            ("user-agent", "sluicegate"),
        ),
        content=urlencode(form).encode(),
    )
    answer = _Collected()
    try:
        await transport.exchange(outgoing, timeouts, answer)
    except ExchangeError as exc:
        message = f"no token: {exc}"
        raise NoSecretError(FailureKind.CONNECT_FAILED, message) from exc
    return _token(answer.status, answer.body)


def _token(status: int, body: bytes) -> Token:
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    document = document if isinstance(document, dict) else {}
    secret = document.get("access_token")
    if status == 200 and isinstance(secret, str) and secret and secret.isprintable():
        return Token(secret=secret, life_s=_life_s(document.get("expires_in")))
    # What the endpoint says beside its code may quote what was sent.
    code = document.get("error")
    said = f" ({code})" if isinstance(code, str) and code.isidentifier() else ""
    refused = 400 <= status < 500 and status not in {408, 429}
    kind = FailureKind.KEY_REFUSED if refused else FailureKind.CONNECT_FAILED
    raise NoSecretError(kind, f"no token: its endpoint answered {status}{said}")


def _life_s(value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return _LIFE_S
    return seconds if 0 < seconds < 10**7 else _LIFE_S
