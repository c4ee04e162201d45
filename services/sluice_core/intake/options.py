"""Checking a job's options: types and bounds by hand, because every record passes here.

`sluice_schemas.jobs.Options` is the published form of the same rules; a test holds both together.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sluice_core.intake.refusal import invalid
from sluice_schemas.jobs import (
    MAX_ATTEMPTS,
    MAX_TAG_NAME_BYTES,
    MAX_TAG_VALUE_BYTES,
    MAX_TAGS,
    bounded,
)
from sluice_schemas.money import MAX_NANO, parse_usd
from sluice_schemas.times import parse_time

_MAX_WARNINGS: Final = 16
_MAX_WARNING_NAME: Final = 64
_FAR: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("must be a string")
    return bounded(value)


def _seconds(value: Any) -> float:
    if type(value) is not int and type(value) is not float:
        raise ValueError("must be a number of seconds")
    if value < 0:
        raise ValueError("must not be negative")
    return min(float(value), _FAR)


def _deadline(value: Any) -> float:
    if type(value) is not str:
        raise ValueError("must be an RFC 3339 time with an offset")
    return parse_time(value)


def _attempts(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_ATTEMPTS:
        raise ValueError(f"must be a whole number from 1 to {MAX_ATTEMPTS}")
    return value


def _cost(value: Any) -> int:
    if type(value) is not str:
        raise ValueError('must be a decimal string such as "0.05"')
    # A cap beyond what a column holds caps nothing, as the largest one that fits does.
    return min(parse_usd(value), MAX_NANO)


def _tags(value: Any) -> dict[str, str]:
    if type(value) is not dict or len(value) > MAX_TAGS:
        raise ValueError(f"must be an object of at most {MAX_TAGS} pairs")
    for name, text in value.items():
        if type(text) is not str:
            raise ValueError("must have strings as values")
        bounded(name, MAX_TAG_NAME_BYTES)
        if text:
            bounded(text, MAX_TAG_VALUE_BYTES)
    return value


def _choice(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if type(value) is not str or value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return check


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "idempotency_key": _text,
    "on_duplicate": _choice("resend", "rerun"),
    "run_id": _text,
    "timeout_s": _seconds,
    "deadline": _deadline,
    "max_wait_s": _seconds,
    "project": _text,
    "team": _text,
    "app": _text,
    "user": _text,
    "tags": _tags,
    "max_cost_usd": _cost,
    "max_attempts": _attempts,
    "on_unknown": _choice("stop", "retry"),
    "on_budget": _choice("reject", "wait"),
    "cache": _choice("off", "exact", "semantic"),
    "affinity": _text,
    "results": _choice("both", "reply"),
}


def check_options(given: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The options that are set, each checked, and warnings that name those that have no effect.

    `deadline` becomes epoch seconds, `max_cost_usd` nano-dollars; null counts as not set. Raises
    Refused (`invalid_record`, `param` = `options.NAME`).
    """
    if given is None:
        return {}, ()
    if type(given) is not dict:
        raise invalid("options must be an object", "options")
    checked: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in given.items():
        check = _CHECKS.get(name)
        if check is None:
            unknown.append(name)
        elif value is not None:
            try:
                checked[name] = check(value)
            except ValueError as exc:
                raise invalid(f"options.{name} {exc}", f"options.{name}") from None
    warnings = [_warning(name) for name in unknown[:_MAX_WARNINGS]]
    return checked, tuple(warnings)


def _warning(name: str) -> str:
    return f"unknown option: {name[:_MAX_WARNING_NAME]}".replace("\x00", "")
