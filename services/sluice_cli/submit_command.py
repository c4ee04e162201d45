"""`sluice submit`: sends a Batch file as jobs, collects what comes back, and can be started again; or checks it first."""

from pathlib import Path
from typing import Annotated

import typer

from sluice_cli.output import Json, Refused, print_json, say, warn


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(submit)


def submit(
    *,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="An OpenAI Batch input file.")
    ],
    job_class: Annotated[str, typer.Option("--class", help="realtime, standard or bulk.")] = "bulk",
    run_id: Annotated[
        str | None, typer.Option("--run", help="The run's name; default: the file's name and hash.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Collect the results.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Results of jobs that succeeded; default: FILE.out.jsonl.")
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(help="All other results, bad lines too; default: FILE.errors.jsonl."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose jobs they are.")] = "default",
    concurrency: Annotated[
        int, typer.Option(min=1, max=100_000, help="Jobs awaited at a time.")
    ] = 2000,
    check: Annotated[
        bool, typer.Option("--check", help="Send nothing; say what would become of the file.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Send every line of a Batch input file as a job, and with --wait collect the results.

    Start it again after anything: what was sent is not sent twice, what is missing is collected.

    Example: `sluice submit questions.jsonl --class bulk --run nightly --wait --out ok.jsonl --errors bad.jsonl`

    Reads SLUICE_KAFKA, and SLUICE_KEY (id:secret) where jobs are signed. Exits 1 where a line did not succeed.

    With --check nothing is sent and no provider is called: bad lines, what policies refuse, cost as expected
    and at most, whether the budgets above the jobs suffice, and how long it takes at least under the limits.
    Reads SLUICE_CONFIG, and SLUICE_DATABASE where it is set: what is spent, how long answers were of late, how
    long calls took. Exits 1 where a line is bad, a job would be refused, or a hard budget cannot take what is expected.

    Example: `sluice submit questions.jsonl --check --class bulk --tenant acme`
    """
    from sluice_cli.batch_file import default_run
    from sluice_cli.session import run
    from sluice_cli.submit import Submission, Tally, submit_file
    from sluice_schemas.classes import JobClass

    if job_class not in {known.label for known in JobClass}:
        raise Refused(f"--class: no class {job_class!r}; write realtime, standard or bulk")
    if run_id is None:
        with file.open("rb") as lines:
            run_id = default_run(file.stem, lines)
    if check:
        from sluice_cli.check import check_file

        check_file(file, run_id=run_id, class_label=job_class, tenant=tenant, as_json=json_output)
        return
    collect = wait or out is not None or errors is not None
    submission = Submission(
        file=file,
        job_class=job_class,
        run=run_id,
        out=(out or file.with_suffix(".out.jsonl")) if collect else None,
        errors=errors or file.with_suffix(".errors.jsonl"),
        tenant=tenant,
        concurrency=concurrency,
        quiet=json_output,
    )
    done: Tally = run(submit_file(submission))
    if json_output:
        print_json(
            {"run_id": run_id, "out": submission.out, "errors": submission.errors, **done.counts()}
        )
    else:
        for line in done.bad[:20]:
            warn(line)
        if len(done.bad) > 20:
            warn(f"… and {len(done.bad) - 20} more bad lines: see {submission.errors}")
        say(done.summary(run_id))
    if done.bad or done.failed:
        raise typer.Exit(1)
