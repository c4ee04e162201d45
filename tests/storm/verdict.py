"""What must hold when the storm is over, each point by its own evidence: ledger, topics, and the provider's record."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from tests.storm.load import Sent

from sluice_schemas.classes import JobClass
from sluice_schemas.topics import Topics, control_group, group_of

SLACK_S = 2.0
"""Between a fault and its effect: a process dies, a batch on its way arrives."""
TERMINAL = {
    10: "succeeded",
    11: "failed",
    12: "rejected",
    13: "expired",
    14: "cancelled",
    15: "unknown",
}


@dataclass(slots=True)
class Verdict:
    """Counts to show, and every point that does not hold."""

    counts: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def expect(self, held: object, what: str) -> None:
        """Note a point that does not hold."""
        if not held:
            self.faults.append(what)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was left behind."""

    jobs: dict[str, dict[str, Any]]
    attempts: dict[tuple[str, int], dict[str, Any]]
    usage: dict[tuple[str, int], list[dict[str, Any]]]
    calls: dict[tuple[str, int], list[dict[str, Any]]]
    results: dict[str, list[dict[str, Any]]]
    usage_events: Counter[str]
    outbox: int
    overdue: int
    reading_on: int
    drawn: list[str]


async def gather(
    pool: asyncpg.Pool,
    mock_record: Path,
    results: list[ConsumerRecord],
    usage: list[ConsumerRecord],
) -> Evidence:
    """Read the evidence. `results` and `usage` are the records of those topics."""
    jobs = await pool.fetch(
        "select uuid::text, id, state, attempt, first_attempt, deaths, execution from sluice.jobs"
        " union all select uuid::text, id, state, attempt, first_attempt, deaths, execution from sluice.jobs_past"
    )
    attempts = await pool.fetch(
        "select j.uuid::text, a.* from sluice.attempts a join (select id, uuid from sluice.jobs union all select id, uuid from sluice.jobs_past) j on j.id = a.job"
    )
    rows = await pool.fetch("select * from finance.usage")
    usage_rows: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        usage_rows[str(row["job_id"]), row["attempt"]].append(dict(row))
    return Evidence(
        jobs={row["uuid"]: dict(row) for row in jobs},
        attempts={(row["uuid"], row["attempt"]): dict(row) for row in attempts},
        usage=usage_rows,
        calls=_calls(mock_record),
        results=_results(results),
        usage_events=Counter(_header(record, "ce_id") for record in usage),
        outbox=await pool.fetchval("select count(*) from sluice.outbox"),
        overdue=await pool.fetchval(
            "select count(*) from sluice.jobs where state < 10 and deadline < now()"
        ),
        reading_on=await pool.fetchval("select count(*) from sluice.reading_on"),
        drawn=await drawn(pool),
    )


async def drawn(pool: asyncpg.Pool) -> list[str]:
    """What limits and budgets still hold as drawn; nothing, once every attempt has ended."""
    scopes = await pool.fetch("select name, in_flight from sluice.scopes_now where in_flight <> 0")
    periods = await pool.fetch(
        "select s.name, p.reserved_nano from sluice.budget_periods_now p join sluice.budgets b on b.id = p.budget"
        " join sluice.scopes s on s.id = b.scope where p.reserved_nano <> 0"
    )
    return [f"{row['name']}: {row['in_flight']} in flight" for row in scopes] + [
        f"{row['name']}: {row['reserved_nano']} reserved" for row in periods
    ]


def _calls(path: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """The provider's record: the last line of each request, by job and attempt."""
    last: dict[int, dict[str, Any]] = {}
    for line in path.read_bytes().splitlines():
        entry = json.loads(line)
        last[entry["seq"]] = entry
    calls: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for entry in last.values():
        job, _, attempt = entry["job"].partition("/")
        calls[job, int(attempt or 0)].append(entry)
    return calls


def _results(records: list[ConsumerRecord]) -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        duplicate = _header(record, "sluice-duplicate") == "true"
        value = json.loads(record.value)
        results[value["id"]].append(
            {
                "ce_id": _header(record, "ce_id"),
                "state": value["job"]["state"],
                "duplicate": duplicate,
            }
        )
    return results


def _header(record: ConsumerRecord, name: str) -> str:
    return next((value.decode() for key, value in record.headers if key == name), "")


def judge(sent: list[Sent], evidence: Evidence, *, moments: list[float]) -> Verdict:
    """Hold every point of the crash test against the evidence; `moments` are the faults' (epoch seconds)."""
    verdict = Verdict()
    states: Counter[str] = Counter()
    unknown_attempts = sum(1 for a in evidence.attempts.values() if a["outcome"] == 5)
    for job in sent:
        states[_judge_job(verdict, job, evidence)] += 1
    _judge_calls(verdict, sent, evidence)
    _judge_money(verdict, evidence)
    verdict.expect(evidence.outbox == 0, f"outbox holds {evidence.outbox} rows")
    verdict.expect(evidence.overdue == 0, f"{evidence.overdue} rows past their deadline")
    verdict.expect(evidence.reading_on == 0, f"{evidence.reading_on} attempts still read on")
    verdict.faults += evidence.drawn
    _judge_unknowns(verdict, evidence, moments)
    verdict.counts = {
        "jobs": len(sent),
        "states": dict(states),
        "attempts": len(evidence.attempts),
        "provider_calls": sum(len(calls) for calls in evidence.calls.values()),
        "unknown_attempts": unknown_attempts,
        "usage_rows": sum(len(rows) for rows in evidence.usage.values()),
        "second_attempts": sum(attempt == 2 for _, attempt in evidence.attempts),
        "from_cache": sum(
            row["outcome"] == "cached" for rows in evidence.usage.values() for row in rows
        ),
    }
    return verdict


def _judge_job(verdict: Verdict, job: Sent, evidence: Evidence) -> str:
    row = evidence.jobs.get(str(job.id))
    if row is None:
        verdict.faults.append(f"{job.key}: not in the ledger")
        return "lost"
    state = TERMINAL.get(row["state"], f"live({row['state']})")
    allowed = {"succeeded", "unknown"}
    if job.cancelled:
        allowed |= {"cancelled"}
    if row["deaths"] >= 3:
        allowed |= {"failed"}
    verdict.expect(state in allowed, f"{job.key}: {state}, allowed {sorted(allowed)}")
    verdict.expect(row["execution"] == 1, f"{job.key}: execution {row['execution']}")
    answers = [r for r in evidence.results.get(str(job.id), []) if not r["duplicate"]]
    verdict.expect(answers, f"{job.key}: no result on the topic")
    verdict.expect(
        len({r["ce_id"] for r in answers}) <= 1, f"{job.key}: results under several ce_ids"
    )
    verdict.expect(
        all(r["state"] == state for r in answers), f"{job.key}: ledger {state}, topic {answers}"
    )
    again = {r["ce_id"] for r in evidence.results.get(str(job.id), []) if r["duplicate"]}
    verdict.expect(
        len(again) == job.duplicates,
        f"{job.key}: {len(again)} of {job.duplicates} duplicates answered",
    )
    return state


def _judge_calls(verdict: Verdict, sent: list[Sent], evidence: Evidence) -> None:
    for (job, attempt), calls in evidence.calls.items():
        verdict.expect((job, attempt) in evidence.attempts, f"{job}/{attempt}: called, not durable")
        verdict.expect(len(calls) == 1, f"{job}/{attempt}: called {len(calls)} times")
    by_job: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (job_id, _), row in sorted(evidence.attempts.items(), key=lambda item: item[0]):
        by_job[job_id].append(row)
    for job in sent:
        mine = by_job[str(job.id)]
        if job.model == "raced":
            # Two may be under way at once; still one at most is the answer.
            answers = sum(attempt["outcome"] == 1 for attempt in mine)
            verdict.expect(answers <= 1, f"{job.key}: {answers} answers")
        for attempt in mine[:-1] if job.model != "raced" else ():
            # 2: it failed, so it may be tried again; 5: unknown, only where the job said so.
            again = attempt["outcome"] == 2 or (attempt["outcome"] == 5 and job.retries)
            verdict.expect(again, f"{job.key}: called again after outcome {attempt['outcome']}")
        for attempt in mine:
            verdict.expect(attempt["outcome"] is not None, f"{job.key}: an attempt is still open")


def _judge_unknowns(verdict: Verdict, evidence: Evidence, moments: list[float]) -> None:
    """Each unknown attempt was in flight at a fault: it had begun before one, and was judged after it."""
    for (job, attempt), row in evidence.attempts.items():
        if row["outcome"] != 5:
            continue
        began, ended = row["started_at"].timestamp(), row["ended_at"].timestamp()
        struck = any(began - SLACK_S <= moment <= ended for moment in moments)
        verdict.expect(struck, f"{job}/{attempt}: unknown, and no fault struck it")


def _judge_money(verdict: Verdict, evidence: Evidence) -> None:
    for (job, attempt), rows in evidence.usage.items():
        originals = [row for row in rows if row["charge_class"] is None]
        # A hit has a row of its own, under the number of whatever attempt came before it.
        hits = sum(row["outcome"] == "cached" for row in originals)
        paid = len(originals) - hits
        verdict.expect(
            paid <= 1 and hits <= 1, f"{job}/{attempt}: {paid} usage rows, {hits} of hits"
        )
        for row in originals:
            if row["outcome"] == "cached":
                verdict.expect(row["cost_usd"] == 0, f"{job}: a stored answer was paid for")
            elif row["usage_source"] == "reported" and row["outcome"] != "unknown":
                calls = evidence.calls.get((job, attempt), [])
                verdict.expect(
                    calls and _same_usage(row, calls[0]), f"{job}/{attempt}: usage differs"
                )
            verdict.expect(
                str(row["usage_id"]) in evidence.usage_events, f"{job}/{attempt}: no usage event"
            )
    for (job, attempt), row in evidence.attempts.items():
        if row["outcome"] in (1, 5):
            verdict.expect((job, attempt) in evidence.usage, f"{job}/{attempt}: no usage row")


def _same_usage(row: dict[str, Any], call: dict[str, Any]) -> bool:
    usage = call.get("usage") or {}
    return row["input_tokens"] == usage.get("prompt_tokens") and row["output_tokens"] == usage.get(
        "completion_tokens"
    )


async def lag(bootstrap: str, topics: Topics) -> int:
    """Records of the job and control topics that their groups have not committed."""
    behind = 0
    groups = {topics.jobs(c): group_of(c, topics.prefix) for c in JobClass}
    groups[topics.control] = control_group(topics.prefix)
    for topic, group in groups.items():
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            await consumer.topics()
            partitions = [
                TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()
            ]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            for partition in partitions:
                behind += ends[partition] - (await consumer.committed(partition) or 0)
        finally:
            await consumer.stop()
    return behind
