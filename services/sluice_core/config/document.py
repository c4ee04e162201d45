"""A YAML text as plain data that remembers on which line each value stands."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

Path = tuple[str | int, ...]

SECRET_FIELDS: Final = frozenset({"api_key", "api_keys", "entra", "service_account"})
"""Of an account, and whatever stands below them."""

MOST_VALUES: Final = 100_000
"""That a configuration may hold, each reference (`*name`) counted as all that it refers to."""
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a configuration: where, and what to write instead."""

    path: Path
    message: str


@dataclass(slots=True, kw_only=True)
class Document:
    """The data of a text, the line of each path (from 1), and what is wrong with the text."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """The line of a path, or of the nearest place above it that was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1

    def as_written(self, path: Path) -> Path:
        """The path without the index of a list that was written as its only item."""
        written: Path = ()
        for part in path:
            alone = part == 0 and (*written, part) not in self.lines and written in self.lines
            written = written if alone else (*written, part)
        return written


def is_secret(path: Path) -> bool:
    """Whether a field is a secret, or goes with one, and may name an environment variable."""
    return len(path) >= 3 and path[0] == "providers" and path[2] in SECRET_FIELDS


def read_document(text: str, environ: Mapping[str, str]) -> Document:
    """Read a text; every problem that can be found is in the document, none is raised."""
    document = Document()
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            document.data = _Reader(loader, environ, document).value(node, ())
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        document.lines[("",)] = mark.line + 1 if mark is not None else 1
        document.problems.append(Problem(path=("",), message=f"not YAML: {exc.problem}"))
    except _TooMuchError as exc:
        document.data = None
        document.problems.append(
            Problem(path=exc.path, message=f"is more than {MOST_VALUES:,} values")
        )
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        document.problems.append(Problem(path=(), message=f"not YAML: {exc}"))
    return document


class _TooMuchError(Exception):
    """There are more values than any configuration has; `path` is the first beyond."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path


class _Reader:
    """Walks the nodes of one text."""

    def __init__(
        self, loader: yaml.SafeLoader, environ: Mapping[str, str], document: Document
    ) -> None:
        self._loader = loader
        self._environ = environ
        self._document = document
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        """The data of a node; its line is noted first, so that a fault can name it."""
        self._count += 1
        if self._count > MOST_VALUES:
            raise _TooMuchError(path[:1])
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._fault(path, "refers to itself")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.remove(id(node))

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        try:
            data = self._loader.construct_object(node)
        except ValueError as exc:
            self._fault(path, f"not a value: {exc}")
            return None
        return self._expanded(data, path) if isinstance(data, str) else data

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(path, "a name must be a plain text")
                continue
            # As written: a tenant called 007 stays 007.
            key = str(key_node.value)
            here = (*path, key)
            if key in data:
                line = key_node.start_mark.line + 1
                first = self._document.lines[here]
                self._document.lines[(*here, "")] = line
                self._fault((*here, ""), f"written twice; the first is on line {first}")
                continue
            self._document.lines[here] = key_node.start_mark.line + 1
            data[key] = self.value(value_node, here)
        return data

    def _expanded(self, text: str, path: Path) -> str:
        if "${" not in text:
            return text
        if not is_secret(path):
            self._fault(
                path,
                "${…} is read only in secrets (providers.NAME.api_key and the like); write it out",
            )
            return text

        def variable(match: re.Match[str]) -> str:
            value = self._environ.get(match[1])
            if not value:
                self._fault(path, f"the environment variable {match[1]} is not set")
            return value or "unset"

        return _VARIABLE.sub(variable, text)

    def _fault(self, path: Path, message: str) -> None:
        self._document.problems.append(Problem(path=path, message=message))
