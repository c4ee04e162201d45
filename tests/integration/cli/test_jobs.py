"""Jobs, runs, unknown outcomes and reports, as an operator sees and ends them."""

import asyncio
import json
import time
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.integration.cli.shell import Shell

from sluice_core.jobs.model import Facts, State
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.repository import JobRepository
from sluice_core.jobs.writes import Entry
from sluice_platform.ids import uuid7
from sluice_schemas.classes import JobClass

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("cli")]

_RESULT = json.dumps(
    {
        "id": "x",
        "custom_id": None,
        "response": {"status_code": 200, "request_id": None, "body": {"answer": 42}},
        "error": None,
        "job": {"state": "failed", "error": None},
    }
).encode()


async def _ended(pool: asyncpg.Pool, state: State, run: str = "night", body: bytes = b"{}") -> UUID:
    """A job that ended in `state`, as settlement leaves one."""
    names = NameRepository(pool)
    lane = await names.ensure_lane(JobClass.BULK, "default", "acme", "search", "fast")
    run_row = await names.ensure_run("acme", run)
    job_id, now = uuid4(), time.time()
    entry = Entry(
        id=job_id,
        record_id=uuid4(),
        body_hash=b"h" * 32,
        lane=lane,
        state=State.PARKED,
        max_attempts=5,
        retry_unknown=False,
        streams=False,
        rerun=False,
        due_at=now + 100,
        deadline=now + 100,
        run=run_row,
        facts=Facts(tenant="acme", project="search", run_id=run, job_class=JobClass.BULK),
        body=body,
        requester=b"r",
    )
    await JobRepository(pool, 1).admit([entry])
    await pool.execute(
        "update sluice.jobs set state = $2, attempt = 2, finished_at = clock_timestamp() where uuid = $1",
        job_id,
        state,
    )
    if state.terminal:
        await pool.execute(
            "insert into sluice.responses (job, uuid, day, ce_id, finished_at, result)"
            " select id, uuid, day, $2, clock_timestamp(), $3 from sluice.jobs where uuid = $1",
            job_id,
            uuid4(),
            _RESULT,
        )
    return job_id


async def test_a_job_is_shown_and_its_result_comes_raw(sluice: Shell) -> None:
    job_id = str(await _ended(sluice.pool, State.SUCCEEDED))
    shown = (await sluice("jobs", "get", job_id, "--json")).json
    assert (shown["state"], shown["project"], shown["run_id"]) == ("succeeded", "search", "night")
    assert (await sluice("jobs", "result", job_id)).out.encode() == _RESULT + b"\n"
    assert (await sluice("jobs", "result", job_id, "--body")).json == {"answer": 42}
    listed = (await sluice("jobs", "list", "--state", "succeeded", "--json")).json
    assert [job["id"] for job in listed] == [job_id]
    assert (await sluice("jobs", "list", "--state", "failed", "--json")).json == []
    assert (await sluice("jobs", "list", "--state", "lost")).code == 1


async def test_a_failed_job_is_executed_again_under_its_own_id(sluice: Shell) -> None:
    job_id = await _ended(sluice.pool, State.FAILED)
    assert (await sluice("jobs", "retry", str(job_id), "--json")).json["execution"] == 2
    row = await sluice.pool.fetchrow(
        "select j.state, j.execution, j.attempt, j.first_attempt, j.owner, q.body from sluice.identities t"
        " join sluice.jobs j on j.id = t.job join sluice.requests q on q.job = j.id where t.uuid = $1",
        job_id,
    )
    assert tuple(row) == (State.PARKED, 2, 2, 2, None, b"{}")
    again = await sluice("jobs", "retry", str(job_id))
    assert (again.code, "only ended jobs" in again.err) == (1, True)
    cancelled = (await sluice("jobs", "cancel", str(job_id), "--json")).json
    assert cancelled["cancelled"] is True
    assert await sluice.audited() == ["job.retry", "job.cancel"]


@pytest.mark.parametrize(
    ("state", "body", "message"),
    [
        (State.SUCCEEDED, b"{}", "under a new key"),
        (State.UNKNOWN, b"{}", "under a new key"),
        (State.REJECTED, b"", "refused at admission"),
    ],
)
async def test_what_cannot_be_executed_again_says_why(
    sluice: Shell, state: State, body: bytes, message: str
) -> None:
    job_id = await _ended(sluice.pool, state, body=body)
    ran = await sluice("jobs", "retry", str(job_id))
    assert ran.code == 1
    assert message in ran.err


async def test_many_retries_at_once_make_one_execution(sluice: Shell) -> None:
    job_id = str(await _ended(sluice.pool, State.EXPIRED))
    ran = await asyncio.gather(*(sluice("jobs", "retry", job_id) for _ in range(3)))
    assert sorted(r.code for r in ran) == [0, 1, 1]
    count = "select count(*) from sluice.jobs where uuid = $1"
    assert await sluice.pool.fetchval(count, UUID(job_id)) == 2


async def test_a_run_is_cancelled_and_retried(sluice: Shell) -> None:
    failed = await _ended(sluice.pool, State.FAILED)
    await _ended(sluice.pool, State.SUCCEEDED)
    await _ended(sluice.pool, State.FAILED, run="other")
    assert (await sluice("runs", "cancel", "night")).code == 0
    refused = await sluice("jobs", "retry", str(failed))
    assert "its run is cancelled" in refused.err
    assert (await sluice("runs", "retry", "night", "--json")).json["retried"] == 1
    shown = (await sluice("runs", "show", "night", "--json")).json
    assert (shown["jobs"], shown["waiting"], shown["succeeded"]) == (2, 1, 1)
    assert len((await sluice("runs", "list", "--json")).json) == 2
    assert (await sluice("runs", "show", "nothing")).code == 1


async def _unknown(pool: asyncpg.Pool) -> UUID:
    usage_id = uuid7()
    job_id = uuid4()
    await pool.execute(
        """
        with u as (
          insert into finance.usage (usage_id, job_id, attempt, recorded_at, started_at, ended_at, tenant, project, tags,
            provider, account, model_requested, provider_model, operation, class, input_tokens, cache_read_tokens,
            cache_write_tokens, output_tokens, reasoning_tokens, usage_source, meters, cost_usd, list_cost_usd,
            price_version, outcome, provider_ms)
          select $1, $2, 1, now(), now(), now(), 'acme', 'search', '{}', 'openai', 'openai', 'fast', 'm', 'chat', 'bulk',
                 0, 0, 0, 0, 0, 'estimated', '[]', 0, 0, 'v', 'unknown', 5
          returning usage_id, recorded_at)
        insert into sluice.unresolved (usage_id, recorded_at, tenant, job, attempt, held_nano, input_nano, since)
        select usage_id, recorded_at, 'acme', 1, 1, 5000000, 1000000, now() from u
        """,
        usage_id,
        job_id,
    )
    return usage_id


async def test_an_unknown_outcome_is_settled_by_a_correction(sluice: Shell) -> None:
    usage_id = str(await _unknown(sluice.pool))
    (held,) = (await sluice("unresolved", "list", "--json")).json
    assert (held["usage_id"], held["held_usd"]) == (usage_id, "0.005000000")
    settle = ("unresolved", "settle", usage_id, "--cost-usd", "0.0021")
    assert (await sluice(*settle)).code == 2
    assert (await sluice(*settle, "--reason", "their invoice")).code == 0
    again = await sluice(*settle, "--reason", "their invoice")
    assert (again.code, "nothing is held" in again.err) == (1, True)
    report = (await sluice("usage", "report", "--by", "project", "--json")).json
    assert report["lines"][0]["cost_usd"] == "0.002100000"
    owner = await sluice.pool.fetchval("select owner from sluice.outbox where kind = 3")
    assert owner == 0
    assert await sluice.audited() == ["unresolved.settle"]


async def test_a_report_says_which_calls_had_no_price(sluice: Shell) -> None:
    usage_id = await _unknown(sluice.pool)
    report = ("usage", "report", "--by", "project")
    assert (await sluice(*report, "--json")).json["unpriced_calls"] == {}
    assert "prices being unknown" not in (await sluice(*report)).out
    await sluice.pool.execute("alter table finance.usage disable trigger user")
    await sluice.pool.execute(
        "update finance.usage set price_version = 'unpriced' where usage_id = $1", usage_id
    )
    assert (await sluice(*report, "--json")).json["unpriced_calls"] == {"fast": 1}
    assert "1 calls are in it at cost 0" in (await sluice(*report)).out
