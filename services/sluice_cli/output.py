"""What commands print: tables for people, JSON for programs, one message for a user's mistake."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from sluice_platform.errors import StartupError
from sluice_schemas.times import format_time

if TYPE_CHECKING:
    from rich.table import Table

_WIDEST: Final = 100_000
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class Refused(StartupError):
    """A command cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table. `right`: numbers, aligned by their last digit. `whole`: ids, never broken."""

    title: str
    right: bool = False
    whole: bool = False


def group(text: str) -> typer.Typer:
    """A group of commands. Its help is plain text: laying it out richly would take longer than a
    command should."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def plain(value: Any) -> Any:
    """A value as JSON knows it: times as RFC 3339, money and ids as text, dataclasses as objects."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(item) for item in items]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        return getattr(value, "label", value.value)
    if isinstance(value, datetime):
        return format_time(value.timestamp())
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, UUID | Path | date):
        return str(value)
    return value


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=2) + "\n")


def print_table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; an empty one says so in a line.

    In a pipe it is as wide as it needs. In a terminal too narrow for it without breaking ids, every
    row is a block of lines, a column each.
    """
    if not rows:
        say(f"{title}: none")
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=column.right or column.whole,
        )
    for row in rows:
        table.add_row(*(escape(cell(value)) for value in row))
    if not lay_out(table):
        say(f"{title}\n" + "\n\n".join(block(columns, row) for row in rows))


def lay_out(table: "Table") -> bool:
    """Print a table of rich, whole lines where standard output is no terminal; false: too narrow."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    needed = Measurement.get(console, console.options.update_width(_WIDEST), table)
    if not console.is_terminal:
        console.width = max(needed.maximum, len(str(table.title or "")))
    elif needed.minimum > console.width:
        return False
    console.print(table)
    return True


def block(columns: Sequence[Column], row: Sequence[Any]) -> str:
    """A row as lines of `title  value`."""
    wide = max(len(column.title) for column in columns)
    pairs = zip(columns, row, strict=True)
    return "\n".join(f"  {column.title:<{wide}}  {cell(value)}" for column, value in pairs)


def cell(value: Any) -> str:
    """A value as people read it in a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and not isinstance(value, Enum):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell(item) for item in value) or "–"
    return str(plain(value))


def say(message: str) -> None:
    """Print a line for people."""
    sys.stdout.write(message + "\n")


def warn(message: str) -> None:
    """Print a line on standard error, out of the way of what programs read."""
    sys.stderr.write(message + "\n")
