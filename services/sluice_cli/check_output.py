"""What `sluice submit --check` prints: tables for people, one document for programs."""

from dataclasses import dataclass, field
from typing import Any, Final

from sluice_cli.output import Column, print_table, say
from sluice_core.forecast.conclude import Forecast
from sluice_core.forecast.model import Lines, Load
from sluice_core.forecast.tally import Tally
from sluice_schemas.money import format_usd

_BAD_SHOWN: Final = 20
_ROWS_SHOWN: Final = 50


@dataclass(slots=True)
class Checked:
    """What was read: sums over the good lines, the first bad ones, and how many there were."""

    tally: Tally = field(default_factory=Tally)
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0


def print_check(checked: Checked, forecast: Forecast, *, fine: bool) -> None:
    """Print all that was found, the verdict last."""
    for message in checked.bad[:_BAD_SHOWN]:
        say(message)
    if checked.bad_count > _BAD_SHOWN:
        say(f"… and {checked.bad_count - _BAD_SHOWN:,} more bad lines")
    tally = checked.tally
    print_table("Jobs", _JOB_COLUMNS, [_job_row(key, load) for key, load in _models(tally)])
    if tally.refusals:
        rows = [
            (code, message, rule, lines.count, _lines(lines))
            for (code, message, rule), lines in tally.refusals.items()
        ]
        print_table("Would be refused", _columns("code", "why", "rule", ">jobs", "lines"), rows)
    if tally.endless:
        endless = [(why, lines.count, _lines(lines)) for why, lines in tally.endless.items()]
        print_table("Costs without a bound", _columns("why", ">jobs", "lines"), endless)
    if forecast.fits:
        _print_budgets(forecast)
    if forecast.constraints:
        limits = [(one.scope, one.limit, _span(one.seconds)) for one in forecast.constraints]
        print_table("Time at least", _columns("scope", "limit", ">time"), limits[:_ROWS_SHOWN])
    for note in forecast.notes:
        say(f"note: {note}")
    say(_summary(checked, forecast, fine=fine))


def _print_budgets(forecast: Forecast) -> None:
    titles = ("scope", "period", "kind", ">remaining, USD", ">expected", ">at most", "")
    rows = [
        (
            fit.budget.scope,
            fit.budget.period,
            "hard" if fit.budget.hard else "soft",
            *(
                _usd(nano)
                for nano in (fit.budget.remaining_nano, fit.expected_nano, fit.worst_nano)
            ),
            fit.verdict,
        )
        for fit in forecast.fits
    ]
    print_table("Budgets", _columns(*titles), rows[:_ROWS_SHOWN])


def _columns(*titles: str) -> list[Column]:
    """Columns by title; one that begins with `>` holds numbers."""
    return [Column(title=title.removeprefix(">"), right=title[:1] == ">") for title in titles]


_JOB_COLUMNS: Final = _columns(
    "model",
    "operation",
    ">jobs",
    ">input tokens",
    ">output tokens",
    ">expected, USD",
    ">at most, USD",
)


def _models(tally: Tally) -> list[tuple[tuple[str, str], Load]]:
    return sorted(tally.by_model.items(), key=lambda item: -item[1].jobs)


def _job_row(key: tuple[str, str], load: Load) -> tuple[object, ...]:
    money = (_usd(load.expected_nano), _usd(load.worst_nano))
    return (*key, load.jobs, load.input_tokens, load.output_tokens, *money)


def _lines(lines: Lines) -> str:
    more = ", …" if lines.count > len(lines.first) else ""
    return ", ".join(str(number) for number in lines.first) + more


def _usd(nano: int) -> str:
    return f"{nano / 1e9:,.6f}"


def _span(seconds: float) -> str:
    """A length of time in its two largest units."""
    if seconds < 1:
        return "under 1 s"
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    left = round(seconds)
    parts: list[str] = []
    for name, size in units:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def _summary(checked: Checked, forecast: Forecast, *, fine: bool) -> str:
    total, binds = checked.tally.total, forecast.binds
    parts = [
        f"{total.jobs:,} jobs, expected to cost {_usd(total.expected_nano)} USD, at most {_usd(total.worst_nano)}"
    ]
    if binds is None:
        parts.append("nothing limits how fast they go")
    else:
        parts.append(f"at least {_span(binds.seconds)}, by {binds.scope} ({binds.limit})")
    if checked.bad_count:
        parts.append(f"{checked.bad_count:,} bad lines")
    if checked.tally.refused:
        parts.append(f"{checked.tally.refused:,} jobs would be refused")
    if not forecast.enough:
        parts.append("a hard budget cannot take them")
    return f"{'fine' if fine else 'NOT fine'}: {'; '.join(parts)}"


def document(checked: Checked, forecast: Forecast, *, fine: bool) -> dict[str, Any]:
    """The same for programs; money as text, with nine decimals."""
    tally = checked.tally
    return {
        "ok": fine,
        **_sums(tally.total),
        "bad_lines": checked.bad,
        "bad_line_count": checked.bad_count,
        "models": [
            {"model": model, "operation": operation, **_sums(load)}
            for (model, operation), load in _models(tally)
        ],
        "refused_count": tally.refused,
        "refused": [
            {
                "code": code,
                "message": message,
                "rule": rule,
                "jobs": lines.count,
                "lines": lines.first,
            }
            for (code, message, rule), lines in tally.refusals.items()
        ],
        "unbounded": [
            {"reason": reason, "jobs": lines.count, "lines": lines.first}
            for reason, lines in tally.endless.items()
        ],
        "budgets": [
            {
                "scope": fit.budget.scope,
                "per": fit.budget.per,
                "period": fit.budget.period,
                "hard": fit.budget.hard,
                "jobs": fit.jobs,
                "remaining_usd": format_usd(fit.budget.remaining_nano),
                "expected_usd": format_usd(fit.expected_nano),
                "worst_usd": format_usd(fit.worst_nano),
                "enough": fit.enough,
                "verdict": fit.verdict,
            }
            for fit in forecast.fits
        ],
        "seconds": None if forecast.binds is None else round(forecast.binds.seconds, 3),
        "binds": forecast.binds,
        "constraints": forecast.constraints,
        "notes": forecast.notes,
    }


def _sums(load: Load) -> dict[str, Any]:
    return {
        "jobs": load.jobs,
        "input_tokens": load.input_tokens,
        "output_tokens": load.output_tokens,
        "expected_usd": format_usd(load.expected_nano),
        "worst_usd": format_usd(load.worst_nano),
    }
