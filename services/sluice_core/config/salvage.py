"""What can still be judged of a configuration with wrong values: the rest of it, made valid."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sluice_core.config.document import Path
from sluice_core.config.model import Config

_STAND_IN: Final = {"kind": "openai", "base_url": "http://stand-in"}
"""A provider that cannot be read keeps its name, so that models may go on naming it."""


def salvage(data: dict[str, Any], errors: Iterable[ErrorDetails]) -> tuple[Config | None, set[str]]:
    """The configuration without what the errors name, and the sections that were given up whole.

    A setting that does not exist is left out, a model too; other wrong values cost their section.
    None where the rest is no configuration either.
    """
    rest = deepcopy(data)
    lost: set[str] = set()
    for error in errors:
        path: Path = tuple(error["loc"])
        if not path:
            return None, lost
        if error["type"] == "extra_forbidden":
            _remove(rest, path)
        elif not _set_aside(rest, path):
            section = str(path[0])
            rest.pop(section, None)
            lost.add(section)
    try:
        return Config.model_validate(rest), lost
    except ValidationError:
        return None, lost


def _remove(rest: dict[str, Any], path: Path) -> None:
    holder: Any = rest
    for part in path[:-1]:
        inside = isinstance(holder, dict) and part in holder
        if not inside and not (isinstance(holder, list) and isinstance(part, int)):
            return  # an earlier error took it away already
        holder = holder[part]
    if isinstance(holder, dict):
        holder.pop(path[-1], None)


def _set_aside(rest: dict[str, Any], path: Path) -> bool:
    """Put a provider's stand-in, or drop a model; False where the error is of neither."""
    section = rest.get(str(path[0]))
    if len(path) < 2 or path[-1] == "[key]" or not isinstance(section, dict):
        return False
    if path[0] == "providers":
        section[path[1]] = dict(_STAND_IN)
        return True
    if path[0] == "models":
        section.pop(path[1], None)
        return True
    return False
