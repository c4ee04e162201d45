"""`sluice runs list | show | cancel | retry`: jobs by the run that groups them."""

from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.jobs import Desk, at_desk
from sluice_cli.output import Column, Json, Refused, cell, group, print_json, print_table, say, warn

if TYPE_CHECKING:
    from sluice_core.operations.model import RunSummary

app = group("Runs: any grouping of jobs, by options.run_id.")

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's name (options.run_id).")]
Tenant = Annotated[
    str | None, typer.Option(help="Whose run it is, where two tenants use the name.")
]

_COUNTS = (
    "jobs",
    "waiting",
    "running",
    "succeeded",
    "failed",
    "rejected",
    "expired",
    "cancelled",
    "unknown",
)


@app.command("list")
def list_runs(
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    json_output: Json = False,
) -> None:
    """List the newest runs: jobs by state, and cost.

    Example: `sluice runs list --tenant acme`
    """
    found = at_desk(lambda d: d.operations.runs(tenant, None, limit))
    if json_output:
        print_json(found)
        return
    columns = [
        *(
            Column(title=title, whole=title == "run")
            for title in ("tenant", "run", "created", "completed")
        ),
        *(Column(title=title, right=True) for title in (*_COUNTS, "cost, USD")),
    ]
    rows = [
        (
            *(run.tenant, run.run_id, run.created_at, run.completed_at),
            *(getattr(run, name) for name in _COUNTS),
            run.cost_usd,
        )
        for run in found
    ]
    print_table("Runs", columns, rows)


@app.command()
def show(run_id: RunId, tenant: Tenant = None, json_output: Json = False) -> None:
    """Show one run.

    Example: `sluice runs show nightly`
    """
    found = at_desk(lambda d: known_run(d, run_id, tenant))
    if json_output:
        print_json(found)
        return
    rows = [
        *(("tenant", found.tenant), ("created", cell(found.created_at))),
        ("completed", cell(found.completed_at)),
        *((name, cell(getattr(found, name))) for name in _COUNTS),
        ("cost, USD", cell(found.cost_usd)),
    ]
    print_table(f"Run {run_id}", [Column(title=""), Column(title="", right=True)], rows)


async def known_run(opened: Desk, run_id: str, tenant: str | None) -> "RunSummary":
    """The run of this name; Refused where there is none, or several tenants have one."""
    found = await opened.operations.runs(tenant, run_id, 10)
    if not found:
        raise Refused(f"no run {run_id!r}: see `sluice runs list`")
    if len(found) > 1:
        owners = ", ".join(run.tenant for run in found)
        raise Refused(f"several tenants have a run {run_id!r}: name one with --tenant ({owners})")
    return found[0]


@app.command()
def cancel(run_id: RunId, tenant: Tenant = None, json_output: Json = False) -> None:
    """Cancel every job of a run that has not ended, and those that still come.

    Example: `sluice runs cancel nightly`
    """

    async def work(opened: Desk) -> int:
        run = await known_run(opened, run_id, tenant)
        await opened.jobs.cancel([(run.tenant, None, run.run_id)])
        await opened.operations.note(opened.actor, "run.cancel", f"{run.tenant}/{run.run_id}")
        return run.waiting + run.running

    open_jobs = at_desk(work)
    if json_output:
        print_json({"run_id": run_id, "cancelling": open_jobs})
    else:
        say(f"{run_id} is being cancelled: {open_jobs} jobs had not ended")


@app.command()
def retry(run_id: RunId, tenant: Tenant = None, json_output: Json = False) -> None:
    """Execute every failed, expired and cancelled job of a run again; lifts the run's cancel.

    Example: `sluice runs retry nightly`
    """
    done, refused = at_desk(lambda d: _retry(d, run_id, tenant, quiet=json_output))
    if json_output:
        print_json({"run_id": run_id, "retried": done, "refused": refused})
        return
    for reason in refused[:20]:
        warn(reason)
    say(f"{done} jobs wait to be executed again; {len(refused)} could not be")


async def _retry(
    opened: Desk, run_id: str, tenant: str | None, *, quiet: bool
) -> tuple[int, list[str]]:
    from rich.progress import Progress

    from sluice_core.jobs.model import State
    from sluice_core.operations.service import NotRetryable

    run = await known_run(opened, run_id, tenant)
    ended = (State.FAILED, State.EXPIRED, State.CANCELLED)
    jobs = await opened.operations.retryable(run.tenant, run.run_id, ended)
    await opened.operations.reopen_run(run.tenant, run.run_id, opened.actor)
    done, refused = 0, []
    with Progress(transient=True, disable=quiet) as progress:
        for job_id in progress.track(jobs, description="retrying"):
            try:
                await opened.retries.retry(job_id)
                done += 1
            except NotRetryable as exc:
                refused.append(str(exc))
    return done, refused
