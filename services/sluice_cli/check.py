"""`sluice submit --check`: reads a Batch file and says what would become of it; sends and calls nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sluice_cli.batch_file import BadLine, read_lines
from sluice_cli.check_output import Checked, document, print_check
from sluice_cli.output import Refused, print_json
from sluice_cli.session import configuration, ledger, run, settings
from sluice_core.forecast.appraise import Appraiser
from sluice_core.forecast.conclude import Forecast, conclude, configured_budgets
from sluice_core.forecast.repository import ForecastRepository
from sluice_core.intake.authenticate import Caller
from sluice_core.pricing.book import PriceBook
from sluice_schemas.classes import JobClass

if TYPE_CHECKING:
    from sluice_core.config.model import Config
    from sluice_core.keys.model import KeyRecord
    from sluice_platform.settings import Settings

BAD_KEPT: Final = 1_000
"""Bad lines that are kept for --json; all are counted."""
_EVERY: Final = 1_000
"""Lines after which the bar moves."""


def check_file(path: Path, *, run_id: str, class_label: str, tenant: str, as_json: bool) -> None:
    """Check a file and print what was found; exits 1 where something would not go through."""
    given = settings()
    config = configuration(given)
    job_class = JobClass.from_label(class_label)
    checked, forecast = run(
        _forecast(
            given, config, path, run_id=run_id, job_class=job_class, tenant=tenant, quiet=as_json
        )
    )
    fine = not checked.bad_count and not checked.tally.refused and forecast.enough
    if as_json:
        print_json(document(checked, forecast, fine=fine))
    else:
        print_check(checked, forecast, fine=fine)
    if not fine:
        raise typer.Exit(1)


async def _forecast(
    given: "Settings",
    config: "Config",
    path: Path,
    *,
    run_id: str,
    job_class: JobClass,
    tenant: str,
    quiet: bool,
) -> tuple[Checked, Forecast]:
    now = datetime.now(UTC)
    caller = await _caller(given, config, tenant)

    def read(recent: Any) -> tuple[Checked, Appraiser]:
        appraiser = Appraiser(
            config, PriceBook(), caller=caller, job_class=job_class, recent=recent, at=now
        )
        return _read(path, run_id, appraiser, quiet=quiet), appraiser

    if given.database is None:
        checked, appraiser = read({})
        budgets, standing = configured_budgets(appraiser, list(checked.tally.by_scope)), None
    else:
        async with ledger(given) as pool:
            repository = ForecastRepository(pool)
            checked, appraiser = read(await repository.recent(caller.tenant))
            budgets = await repository.budgets(list(checked.tally.by_scope))
            standing = await repository.standing()
    forecast = conclude(
        checked.tally, appraiser, config, job_class, budgets=budgets, standing=standing
    )
    if given.key is None and config.intake.unsigned_tenant != tenant:
        note = (
            f"records without a signature do not count as {tenant}'s (intake.unsigned: "
            f"{config.intake.unsigned}): set SLUICE_KEY before you send them"
        )
        forecast = replace(forecast, notes=(*forecast.notes, note))
    return checked, forecast


async def _caller(given: "Settings", config: "Config", tenant: str) -> Caller:
    """Whose jobs they are: the tenant's, or within it those of the key in SLUICE_KEY."""
    from sluice_core.config.suggest import suggestion

    if tenant not in config.tenants:
        raise Refused(
            f'--tenant: no tenant "{tenant}" is configured{suggestion(tenant, config.tenants)}'
        )
    if given.key is None:
        return Caller(tenant=tenant, reply_topics=frozenset())
    key_id = given.key.get_secret_value().partition(":")[0]
    record = None if given.database is None else await _key(given, key_id)
    if record is None:
        return Caller(tenant=tenant, reply_topics=frozenset(), key_id=key_id)
    scope = record.scope
    if scope.tenant != tenant:
        raise Refused(
            f"the key {key_id} is one of tenant {scope.tenant}: write --tenant {scope.tenant}"
        )
    return Caller(
        tenant=tenant,
        reply_topics=frozenset(),
        team=scope.team,
        project=scope.project,
        app=scope.app,
        user=scope.user,
        key_id=key_id,
    )


async def _key(given: "Settings", key_id: str) -> "KeyRecord":
    from sluice_cli.keys import read_keys

    for key in await read_keys(given):
        if key.id == key_id:
            if key.revoked_at is not None:
                raise Refused(f"the key {key_id} of SLUICE_KEY was revoked")
            return key
    raise Refused(f"no key {key_id}, which SLUICE_KEY names: see `sluice keys list`")


def _read(path: Path, run_id: str, appraiser: Appraiser, *, quiet: bool) -> Checked:
    checked = Checked()
    with _progress(path, quiet=quiet) as advance, path.open("rb") as texts:
        for line in read_lines(_counted(texts, advance), run=run_id):
            if isinstance(line, BadLine):
                checked.bad_count += 1
                if len(checked.bad) < BAD_KEPT:
                    checked.bad.append(line.message)
            else:
                checked.tally.add(appraiser.appraise(line.number, line.job))
    return checked


def _counted(texts: IO[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    size = 0
    for number, text in enumerate(texts, 1):
        size += len(text)
        if number % _EVERY == 0:
            advance(size)
            size = 0
        yield text
    advance(size)


@contextmanager
def _progress(path: Path, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, by bytes; what it yields moves it on."""
    bar = Progress(
        TextColumn("checking {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
    task = bar.add_task(path.name, total=path.stat().st_size)
    with bar:
        yield lambda size: bar.advance(task, size)
