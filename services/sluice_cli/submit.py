"""Sends the lines of a Batch file through the client and writes what comes back."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sluice_cli.batch_file import (
    BadLine,
    Line,
    bad_output_line,
    collected,
    output_line,
    read_lines,
)
from sluice_cli.output import Refused
from sluice_cli.session import configuration, ledger, settings
from sluice_client.client import Client
from sluice_client.errors import ClientError, ReplyTimeout
from sluice_client.model import ClassName, Finished, Job, Result
from sluice_core.operations.repository import OperatorRepository
from sluice_platform.settings import Settings
from sluice_schemas.topics import DEFAULT_PREFIX

_SENT_AT_ONCE = 500
_FLUSH_EVERY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What to send and where results go; `out` None: they are not awaited."""

    file: Path
    job_class: str
    run: str
    out: Path | None
    errors: Path
    tenant: str
    concurrency: int
    quiet: bool


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the lines. `earlier` were in the output file before."""

    sent: int = 0
    earlier: int = 0
    states: dict[str, int] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    cost_usd: Decimal = Decimal(0)

    def add(self, result: Result) -> None:
        """Count one result."""
        self.states[result.state] = self.states.get(result.state, 0) + 1
        self.cost_usd += result.cost_usd

    @property
    def failed(self) -> int:
        """Jobs that ended in any state but `succeeded`."""
        return sum(count for state, count in self.states.items() if state != "succeeded")

    def counts(self) -> dict[str, Any]:
        """As one flat object."""
        return {
            "sent": self.sent,
            "earlier": self.earlier,
            "states": self.states,
            "bad_lines": self.bad,
            "cost_usd": f"{self.cost_usd:.9f}",
        }

    def summary(self, run: str) -> str:
        """The line at the end."""
        ends = ", ".join(f"{count:,} {state}" for state, count in sorted(self.states.items()))
        parts = [f"run {run}: {self.sent:,} jobs sent"]
        if ends:
            parts.append(f"{ends}; {self.cost_usd:.6f} USD")
        if self.earlier:
            parts.append(f"{self.earlier:,} collected earlier")
        if self.bad:
            parts.append(f"{len(self.bad):,} bad lines")
        if not ends and self.sent:
            parts.append(f"see `sluice runs show {run}`, or start again with --wait")
        return "; ".join(parts)


async def submit_file(submission: Submission) -> Tally:
    """Send the file; raises Refused where the client cannot go on."""
    given = settings()
    config = None if given.config is None else configuration(given)
    try:
        client = Client.from_environment(
            tenant=submission.tenant,
            prefix=DEFAULT_PREFIX if config is None else config.kafka.prefix,
            source="/sluice/submit",
        )
        async with client:
            return await _Run(submission, client, given).work()
    except ClientError as exc:
        raise Refused(f"{why(exc)}\nStart the same command again to go on.") from exc


def why(exc: ClientError) -> str:
    """What ended a pass, for whoever has the command and no client in hand."""
    if isinstance(exc, ReplyTimeout):
        return f"no result of job {exc.submitted.id} within {exc.waited_s:g} s; the job goes on"
    return str(exc)


class _Run:
    """One pass over the file."""

    def __init__(self, submission: Submission, client: Client, given: Settings) -> None:
        self._submission = submission
        self._client = client
        self._settings = given
        self._tally = Tally()
        self._done: set[str] = set()
        self._progress = _progress(quiet=submission.quiet)
        self._task: TaskID = self._progress.add_task(submission.run, total=None)

    async def work(self) -> Tally:
        """Send what is not collected yet; the error file is written anew, the output file goes on."""
        submission = self._submission
        total = _count_lines(submission.file)
        self._progress.update(self._task, total=total)
        with self._progress:
            if submission.out is None:
                await self._send()
            else:
                await self._collect(submission.out)
        return self._tally

    async def _send(self) -> None:
        with self._submission.errors.open("wb") as errors:
            pending: list[Line] = []
            for line in self._lines(errors):
                pending.append(line)
                if len(pending) == _SENT_AT_ONCE:
                    await self._submit(pending)
                    pending = []
            await self._submit(pending)
        if not self._tally.bad:
            self._submission.errors.unlink()

    async def _submit(self, lines: list[Line]) -> None:
        job_class = cast("ClassName", self._submission.job_class)
        await asyncio.gather(
            *(self._client.submit(Job.from_line(line.job), job_class=job_class) for line in lines)
        )
        self._tally.sent += len(lines)
        self._progress.advance(self._task, len(lines))

    async def _collect(self, out: Path) -> None:
        self._done = _resume(out)
        job_class = cast("ClassName", self._submission.job_class)
        with out.open("ab") as good, self._submission.errors.open("wb") as errors:
            finished = self._client.map(
                self._jobs(errors), job_class=job_class, concurrency=self._submission.concurrency
            )
            async for number, (job, result) in _numbered(finished):
                whole = await self._whole(result)
                target = good if result.succeeded else errors
                target.write(whole if whole is not None else _line_of(job, result))
                self._tally.add(result)
                self._progress.advance(self._task)
                if number % _FLUSH_EVERY == 0:
                    good.flush()
                    errors.flush()
            os.fsync(good.fileno())

    async def _jobs(self, errors: IO[bytes]) -> AsyncIterator[Job]:
        for number, line in enumerate(self._lines(errors), 1):
            self._tally.sent += 1
            yield Job.from_line(line.job)
            if number % _FLUSH_EVERY == 0:
                await asyncio.sleep(0)

    def _lines(self, errors: IO[bytes]) -> Iterator[Line]:
        """The lines to send; bad ones go to the error file, collected ones are passed over."""
        with self._submission.file.open("rb") as texts:
            for line in read_lines(texts, run=self._submission.run):
                if isinstance(line, BadLine):
                    errors.write(bad_output_line(line))
                    self._tally.bad.append(line.message)
                    self._progress.advance(self._task)
                elif line.custom_id in self._done:
                    self._tally.earlier += 1
                    self._progress.advance(self._task)
                else:
                    yield line

    async def _whole(self, result: Result) -> bytes | None:
        """The line of a result that was too large for a record, from the ledger where it is known."""
        if result.dataref is None or self._settings.database is None:
            return None
        async with ledger(self._settings) as pool:
            value = await OperatorRepository(pool).result(UUID(result.id))
        return None if value is None else value + b"\n"


def _line_of(job: Job, result: Result) -> bytes:
    error = result.report["error"]
    return output_line(
        job_id=result.id,
        custom_id=job.custom_id,
        status_code=result.status_code,
        request_id=result.request_id,
        body=result.body,
        error=error if result.status_code is None else None,
    )


async def _numbered(finished: AsyncIterator[Finished]) -> AsyncIterator[tuple[int, Finished]]:
    number = 0
    async for item in finished:
        number += 1
        yield number, item


def _resume(out: Path) -> set[str]:
    """What an output file holds already; half a line at its end is cut off."""
    if not out.exists():
        return set()
    with out.open("rb") as texts:
        found, size = collected(texts)
    with out.open("r+b") as file:
        file.truncate(size)
    return found


def _count_lines(path: Path) -> int:
    with path.open("rb") as texts:
        return sum(1 for text in texts if text.strip())


def _progress(*, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
