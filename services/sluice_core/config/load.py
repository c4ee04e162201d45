"""Reading `sluice.yaml`: one pass, every problem in one list, each with its line."""

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from sluice_core.config.base import Section
from sluice_core.config.document import Document, Path, Problem, read_document
from sluice_core.config.model import Config
from sluice_core.config.provider import ProviderConfig
from sluice_core.config.references import check_references
from sluice_core.config.salvage import salvage
from sluice_core.config.suggest import suggestion
from sluice_platform.errors import StartupError

DEFAULT_SOURCE: Final = "sluice.yaml"


class ConfigError(StartupError):
    """A configuration cannot be used; `problems` are lines of `file:line: path: what to write`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


WITHHELD: Final = "withheld"


def spelled_out(secret: SecretStr) -> bool:
    """Whether a part of a secret stood in the text itself; AWS's keys are several in one, with colons between."""
    return set(secret.get_secret_value().split(":")) != {WITHHELD}


class Withheld(Mapping[str, str]):
    """Stands for an environment in which every variable is set: only workers read providers' keys."""

    def __init__(self) -> None:
        self._asked: dict[str, None] = {}

    @property
    def asked(self) -> tuple[str, ...]:
        """The variables that a configuration asked for, in its order."""
        return tuple(self._asked)

    def __getitem__(self, name: str) -> str:
        self._asked[name] = None
        return WITHHELD

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class OwnPool(Mapping[str, str]):
    """An environment that a worker of one pool reads: variables that are not set count as withheld."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        return self._environ.get(name, WITHHELD)

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def load_for_pool(path: pathlib.Path | str, pool: str, environ: Mapping[str, str]) -> Config:
    """Read a file for a worker of `pool`: it needs its own accounts' keys, and keeps no others.

    Raises ConfigError, also where a key of this pool is not in `environ`.
    """
    return parse_for_pool(_read(path), pool, environ, source=str(path))


def parse_for_pool(
    text: str, pool: str, environ: Mapping[str, str], *, source: str = DEFAULT_SOURCE
) -> Config:
    """Read a text as `load_for_pool` reads a file."""
    config = parse_config(text, OwnPool(environ), source=source)
    own = [account for account in config.providers.values() if account.pool == pool]
    if any(WITHHELD in secret.get_secret_value() for a in own for secret in a.secrets):
        return parse_config(text, environ, source=source)  # raises, with the lines
    providers, problems = {}, []
    for name, account in config.providers.items():
        providers[name] = account if account.pool == pool else account.without_secrets()
        service = account.service_account
        if account.pool != pool:
            continue
        field = "api_key_file"
        try:
            if account.api_key_file is not None:
                providers[name] = _with_file(account, account.api_key_file)
            elif service is not None and service.key_file is not None:
                field = "service_account.key_file"
                text = pathlib.Path(service.key_file).read_text(encoding="utf-8")
                update = {"service_account": service.with_key(text)}
                providers[name] = account.model_copy(update=update)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            problems.append(f"{source}: providers.{name}.{field}: {reason}")
    if problems:
        raise ConfigError(problems)
    return config.model_copy(update={"providers": providers})


def _with_file(account: ProviderConfig, path: str) -> ProviderConfig:
    """The account with the keys of its file, one a line. Raises OSError or ValueError."""
    return account.model_copy(update={"api_keys": tuple(map(SecretStr, read_keys(path)))})


def read_keys(path: str) -> tuple[str, ...]:
    """The keys of a file, one a line. Raises OSError, or ValueError for a file that holds none that can be sent."""
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    keys = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not keys:
        raise ValueError("the file holds no key")
    if not all(key.isprintable() for key in keys):
        raise ValueError("the file holds a control character")
    return keys


def load_config(path: pathlib.Path | str, environ: Mapping[str, str] | None = None) -> Config:
    """Read a file; `environ` holds what `${NAME}` stands for (default: the process's).

    Raises ConfigError with every problem found.
    """
    return parse_config(_read(path), os.environ if environ is None else environ, source=str(path))


def _read(path: pathlib.Path | str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}"]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError([f"{path}: is not UTF-8"]) from exc


def parse_config(text: str, environ: Mapping[str, str], *, source: str = DEFAULT_SOURCE) -> Config:
    """Read a text; raises ConfigError with every problem found. An empty text is all defaults."""
    document = read_document(text, environ)
    problems = list(document.problems)
    config = None
    if document.data is not None and not isinstance(document.data, dict):
        problems.append(Problem(path=(), message="a configuration is a mapping of sections"))
    elif not problems or document.data is not None:
        data = _without_nulls(document.data or {})
        try:
            config = Config.model_validate(data)
            problems += check_references(config)
        except ValidationError as exc:
            problems += _described(exc)
            rest, lost = salvage(data, exc.errors(include_url=False))
            problems += check_references(rest, lost) if rest is not None else []
    if problems or config is None:
        raise ConfigError(_lines(problems, document, source))
    return config


def _without_nulls(data: dict[str, Any]) -> dict[str, Any]:
    """A section written as `tenants:` with nothing under it is the section's default."""
    return {name: value for name, value in data.items() if value is not None}


def _lines(problems: list[Problem], document: Document, source: str) -> list[str]:
    written = [(document.as_written(problem.path), problem.message) for problem in problems]
    placed = sorted({(document.line_of(path), _dotted(path), text): None for path, text in written})
    return [
        f"{source}:{line}: {path}: {message}" if path else f"{source}:{line}: {message}"
        for line, path, message in placed
    ]


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part:
            text += f".{part}" if text else part
    return text


def _described(invalid: ValidationError) -> list[Problem]:
    errors = invalid.errors(include_url=False)
    paths = [error["loc"] for error in errors]

    def follows(error: ErrorDetails) -> bool:
        # A list whose items are wrong is counted as too short as well.
        loc = error["loc"]
        inside = any(path[: len(loc)] == loc and len(path) > len(loc) for path in paths)
        return error["type"] == "too_short" and inside

    return [_problem(error) for error in errors if not follows(error)]


def _problem(error: ErrorDetails) -> Problem:
    path: Path = tuple(error["loc"])
    if path and path[-1] == "[key]":
        return Problem(path=path[:-1], message=f"not a usable name: {_reason(error)}")
    if error["type"] == "extra_forbidden":
        known = _settings_at(path[:-1])
        return Problem(path=path, message=f"no such setting{suggestion(str(path[-1]), known)}")
    if error["type"] == "missing":
        return Problem(path=path, message="is missing")
    return Problem(path=path, message=_reason(error))


def _reason(error: ErrorDetails) -> str:
    reason = error["msg"].removeprefix("Value error, ")
    return reason[:1].lower() + reason[1:]


def _settings_at(path: Path) -> list[str]:
    """The names of the settings that the section at a path has."""
    annotation: Any = Config
    for part in path:
        annotation = _inside(annotation, part)
    if not _is_section(annotation):
        return []
    return [info.alias or name for name, info in annotation.model_fields.items()]


def _inside(annotation: Any, part: str | int) -> Any:
    """The type of what stands under a name or an index."""
    if _is_section(annotation):
        for name, info in annotation.model_fields.items():
            if part in {name, info.alias}:
                return _section_of(info.annotation)
        return None
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return _section_of(arguments[1])
    return _section_of(arguments[0]) if arguments else None


def _section_of(annotation: Any) -> Any:
    """The section in an optional or annotated type; other types as they are."""
    if get_origin(annotation) in {dict, tuple} or _is_section(annotation):
        return annotation
    for argument in get_args(annotation):
        if _is_section(argument) or get_origin(argument) in {dict, tuple}:
            return argument
    return annotation


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
