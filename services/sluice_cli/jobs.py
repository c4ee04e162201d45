"""`sluice jobs get | list | cancel | retry | result`: single jobs in the ledger."""

import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from sluice_cli.output import Column, Json, Refused, cell, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.jobs.repository import JobRepository
    from sluice_core.operations.model import JobDetail, JobFilter, JobSummary
    from sluice_core.operations.repository import OperatorRepository
    from sluice_core.operations.service import RetryService
    from sluice_platform.settings import Settings

app = group("Look jobs up, cancel them, execute them again.")

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as its result carries it.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What an operator works with: look-ups, the jobs' own statements, retries."""

    operations: "OperatorRepository"
    jobs: "JobRepository"
    retries: "RetryService"
    actor: str


@asynccontextmanager
async def desk(given: "Settings") -> AsyncIterator[Desk]:
    """Open the ledger for an operator; what is written belongs to no process."""
    from sluice_cli.session import actor, ledger
    from sluice_core.jobs.repository import JobRepository
    from sluice_core.operations.repository import OperatorRepository
    from sluice_core.operations.service import NOBODY, RetryService

    async with ledger(given) as pool:
        operations = OperatorRepository(pool)
        jobs = JobRepository(pool, NOBODY)
        who = actor()
        yield Desk(
            operations=operations,
            jobs=jobs,
            retries=RetryService(operations, jobs, who),
            actor=who,
        )


def at_desk(work: Callable[[Desk], Coroutine[Any, Any, Any]]) -> Any:
    """Run `work` on an open desk."""
    from sluice_cli.session import run, settings

    async def opened() -> Any:
        async with desk(settings()) as opened_desk:
            return await work(opened_desk)

    return run(opened())


@app.command()
def get(job_id: JobId, json_output: Json = False) -> None:
    """Show a job: its state, attribution, and every provider call.

    Example: `sluice jobs get 3f2b8a52-6a77-5d0e-9a68-1f0d6f3f9c11`
    """
    found = at_desk(lambda d: known_job(d, job_id))
    if json_output:
        print_json(_document(found))
    else:
        _show(found)


async def known_job(opened: Desk, text: str) -> "JobDetail":
    """The job of this id; Refused where the ledger has none."""
    from sluice_cli.session import uuid_of

    found = await opened.operations.job(uuid_of(text))
    if found is None:
        raise Refused(
            f"the ledger has no job {text}: never admitted, or older than retention keeps"
        )
    return found


def _document(found: "JobDetail") -> dict[str, Any]:
    summary = found.summary
    return {
        **_line(summary),
        "deadline": summary.deadline,
        # The class stands above by its name.
        "facts": {name: value for name, value in found.facts.items() if name != "job_class"},
        "request_bytes": found.request_bytes,
        "result_bytes": found.result_bytes,
        "reply_given_up_at": found.reply_given_up_at,
        "deaths": found.deaths,
        "cancel_requested": found.cancel,
        "owner": found.owner,
        "attempts_made": found.attempts,
    }


def _line(summary: "JobSummary") -> dict[str, Any]:
    return {
        "id": summary.id,
        "state": summary.state.label,
        "class": summary.job_class.label,
        "tenant": summary.tenant,
        "project": summary.project,
        "model": summary.model,
        "run_id": summary.run_id,
        "execution": summary.execution,
        "attempts": summary.attempts,
        "admitted_at": summary.admitted_at,
        "finished_at": summary.finished_at,
    }


def _show(found: "JobDetail") -> None:
    document = _document(found)
    attempts = document.pop("attempts_made")
    facts = document.pop("facts")
    document |= {name: value for name, value in facts.items() if name not in document}
    rows = [(name, cell(value)) for name, value in document.items()]
    print_table(f"Job {found.summary.id}", [Column(title=""), Column(title="")], rows)
    titles = (
        "attempt",
        "account",
        "model",
        "chosen by",
        "outcome",
        "status",
        "code",
        "started",
        "ended",
        "worker",
    )
    print_table(
        "Attempts",
        [Column(title=title) for title in titles],
        [
            (
                *(
                    a.attempt,
                    a.account,
                    a.provider_model,
                    a.route,
                    a.outcome or "calling",
                    a.status,
                    a.code,
                ),
                *(a.started_at, a.ended_at, a.worker),
            )
            for a in attempts
        ],
    )


@app.command("list")
def list_jobs(
    *,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    state: Annotated[str | None, typer.Option(help="In this state, such as failed.")] = None,
    job_class: Annotated[str | None, typer.Option("--class", help="Of this class.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="Of this run.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Admitted since, archived ones too: 2026-11-01, or 24h.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json_output: Json = False,
) -> None:
    """List the newest jobs. Without --since, those that the archive took are left out.

    Example: `sluice jobs list --state failed --run nightly --since 24h`
    """
    wanted = _filter(
        tenant=tenant, state=state, job_class=job_class, run_id=run_id, since=since, limit=limit
    )
    found = at_desk(lambda d: d.operations.jobs(wanted))
    if json_output:
        print_json([_line(summary) for summary in found])
        return
    titles = tuple(_line(found[0])) if found else ()
    rows = [tuple(_line(summary).values()) for summary in found]
    print_table("Jobs", [Column(title=title, whole=title == "id") for title in titles], rows)


def _filter(
    *,
    tenant: str | None,
    state: str | None,
    job_class: str | None,
    run_id: str | None,
    since: str | None,
    limit: int,
) -> "JobFilter":
    from sluice_cli.session import moment
    from sluice_core.jobs.model import State
    from sluice_core.operations.model import JobFilter
    from sluice_schemas.classes import JobClass

    states = {known.label: known for known in State}
    if state is not None and state not in states:
        raise Refused(f"no state {state!r}; the states are: {', '.join(states)}")
    try:
        known_class = None if job_class is None else JobClass.from_label(job_class)
    except ValueError as exc:
        raise Refused(str(exc)) from exc
    return JobFilter(
        tenant=tenant,
        state=None if state is None else states[state],
        job_class=known_class,
        run_id=run_id,
        since=None if since is None else moment(since),
        limit=limit,
    )


@app.command()
def cancel(job_id: JobId, json_output: Json = False) -> None:
    """Cancel a job that has not ended; its requester is answered at once.

    Example: `sluice jobs cancel 3f2b8a52-6a77-5d0e-9a68-1f0d6f3f9c11`
    """

    async def work(opened: Desk) -> bool:
        summary = (await known_job(opened, job_id)).summary
        flagged = await opened.jobs.cancel([(summary.tenant, summary.id, None)])
        if flagged:
            await opened.operations.note(opened.actor, "job.cancel", str(summary.id))
        return flagged > 0

    cancelled = at_desk(work)
    if json_output:
        print_json({"id": job_id, "cancelled": cancelled})
    elif cancelled:
        say(f"{job_id} is being cancelled")
    else:
        say(f"{job_id} has ended, or is being cancelled already")


@app.command()
def retry(job_id: JobId, json_output: Json = False) -> None:
    """Execute a failed, expired or cancelled job again: same id, same request, same requester.

    Its result is published again, under the next execution number; attempts and cost go on.

    Example: `sluice jobs retry 3f2b8a52-6a77-5d0e-9a68-1f0d6f3f9c11`
    """
    from sluice_cli.session import uuid_of

    name: UUID = uuid_of(job_id)
    execution = at_desk(lambda d: d.retries.retry(name))
    if json_output:
        print_json({"id": name, "execution": execution})
    else:
        say(f"{name} waits for its execution {execution}")


@app.command()
def result(
    job_id: JobId,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.")] = None,
    body: Annotated[
        bool, typer.Option("--body", help="The provider's answer alone, not the whole result.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Print a stored result as it was published, whatever its size.

    Example: `sluice jobs result 3f2b8a52-6a77-5d0e-9a68-1f0d6f3f9c11 > answer.json`
    """
    # A result is JSON already: --json changes nothing, and is taken so that every command takes it.
    del json_output
    value = at_desk(lambda d: _result(d, job_id))
    if body:
        value = answer_of(value)
    if out is not None:
        out.write_bytes(value)
        say(f"{len(value)} bytes written to {out}")
        return
    sys.stdout.buffer.write(value + b"\n")
    sys.stdout.buffer.flush()


async def _result(opened: Desk, text: str) -> bytes:
    summary = (await known_job(opened, text)).summary
    value = await opened.operations.result(summary.id)
    if value is None:
        raise Refused(
            f"{text} is {summary.state.label}: "
            + (
                "its result is older than retention keeps"
                if summary.state.terminal
                else "there is no result yet"
            )
        )
    return value


def answer_of(value: bytes) -> bytes:
    """The provider's answer in a stored result, as JSON; Refused where there is none."""
    import orjson

    response = orjson.loads(value)["response"]
    if response is None:
        raise Refused("this result has no answer: leave --body out to see why")
    return orjson.dumps(response["body"])
