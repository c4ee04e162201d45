"""Reads the error documents of Google's APIs (google.rpc.Status in JSON)."""

from collections.abc import Mapping
from typing import Any

import orjson

_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def error_of(body: bytes) -> dict[str, Any] | None:
    """The error in a body; None where it holds none. A stream's may come as a list of one."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else None


def code_of(error: Mapping[str, Any]) -> str:
    """The reason that an error gives (`API_KEY_INVALID`), or else its status (`RESOURCE_EXHAUSTED`)."""
    for detail in _details(error, _ERROR_INFO):
        if isinstance(detail.get("reason"), str):
            return str(detail["reason"])
    return str(error.get("status") or error.get("code") or "")


def retry_delay_s(error: Mapping[str, Any]) -> float | None:
    """Seconds to wait, from the error's RetryInfo (`retryDelay: "30.5s"`)."""
    for detail in _details(error, _RETRY_INFO):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and delay.endswith("s"):
            try:
                seconds = float(delay[:-1])
            except ValueError:
                continue
            if 0 <= seconds < float("inf"):
                return seconds
    return None


def _details(error: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    details = error.get("details")
    given = details if isinstance(details, list) else []
    return [d for d in given if isinstance(d, dict) and d.get("@type") == kind]
