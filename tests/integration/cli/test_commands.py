import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from sluice_core.jobs.model import Facts, State
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.repository import JobRepository
from sluice_core.jobs.writes import Entry
from sluice_devstack.processes import scripts_environment
from sluice_devstack.stack import Stack
from sluice_platform.ids import uuid7
from sluice_schemas.classes import JobClass
from sluice_schemas.signature import hmac_key

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(slots=True, kw_only=True)
class Shell:
    """Runs `sluice` as a user's shell would."""

    environment: dict[str, str]
    pool: asyncpg.Pool
    config: Path
    prefix: str
    bootstrap: str

    async def __call__(self, *arguments: str, typed: str | None = None) -> Ran:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sluice_cli.main",
            *arguments,
            stdin=None if typed is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )
        out, err = await asyncio.wait_for(
            process.communicate(None if typed is None else typed.encode()), 60
        )
        assert process.returncode is not None
        ran = Ran(code=process.returncode, out=out.decode(), err=err.decode())
        assert "Traceback" not in ran.err, ran.err
        return ran

    async def audited(self) -> list[str]:
        rows = await self.pool.fetch("select action from sluice.audit order by id")
        return [row["action"] for row in rows]


@pytest.fixture
async def sluice(
    stack: Stack, database: str, kafka_prefix: str, tmp_path: Path
) -> AsyncIterator[Shell]:
    config = tmp_path / "sluice.yaml"
    config.write_text(
        f"kafka: {{prefix: {kafka_prefix}, partitions: 2}}\n"
        'providers: {openai: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: "${ABSENT}"}}\n'
        "tenants: {acme: {projects: {search: {apps: {web: {}}}}}}\n"
    )
    environment = scripts_environment(
        {
            "SLUICE_KAFKA": stack.kafka.bootstrap,
            "SLUICE_DATABASE": database,
            "SLUICE_CONFIG": str(config),
            "SLUICE_MASTER_KEY": secrets.token_hex(32),
            "COLUMNS": "200",
        }
    )
    async with await asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        yield Shell(
            environment=environment,
            pool=pool,
            config=config,
            prefix=kafka_prefix,
            bootstrap=stack.kafka.bootstrap,
        )


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


async def test_migrate_is_idempotent(sluice: Shell) -> None:
    document = (await sluice("migrate", "--json")).json
    assert document["before"] == document["after"]
    assert document["changed"] is False


async def test_topics_are_created_once_and_doctor_sees_the_rest(sluice: Shell) -> None:
    before = await sluice("doctor", "--json")
    assert before.code == 1
    first = (await sluice("topics", "create", "--json")).json
    assert f"{sluice.prefix}jobs.bulk.v1" in first["created"]
    second = (await sluice("topics", "create", "--json")).json
    assert second == {"created": [], "existing": first["created"]}
    found = json.loads((await sluice("doctor", "--json")).out)["findings"]
    levels = {finding["check"]: finding["level"] for finding in found}
    assert levels["topics"] == levels["kafka version"] == levels["migrations"] == "ok"
    assert {check for check, level in levels.items() if level == "problem"} == {
        "workers",
        "keepers",
    }


async def test_a_configuration_is_planned_applied_and_then_in_force(sluice: Shell) -> None:
    plan = (await sluice("config", "plan", "--json")).json
    assert plan["version"] is None
    assert f"{sluice.prefix}usage.v1" in plan["missing_topics"]
    first = (await sluice("config", "apply", "--json")).json
    assert first["changed"] is True
    assert set(first["created_topics"]) == set(plan["missing_topics"])
    assert (await sluice("config", "apply", "--json")).json["changed"] is False
    assert await sluice.audited() == ["config.apply"]
    # Processes are told of the new version, and of the limits that count with it.
    assert (
        await sluice.pool.fetchval("select version from sluice.versions where name = 'config'") == 3
    )
    sluice.config.write_text(sluice.config.read_text().replace("${ABSENT}", "sk-written-out"))
    refused = await sluice("config", "apply")
    assert (refused.code, "written out" in refused.err) == (1, True)
    assert "sk-written-out" not in refused.err


async def test_config_check_names_lines(sluice: Shell) -> None:
    assert (await sluice("config", "check")).code == 0
    sluice.config.write_text("providers: {}\ntenant: {}\n")
    ran = await sluice("config", "check", "--json")
    assert ran.code == 1
    (problem,) = json.loads(ran.out)["problems"]
    assert ":2: tenant: no such setting" in problem


async def test_a_providers_key_is_kept_and_never_shown(sluice: Shell) -> None:
    kept = await sluice("provider-keys", "set", "openai", "--json", typed="sk-very-secret\n")
    assert kept.json["fingerprint"] == sha256(b"sk-very-secret").hexdigest()[:12]
    listed = await sluice("provider-keys", "list")
    assert kept.json["fingerprint"] in listed.out
    assert "very-secret" not in kept.out + listed.out
    stored = await sluice.pool.fetchval("select sealed from sluice.provider_keys")
    assert b"very-secret" not in stored
    for arguments, typed, said in (
        (("set", "opneai"), "sk", 'no provider "opneai" is configured'),
        (("set", "openai"), " ", "is empty"),
        (("set", "openai", "--name", "a b"), "sk", "names no key"),
        (("remove", "openai", "--name", "other"), None, "see `sluice provider-keys list`"),
    ):
        refused = await sluice("provider-keys", *arguments, typed=typed)
        assert (refused.code, said in refused.err) == (1, True), refused.err
    assert (await sluice("provider-keys", "remove", "openai")).code == 0
    assert (await sluice("provider-keys", "list", "--json")).json == []
    assert await sluice.audited() == ["provider_key.set", "provider_key.remove"]


async def test_config_check_looks_whether_meanings_can_be_compared(sluice: Shell) -> None:
    if await sluice.pool.fetchval("select to_regclass('sluice.meanings') is null"):
        pytest.skip("this PostgreSQL has no pgvector")
    sluice.config.write_text(
        "providers: {a: {kind: openai, base_url: 'http://a'}}\n"
        "models: {vectors: {targets: [{account: a}]}}\n"
        "cache: {semantic: {model: vectors, threshold: 0.9}}\n"
    )
    assert (await sluice("config", "check")).code == 0
    await sluice.pool.execute("drop table sluice.meanings")
    for command in ("check", "apply"):
        refused = await sluice("config", command)
        assert (refused.code, "pgvector" in refused.err) == (1, True)
    assert (await sluice("migrate")).code == 0
    assert (await sluice("config", "check")).code == 0


async def test_a_key_is_created_rotated_and_revoked(sluice: Shell) -> None:
    created = await sluice("keys", "create", "--tenant", "acme", "--project", "search", "--json")
    made = created.json
    assert set(made) == {"id", "secret"}
    rotated = (await sluice("keys", "rotate", made["id"], "--overlap", "1h", "--json")).json
    assert (await sluice("keys", "revoke", made["id"], "--json")).json["revoked"] is True
    again = await sluice("keys", "revoke", made["id"])
    assert again.code == 1
    listed = {key["id"]: key for key in (await sluice("keys", "list", "--json")).json}
    assert listed[made["id"]]["state"] == "revoked"
    assert listed[rotated["id"]]["project"] == "search"
    assert made["secret"] not in (await sluice("keys", "list")).out
    assert await sluice.audited() == ["key.create", "key.rotate", "key.revoke"]
    assert (
        await sluice.pool.fetchval("select version from sluice.versions where name = 'keys'") == 4
    )


async def test_a_key_signs_as_intake_reads_it(sluice: Shell) -> None:
    from sluice_core.keys.repository import KeyRepository

    made = (await sluice("keys", "create", "--tenant", "acme", "--grant", "vouch", "--json")).json
    master = bytes.fromhex(sluice.environment["SLUICE_MASTER_KEY"])
    (key,) = (await KeyRepository(sluice.pool).all((master,))).values()
    assert key.hmac_key == hmac_key(made["secret"])
    assert key.grants == {"vouch"}


async def test_no_key_is_made_under_another_master_key(sluice: Shell) -> None:
    made = (await sluice("keys", "create", "--tenant", "acme", "--json")).json
    ours = sluice.environment["SLUICE_MASTER_KEY"]
    sluice.environment["SLUICE_MASTER_KEY"] = secrets.token_hex(32)
    for command in (("create", "--tenant", "acme"), ("rotate", made["id"])):
        refused = await sluice("keys", *command)
        assert refused.code == 1
        assert f"{made['id']} does not open under this SLUICE_MASTER_KEY" in refused.err
    found = json.loads((await sluice("doctor", "--json")).out)["findings"]
    (finding,) = [finding for finding in found if finding["check"] == "keys"]
    assert (finding["level"], made["id"] in finding["message"]) == ("problem", True)
    assert (await sluice("keys", "revoke", made["id"])).code == 0
    assert (await sluice("keys", "create", "--tenant", "acme")).code == 0
    sluice.environment["SLUICE_MASTER_KEY"] = ours
    assert await sluice.audited() == ["key.create", "key.revoke", "key.create"]


async def test_doctor_names_missing_reply_topics_and_unpriced_models(sluice: Shell) -> None:
    made = f"made-{sluice.prefix}replies"
    admin = AIOKafkaAdminClient(bootstrap_servers=sluice.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(made, num_partitions=1, replication_factor=1)])
    await admin.close()
    text = sluice.config.read_text().replace(
        "{projects:", f"{{reply_topics: [{made}, nowhere.replies], projects:"
    )
    sluice.config.write_text(text + "models: {tuned: {targets: [{account: openai}]}}\n")
    await sluice("topics", "create")
    found = json.loads((await sluice("doctor", "--json")).out)["findings"]
    findings = {finding["check"]: finding for finding in found}
    assert findings["reply topics"]["message"] == "missing: nowhere.replies (of acme)"
    assert findings["price of tuned"]["level"] == "warning"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tenant", "acne"), 'did you mean "acme"?'),
        (("--tenant", "acme", "--project", "sorch"), 'did you mean "search"?'),
        (("--tenant", "acme", "--grant", "everything"), "the grants are: vouch"),
        (("--tenant", "acme", "--expires", "0s"), "--expires must be longer"),
    ],
)
async def test_a_key_for_nobody_is_refused(
    sluice: Shell, arguments: tuple[str, ...], message: str
) -> None:
    ran = await sluice("keys", "create", *arguments)
    assert ran.code == 1
    assert message in ran.err


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


async def test_dead_letters_go_back_with_their_own_bytes(sluice: Shell) -> None:
    await sluice("topics", "create")
    target, dead = f"{sluice.prefix}jobs.bulk.v1", f"{sluice.prefix}deadletter.v1"
    ours = [
        ("sluice-error-code", b"invalid_record"),
        ("sluice-error-message", b"no"),
        ("sluice-source-topic", target.encode()),
        ("sluice-source-partition", b"0"),
    ]
    async with AIOKafkaProducer(bootstrap_servers=sluice.bootstrap) as producer:
        for offset, count in ((7, None), (8, b"3")):
            own = [("x", b"\xff")] + ([("sluice-redrive-count", count)] if count else [])
            last = ("sluice-source-offset", str(offset).encode())
            await producer.send_and_wait(
                dead, b"\x00raw", key=b"k", partition=0, headers=[*own, *ours, last]
            )
    await sluice.pool.execute(
        'insert into sluice.dead_letters (record, topic, partition, "offset", code, message)'
        " values ($1, $2, 0, 7, 'invalid_record', 'no')",
        uuid4(),
        target,
    )
    listed = (await sluice("deadletter", "list", "--json")).json
    assert [(letter["place"], letter["quarantined"]) for letter in listed] == [
        ("0/0", False),
        ("0/1", True),
    ]
    ran = await sluice("deadletter", "replay", "--all")
    assert (ran.code, "quarantined" in ran.err) == (1, True)
    assert (await sluice("deadletter", "replay", "0/0")).code == 1
    assert (await sluice("deadletter", "replay", "--force", "0/1")).code == 0
    records = await _records(sluice.bootstrap, target, 2)
    assert {(record.key, record.value) for record in records} == {(b"k", b"\x00raw")}
    assert sorted(record.headers for record in records) == [
        (("x", b"\xff"), ("sluice-redrive-count", b"1")),
        (("x", b"\xff"), ("sluice-redrive-count", b"4")),
    ]
    assert (await sluice("deadletter", "replay", "9/9")).code == 1


async def _records(bootstrap: str, topic: str, count: int) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in range(2)])
        await consumer.seek_to_beginning()
        return [await asyncio.wait_for(consumer.getone(), 20) for _ in range(count)]


async def test_submit_sends_every_good_line_once(sluice: Shell, tmp_path: Path) -> None:
    await sluice("topics", "create")
    body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
    file = tmp_path / "in.jsonl"
    lines = [json.dumps({"custom_id": str(number), "body": body}) for number in range(5)]
    file.write_text("\n".join([*lines, "{broken"]) + "\n")
    ran = await sluice("submit", str(file), "--run", "r", "--tenant", "acme", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["sent"] == 5
    assert "line 6: not JSON" in json.loads(ran.out)["bad_lines"][0]
    records = await _records(sluice.bootstrap, f"{sluice.prefix}jobs.bulk.v1", 5)
    keys = {json.loads(record.value)["options"]["idempotency_key"] for record in records}
    assert keys == {f"r/{number}" for number in range(5)}


async def test_schemas_are_fresh_and_rights_are_printed(sluice: Shell) -> None:
    assert (await sluice("schemas", "--check", "--json")).json["stale"] == []
    assert "kafka-acls.sh" in (await sluice("topics", "acls", "--commands")).out
    assert any(
        right["principal"] == "acme" for right in (await sluice("topics", "acls", "--json")).json
    )


POLICIES = """
models: {fast: {targets: [{account: openai}]}, gpt-9: {targets: [{account: openai}]}}
"""


async def test_a_policy_is_explained_with_the_rule_that_decides(sluice: Shell) -> None:
    made = (
        await sluice("keys", "create", "--tenant", "acme", "--project", "search", "--user", "jo", "--json")
    ).json  # fmt: skip
    text = sluice.config.read_text().replace(
        "{acme: {projects:",
        '{acme: {policy: {models: {deny: ["gpt-*"]}, max_tokens: 10}, users: {jo: {policy: {max_tokens: 20}}}, projects:',
    )
    sluice.config.write_text(text + POLICIES)
    explain = ("policy", "explain", "--key", made["id"])
    told = (await sluice(*explain, "--model", "gpt-9", "--max-tokens", "15", "--json")).json
    assert (told["allowed"], told["code"], told["param"]) == (False, "forbidden", "body.model")
    assert told["subject"]["project"] == "search"
    rules = {aspect["aspect"]: aspect["rule"] for aspect in told["aspects"]}
    assert rules["models"] == 'tenant acme: policy.models.deny "gpt-*"'
    assert rules["max_tokens"] == "user jo: policy.max_tokens 20"
    ran = await sluice(*explain, "--model", "fast", "--class", "bulk", "--ip", "10.0.0.1")
    assert ran.code == 0
    assert "the job may go on" in ran.out
    refused = await sluice(*explain, "--tenant", "acme", "--model", "gpt-9")
    assert "refused: this caller may not use the model gpt-9" in refused.out
    for wrong, message in (
        (("--model", "fast"), "name the tenant"),
        (("--tenant", "acne", "--model", "fast"), 'did you mean "acme"?'),
        (("--tenant", "acme", "--project", "sorch", "--model", "fast"), 'did you mean "search"?'),
        (("--tenant", "acme", "--model", "fast", "--class", "bluk"), "the classes are"),
        (
            ("--tenant", "acme", "--model", "fast", "--operation", "sing"),
            "chat, embeddings, responses, rerank",
        ),
        (("--key", "sgk_nobodys", "--model", "fast"), "see `sluice keys list`"),
        (("--key", made["id"], "--user", "eve", "--model", "fast"), "bound to user jo"),
    ):
        ran = await sluice("policy", "explain", *wrong)
        assert (ran.code, message in ran.err) == (1, True), ran.err


async def test_a_master_key_is_replaced(sluice: Shell) -> None:
    made = (await sluice("keys", "create", "--tenant", "acme", "--json")).json
    old = sluice.environment["SLUICE_MASTER_KEY"]
    alone = await sluice("keys", "rotate-master")
    assert (alone.code, "SLUICE_MASTER_KEY_PREVIOUS is not set" in alone.err) == (1, True)
    sluice.environment["SLUICE_MASTER_KEY"] = secrets.token_hex(32)
    sluice.environment["SLUICE_MASTER_KEY_PREVIOUS"] = old

    async def found() -> tuple[str, str]:
        findings = json.loads((await sluice("doctor", "--json")).out)["findings"]
        (finding,) = [finding for finding in findings if finding["check"] == "keys"]
        return finding["level"], finding["message"]

    assert await found() == ("warning", "1 still need SLUICE_MASTER_KEY_PREVIOUS")
    assert (await sluice("keys", "rotate-master", "--json")).json == {"resealed": 1}
    level, message = await found()
    assert (level, "unset it everywhere" in message) == ("ok", True)
    del sluice.environment["SLUICE_MASTER_KEY_PREVIOUS"]
    assert await found() == ("ok", "all open under this SLUICE_MASTER_KEY")
    assert await sluice.audited() == ["key.create", "key.reseal"]
    (listed,) = (await sluice("keys", "list", "--json")).json
    assert (listed["id"], listed["last_used_at"]) == (made["id"], None)


async def test_the_audit_and_denials_are_listed(sluice: Shell) -> None:
    made = (await sluice("keys", "create", "--tenant", "acme", "--json")).json
    await sluice("keys", "revoke", made["id"])
    await sluice("config", "apply")
    entries = (await sluice("audit", "list", "--json")).json
    assert [entry["action"] for entry in entries] == ["config.apply", "key.revoke", "key.create"]
    assert entries[1]["before"]["revoked_at"] is None
    assert entries[1]["actor"].count("@") == 1
    mine = (await sluice("audit", "list", "--subject", made["id"], "--limit", "1", "--json")).json
    assert [entry["action"] for entry in mine] == ["key.revoke"]
    assert (await sluice("audit", "list", "--since", "2999-01-01", "--json")).json == []
    assert "key.create" in (await sluice("audit", "list")).out
    assert made["secret"] not in (await sluice("audit", "list")).out
    assert (await sluice("audit", "list", "--since", "soon")).code == 1
    await sluice.pool.execute(
        "insert into sluice.denials (record, tenant, topic, code, rule) values ($1, 'acme', 't', 'forbidden', 'r')",
        uuid4(),
    )
    (denied,) = (await sluice("audit", "denials", "--tenant", "acme", "--json")).json
    assert (denied["code"], denied["rule"], denied["key_id"]) == ("forbidden", "r", None)
    assert (await sluice("audit", "denials", "--tenant", "other", "--json")).json == []
    assert "forbidden" in (await sluice("audit", "denials")).out


_LIMITS = """\
    limits: {requests: {limit: 600, per: minute, burst: 5}}
    budgets: {usd: 2, per: month}
    users: {"*": {limits: {concurrency: 3}}}
"""


def _limited(sluice: Shell, **parts: str) -> None:
    """A configuration with limits, a price and a policy; `parts` replaces text in it."""
    text = (
        f"kafka: {{prefix: {sluice.prefix}, partitions: 2}}\n"
        'providers: {openai: {kind: openai, base_url: "http://127.0.0.1:1/v1", limits: {concurrency: 10}}}\n'
        "models:\n"
        "  fast: {targets: [{account: openai, model: m}], prices: {input: 1, output: 10}}\n"
        "  smart: {targets: [{account: openai, model: m}], prices: {input: 1, output: 10}}\n"
        "tenants:\n  acme:\n    projects: {search: {apps: {web: {}}}}\n"
        + _LIMITS
        + "    policy: {models: {deny: [smart]}}\n"
    )
    for old, new in parts.items():
        assert old in text
        text = text.replace(old, new)
    sluice.config.write_text(text)


async def test_applying_puts_limits_and_budgets_in_force_at_once(sluice: Shell) -> None:
    await sluice("config", "apply")
    _limited(sluice)
    planned = (await sluice("config", "plan", "--json")).json["limits"]
    assert {
        "scope": "tenant:acme",
        "what": "budget per month",
        "before": None,
        "after": "2 USD, hard, UTC, alerts: 50 %, 80 %, 100 %",
    } in planned
    assert await sluice.pool.fetchval("select count(*) from sluice.budgets") == 0
    applied = (await sluice("config", "apply", "--json")).json
    assert (applied["changed"], applied["limits"]) == (True, planned)
    assert await sluice.pool.fetchval("select cap_nano from sluice.budgets") == 2 * 10**9
    assert (await sluice("config", "plan", "--json")).json["limits"] == []
    assert "nothing changed: version 2 is in force" in (await sluice("config", "apply")).out
    assert await sluice.audited() == ["config.apply", "config.apply"]


async def test_applying_says_what_waits_for_the_next_start(sluice: Shell) -> None:
    await sluice("config", "apply")
    sluice.config.write_text(
        sluice.config.read_text() + "unknown: {after: 3h}\nlimits: {answer_bytes: 3MiB}\n"
    )
    applied = (await sluice("config", "apply")).out
    assert "another limits keep it until they start anew" in applied
    assert "start anew" not in (await sluice("config", "apply")).out


async def test_a_ledger_that_says_something_else_is_put_right_and_that_is_audited(
    sluice: Shell,
) -> None:
    _limited(sluice)
    await sluice("config", "apply")
    # A worker that still starts with the configuration before.
    await sluice.pool.execute("update sluice.scopes set max_in_flight = 99 where kind = 8")
    ran = await sluice("config", "apply")
    assert "~ account:openai limits.concurrency: 99 → 10" in ran.out
    assert "nothing changed" not in ran.out
    assert await sluice.audited() == ["config.apply", "config.limits"]


async def test_limits_are_listed_as_they_stand(sluice: Shell) -> None:
    _limited(sluice)
    await sluice("config", "apply")
    await sluice.pool.execute(
        "update sluice.scope_state t set levels = array_fill((extract(epoch from now()) + 3600) * 1e6, array[3]),"
        " virtual = '{0,0,70}' from sluice.scopes s where s.id = t.scope and s.kind = 1"
    )
    await sluice.pool.execute(
        "update sluice.scope_state t set in_flight = 4, allowed = 6.5, blocked_until = now() + interval '1 hour'"
        " from sluice.scopes s where s.id = t.scope and s.kind = 8"
    )
    found = {line["scope"]: line for line in (await sluice("limits", "list", "--json")).json}
    assert set(found) == {"tenant:acme", "account:openai"}
    (rate,) = found["tenant:acme"]["rates"]
    assert (rate["meter"], rate["limit"], rate["per"], rate["burst"]) == (
        "requests",
        600,
        "minute",
        5,
    )
    assert 35_000 < rate["used"] <= 36_000
    assert rate["next_at"]["bulk"] is not None
    assert found["tenant:acme"]["virtual_tokens"] == {"realtime": 0, "standard": 0, "bulk": 70}
    account = found["account:openai"]
    assert (account["in_flight"], account["max_in_flight"], account["allowed"]) == (4, 10, 6)
    assert account["blocked_until"] is not None
    alone = await sluice("limits", "list", "project:acme/search")
    assert (alone.code, "project:acme/search" in alone.out) == (0, True)
    assert "4 of 10, learnt 6" in (await sluice("limits", "list")).out
    wrong = await sluice("limits", "list", "tenat:acme")
    assert (wrong.code, "no kind of scope" in wrong.err) == (2, True)


async def _spent(pool: asyncpg.Pool, *, output_tokens: int, provider_ms: int) -> None:
    """A call of `acme` from `fast`, as finance sees it."""
    await pool.execute(
        "insert into finance.usage (usage_id, job_id, attempt, recorded_at, started_at, ended_at, tenant,"
        " project, tags, provider, account, model_requested, provider_model, operation, class, input_tokens,"
        " cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, usage_source, meters, cost_usd,"
        " list_cost_usd, price_version, outcome, provider_ms) values ($1, $2, 1, now(), now(), now(), 'acme',"
        " 'search', '{}', 'openai', 'openai', 'fast', 'm', 'chat', 'bulk', 5, 0, 0, $3, 0, 'reported', '[]',"
        " 0.1, 0.1, 'v', 'succeeded', $4)",
        uuid7(),
        uuid4(),
        output_tokens,
        provider_ms,
    )


def _file(path: Path, lines: list[dict[str, Any]], *more: str) -> str:
    path.write_text("\n".join([*(json.dumps(line) for line in lines), *more]) + "\n")
    return str(path)


async def test_a_file_is_checked_against_the_ledger_and_nothing_is_sent(
    sluice: Shell, tmp_path: Path
) -> None:
    _limited(sluice)
    await sluice("config", "apply")
    await _spent(sluice.pool, output_tokens=10, provider_ms=2_000)
    await _spent(sluice.pool, output_tokens=30, provider_ms=4_000)
    body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 500}
    file = _file(tmp_path / "in.jsonl", [{"body": body}] * 100)
    found = (await sluice("submit", file, "--check", "--tenant", "acme", "--json")).json
    assert (found["ok"], found["jobs"], found["output_tokens"]) == (True, 100, 2_000)
    (budget,) = found["budgets"]
    assert (budget["scope"], budget["remaining_usd"]) == ("tenant:acme", "2.000000000")
    assert (budget["enough"], budget["expected_usd"]) == (True, found["expected_usd"])
    assert (found["binds"]["scope"], found["seconds"]) == ("account:openai", 100 * 3 / 8)
    await sluice("budgets", "set", "tenant:acme", "--usd", "0.01", "--reason", "test")
    ran = await sluice("submit", file, "--check", "--tenant", "acme")
    assert ran.code == 1
    assert "too little" in ran.out
    assert ran.out.splitlines()[-1].startswith("NOT fine: 100 jobs, expected to cost 0.02")
    assert await sluice.pool.fetchval("select count(*) from sluice.jobs") == 0
    assert not (tmp_path / "in.errors.jsonl").exists()


async def test_bad_lines_and_refusals_are_told_without_any_server(
    sluice: Shell, tmp_path: Path
) -> None:
    _limited(sluice)
    for name in ("SLUICE_KAFKA", "SLUICE_DATABASE"):
        del sluice.environment[name]
    body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
    image = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}]}
    ]
    lines = [
        {"body": body},
        {"body": {**body, "model": "smart"}},
        {"body": {**body, "messages": image}},
    ]
    file = _file(tmp_path / "in.jsonl", lines, "{broken")
    ran = await sluice("submit", file, "--check", "--tenant", "acme", "--json")
    found = json.loads(ran.out)
    assert (ran.code, found["ok"], found["jobs"]) == (1, False, 2)
    assert "line 4: not JSON" in found["bad_lines"][0]
    (refused,) = found["refused"]
    assert (refused["code"], refused["lines"]) == ("forbidden", [2])
    assert refused["rule"] == 'tenant acme: policy.models.deny "smart"'
    (endless,) = found["unbounded"]
    assert ("remote image" in endless["reason"], endless["lines"]) == (True, [3])
    assert found["budgets"][0]["verdict"] == "refuses 1 jobs whose cost has no bound"
    assert "set SLUICE_KEY" in " ".join(found["notes"])
    plain = await sluice("submit", file, "--check", "--tenant", "acme")
    assert "line 4: not JSON" in plain.out
    assert "1 jobs would be refused" in plain.out
    other = await sluice("submit", file, "--check", "--tenant", "acne")
    assert (other.code, 'did you mean "acme"?' in other.err) == (1, True)
