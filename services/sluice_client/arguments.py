"""Pure: what a caller of the client wrote, as the values that the client works with."""

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, cast

from sluice_client.errors import NotConfigured
from sluice_client.mapping import each
from sluice_client.model import ClassName, Job, JobOptions
from sluice_schemas.classes import DEFAULT_TIMEOUT_S
from sluice_schemas.times import parse_time

_GRACE_S: Final = 10.0
"""Beyond a job's own deadline, in which the gateway says that it has passed."""

_TIMEOUT_S: Final = {job_class.label: limit for job_class, limit in DEFAULT_TIMEOUT_S.items()}


def split_key(text: str | None) -> tuple[str | None, str | None]:
    """`id:secret` in two."""
    if text is None:
        return None, None
    key_id, colon, secret = text.partition(":")
    if not colon or not key_id or not secret:
        raise NotConfigured("SLUICE_KEY is not id:secret, as `sluice keys create` shows both")
    return key_id, secret


def as_job(body: Mapping[str, Any] | Job, options: JobOptions) -> Job:
    """A job of a body or a job, with more options on top."""
    job = body if isinstance(body, Job) else Job(body=body)
    if not options:
        return job
    return replace(job, options=cast("JobOptions", {**job.options, **options}))


def patience_s(job: Job, job_class: ClassName, timeout: float | None) -> float:
    """Seconds to wait for a job's result."""
    if timeout is not None:
        return timeout
    own = job.options.get("timeout_s", _TIMEOUT_S.get(job_class, 0.0))
    if "deadline" in job.options:
        own = min(own, max(0.0, parse_time(job.options["deadline"]) - time.time()))
    return own + _GRACE_S


async def as_jobs(
    jobs: Iterable[Mapping[str, Any] | Job] | AsyncIterable[Mapping[str, Any] | Job],
    run_id: str | None,
) -> AsyncIterator[Job]:
    """The jobs of a map, in whatever form they come, with the run's name on those that have none."""
    defaults = JobOptions() if run_id is None else JobOptions(run_id=run_id)
    async for body in each(jobs):
        job = body if isinstance(body, Job) else Job(body=body)
        yield replace(job, options=cast("JobOptions", {**defaults, **job.options}))
