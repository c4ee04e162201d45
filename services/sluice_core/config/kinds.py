"""What one kind of provider alone is told (`options`), where it is then reached, and Google's service accounts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field, SecretStr, model_validator

from sluice_core.config.base import Section
from sluice_core.config.document import Path, Problem
from sluice_core.config.suggest import suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    known: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()


_OPTIONS: Final[Mapping[str, _Options]] = {
    "azure": _Options(known=("api_version", "auth")),
    "bedrock": _Options(known=("region",), needed=("region",)),
    "cohere": _Options(known=("input_type",)),
    "ollama": _Options(known=("num_ctx",), numbers=("num_ctx",)),
    "vertex": _Options(known=("project", "region"), needed=("project", "region")),
}
"""The options of each kind that has any."""


def as_texts(value: Any) -> Any:
    """Numbers among options as texts, as YAML would read them with quotes."""
    if not isinstance(value, dict):
        return value
    return {
        name: str(item) if isinstance(item, int) and not isinstance(item, bool) else item
        for name, item in value.items()
    }


def check_options(kind: str, options: Mapping[str, str], path: Path) -> Iterator[Problem]:
    """Everything wrong with the options of an account at `path`."""
    mine = _OPTIONS.get(kind, _Options())
    for name in options:
        if name not in mine.known:
            message = f"no such option of {kind}{suggestion(name, mine.known)}"
            yield Problem(path=(*path, "options", name), message=message)
    for name in mine.needed:
        if not options.get(name):
            yield Problem(path=(*path, "options", name), message="is missing")
    for name in mine.numbers:
        if name in options and not options[name].isdecimal():
            yield Problem(path=(*path, "options", name), message="must be a whole number")


def check_keys(kind: str, keys: Iterable[str], path: Path) -> Iterator[Problem]:
    """Everything wrong with the form of an account's plain keys."""
    if kind == "bedrock" and any(key.count(":") > 2 or not all(key.split(":")) for key in keys):
        message = "is ACCESS:SECRET, ACCESS:SECRET:SESSION or a bearer token; a part of it is empty"
        yield Problem(path=(*path, "api_key"), message=message)


def regional_url(kind: str, options: Mapping[str, str]) -> str:
    """Where a kind is reached that has an address in each region; empty for the others."""
    region = options.get("region", "")
    if kind == "bedrock" and region:
        return f"https://bedrock-runtime.{region}.amazonaws.com"
    if kind == "vertex" and region:
        place = "" if region == "global" else f"{region}-"
        return f"https://{place}aiplatform.googleapis.com"
    return ""


class ServiceAccountConfig(Section):
    """A service account of Google's by the JSON document of its key, whose tokens an account goes with.

    The key stands in `key` (`${ENV}`) or in the file `key_file`, which workers of the account's pool read.
    """

    key: SecretStr | None = None
    key_file: str | None = Field(default=None, min_length=1)
    scope: str = Field(default="https://www.googleapis.com/auth/cloud-platform", min_length=1)
    token_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")

    @model_validator(mode="after")
    def _one_key(self) -> "ServiceAccountConfig":
        if (self.key is None) == (self.key_file is None):
            raise ValueError("has either key or key_file")
        return self

    def with_key(self, text: str) -> "ServiceAccountConfig":
        """The same with the key that was read from its file."""
        return self.model_copy(update={"key": SecretStr(text)})
