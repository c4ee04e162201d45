"""The client against a running gateway: results, streams, maps, cancels, keys."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from tests.conftest import Template
from tests.system import System, database_from
from tests.waiting import eventually

from sluice_client import (
    Client,
    EventName,
    Job,
    JobFailed,
    RepliesUnreadable,
    ReplyTimeout,
    Result,
    ResultTooLarge,
    StreamInterrupted,
)
from sluice_client.replies import ReplyReader
from sluice_client.waiting import Answer
from sluice_devstack.stack import Stack
from sluice_schemas.identity import id_by_event, id_by_key
from sluice_schemas.signature import CallerName

pytestmark = [pytest.mark.stack, pytest.mark.acceptance, pytest.mark.xdist_group("client")]


@pytest.fixture(scope="module")
async def system(stack: Stack, migrated_template: Template) -> AsyncIterator[System]:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(
            stack,
            database_dsn=dsn,
            kafka_prefix=f"c{uuid4().hex[:6]}.",
            workers=2,
            config={
                "tenants": {
                    "acme": {
                        "teams": {"ml": {}},
                        "projects": {"web": {"team": "ml", "apps": ["a"]}},
                    }
                }
            },
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
async def client(system: System) -> AsyncIterator[Client]:
    async with Client(
        system.stack.kafka.bootstrap, tenant="default", prefix=system.topics.prefix
    ) as open_client:
        yield open_client


def say(text: str, model: str = "fast") -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def answer_of(body: dict[str, object]) -> str:
    return body["choices"][0]["message"]["content"]  # type: ignore[index, no-any-return]


async def test_complete_returns_the_answer_and_what_it_cost(client: Client) -> None:
    result = await client.complete(Job(body=say("hello"), custom_id="row-1"))
    assert result.succeeded
    assert answer_of(result.body) == "You said: hello"
    assert result.custom_id == "row-1"
    assert result.usage["input_tokens"] == 2
    assert result.report["class"] == "realtime"
    assert not result.duplicate


async def test_the_job_id_is_known_before_the_job_ends(client: Client, system: System) -> None:
    submitted = await client.submit(say("by event"))
    assert submitted.id == id_by_event("default", submitted.event.source, submitted.event.id)
    key = uuid4().hex
    keyed = await client.submit(say("by key"), idempotency_key=key)
    assert keyed.id == id_by_key("default", key)
    results = await system.consume(system.topics.results("default"))
    for job_id in (submitted.id, keyed.id):
        await results.wait_for(partial(results.by_key, str(job_id).encode()))


@pytest.mark.parametrize("model", ["fast", "smart"])
async def test_stream_yields_chunks_and_ends_with_the_result(client: Client, model: str) -> None:
    stream = client.stream(say("one two three four five", model))
    chunks = [chunk async for chunk in stream]
    text = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert text == "You said: one two three four five"
    assert answer_of(stream.result.body) == text
    assert stream.result.report["deltas"] >= 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


async def test_a_failed_job_raises_with_its_result(client: Client) -> None:
    with pytest.raises(JobFailed) as caught:
        await client.complete(say("no", "gpt-4o-mini@status=400"))
    assert caught.value.code == "provider_error"
    assert caught.value.result.status_code == 400
    assert caught.value.result.body["error"]


async def test_a_stream_that_the_provider_breaks_is_interrupted(
    client: Client, system: System
) -> None:
    mark = uuid4().hex
    await system.mock.rule("fault=cut_stream,after=3,chunk_delay=20ms", match={"body": mark})
    chunks = []
    with pytest.raises(StreamInterrupted) as caught:
        async for chunk in client.stream(say(f"{mark} two three four")):
            chunks.append(chunk)  # noqa: PERF401 - what was read before the error is the point
    assert chunks
    assert caught.value.result is not None
    assert caught.value.result.state == "failed"


async def test_a_result_too_large_for_a_record_names_the_command(
    client: Client, system: System
) -> None:
    mark = uuid4().hex
    await system.mock.rule("size=9mb", match={"body": mark})
    with pytest.raises(ResultTooLarge, match="sluice jobs result") as caught:
        await client.complete(say(mark))
    assert caught.value.result.state == "succeeded"
    assert caught.value.result.dataref == f"/v1/jobs/{caught.value.result.id}/result"


async def test_map_ends_every_job_and_a_second_map_calls_nobody(
    client: Client, system: System
) -> None:
    run = uuid4().hex

    async def run_all() -> Counter[str]:
        states: Counter[str] = Counter()
        for job_class in ("realtime", "standard", "bulk"):
            jobs = (
                Job(
                    body=say(f"{run} {job_class} {n}"),
                    custom_id=f"{job_class}-{n}",
                    options={"idempotency_key": f"{run}-{job_class}-{n}"},
                )
                for n in range(167)
            )
            seen = set()
            async for job, result in client.map(
                jobs, job_class=job_class, concurrency=100, run_id=run
            ):
                assert result.custom_id == job.custom_id
                assert answer_of(result.body).endswith(str(job.body["messages"][0]["content"]))
                assert result.report["run_id"] == run
                seen.add(result.custom_id)
                states[result.state + (" again" if result.duplicate else "")] += 1
            assert len(seen) == 167
        return states

    before = len(await system.mock.requests())
    assert await run_all() == {"succeeded": 501}
    assert len(await system.mock.requests()) - before == 501
    assert await run_all() == {"succeeded again": 501}
    assert len(await system.mock.requests()) - before == 501


async def test_map_keeps_at_most_so_many_under_way(client: Client) -> None:
    taken = 0

    async def jobs() -> AsyncIterator[Job]:
        nonlocal taken
        for n in range(30):
            taken += 1
            yield Job(body=say(f"bounded {n}"))

    done = 0
    async for _ in client.map(jobs(), concurrency=5):
        done += 1
        assert taken <= done + 6
    assert done == 30


async def test_cancel_answers_a_running_job_at_once(client: Client, system: System) -> None:
    key, mark = uuid4().hex, uuid4().hex
    await system.mock.rule("latency=20s", match={"body": mark})
    asking = asyncio.create_task(client.complete(say(mark), idempotency_key=key))
    job_id = str(id_by_key("default", key))

    async def called() -> bool:
        return bool(await system.mock.calls_of(job_id))

    await eventually(called)
    began = time.monotonic()
    await client.cancel(id=job_id)
    with pytest.raises(JobFailed) as caught:
        await asking
    assert time.monotonic() - began < 5
    assert caught.value.result.state == "cancelled"
    assert caught.value.code == "cancelled"


async def test_a_cancel_may_come_before_its_job(client: Client, system: System) -> None:
    key = uuid4().hex
    await client.cancel(idempotency_key=key)

    async def known() -> object:
        return await system.pool.fetchval(
            "select 1 from sluice.cancels where uuid = $1", id_by_key("default", key)
        )

    await eventually(known)
    with pytest.raises(JobFailed) as caught:
        await client.complete(say("too late"), idempotency_key=key)
    assert caught.value.result.state == "cancelled"
    assert not await system.mock.calls_of(str(caught.value.result.id))


async def test_cancel_of_a_run_ends_what_waits(client: Client, system: System) -> None:
    run, mark = uuid4().hex, uuid4().hex
    await system.mock.rule("status=503,retry_after=60", match={"body": mark})
    asking = [
        asyncio.create_task(client.complete(say(f"{mark} {n}"), run_id=run, timeout_s=300.0))
        for n in range(3)
    ]

    async def waiting() -> bool:
        count = await system.pool.fetchval(
            "select count(*) from sluice.jobs j join sluice.runs r on r.id = j.run"
            " where r.name = $1 and j.state = 4",
            run,
        )
        return bool(count == 3)

    await eventually(waiting)
    await client.cancel(run_id=run)
    for outcome in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(outcome, JobFailed)
        assert outcome.result.state == "cancelled"


async def test_attach_after_a_timeout_joins_the_same_job(client: Client, system: System) -> None:
    key, mark = uuid4().hex, uuid4().hex
    await system.mock.rule("latency=2s", match={"body": mark})
    with pytest.raises(ReplyTimeout, match="the job goes on") as caught:
        await client.complete(say(mark), idempotency_key=key, timeout=0.3)
    assert key in str(caught.value)
    async with Client(
        system.stack.kafka.bootstrap, tenant="default", prefix=system.topics.prefix
    ) as restarted:
        joined = await restarted.attach(say(mark), idempotency_key=key)
        again = await restarted.attach(say(mark), idempotency_key=key)
    assert joined.id == again.id == str(caught.value.submitted.id)
    assert again.duplicate
    assert len(await system.mock.calls_of(joined.id)) == 1


async def test_attach_by_the_event_of_a_job_without_a_key(client: Client, system: System) -> None:
    body = say(uuid4().hex)
    submitted = await client.submit(body)
    result = await client.attach(
        body, event=EventName(source=submitted.event.source, id=submitted.event.id)
    )
    assert result.id == str(submitted.id)
    assert len(await system.mock.calls_of(result.id)) == 1
    with pytest.raises(ValueError, match="idempotency_key"):
        await client.attach(body)


async def test_two_clients_of_a_tenant_get_their_own_replies(
    client: Client, system: System
) -> None:
    async with Client(
        system.stack.kafka.bootstrap, tenant="default", prefix=system.topics.prefix
    ) as other:
        asked = [
            (who, f"{who}-{n}", client if who == "a" else other)
            for n in range(40)
            for who in ("a", "b")
        ]
        answers = await asyncio.gather(*(c.complete(say(text)) for _, text, c in asked))
    for (_, text, _), result in zip(asked, answers, strict=True):
        assert answer_of(result.body) == f"You said: {text}"


async def _make_key(system: System, *arguments: str) -> tuple[str, str]:
    made = json.loads(await system.command("keys", "create", *arguments, "--json"))
    return made["id"], made["secret"]


async def test_signed_jobs_belong_to_the_keys_tenant(system: System) -> None:
    key_id, secret = await _make_key(system, "--tenant", "acme")
    async with Client(
        system.stack.kafka.bootstrap,
        tenant="acme",
        key_id=key_id,
        secret=secret,
        prefix=system.topics.prefix,
    ) as signed:
        result = await _once_known(signed, "signed")
        stream = signed.stream(say("signed stream"))
        assert [chunk async for chunk in stream]
    row = await system.pool.fetchrow(
        "select tenant, key_id from finance.usage where job_id = $1", result.id
    )
    assert tuple(row) == ("acme", key_id)


async def test_a_vouching_key_speaks_for_a_caller(system: System) -> None:
    replies = system.topics.replies("default")
    key_id, secret = await _make_key(
        system, "--tenant", "default", "--grant", "vouch", "--reply-topic", replies
    )
    caller = CallerName(tenant="acme", team="ml", project="web", app="a", user="joão")
    async with Client(
        system.stack.kafka.bootstrap,
        tenant="default",
        key_id=key_id,
        secret=secret,
        prefix=system.topics.prefix,
    ) as edge:
        await _once_known(edge, "as itself")
        result = await edge.complete(say("vouched"), on_behalf_of=caller)
    row = await system.pool.fetchrow(
        "select u.tenant, u.team, u.project, u.app, u.key_id, n.user_id is not null"
        " from finance.usage u left join finance.users n using (tenant, user_id)"
        " where job_id = $1",
        result.id,
    )
    assert tuple(row) == ("acme", "ml", "web", "a", key_id, True)


async def _once_known(client: Client, text: str) -> Result:
    """The first answer under a new key: until every worker has read it, its records are letters."""
    deadline = asyncio.get_running_loop().time() + 15
    while True:
        try:
            return await client.complete(say(text), timeout=2.0)
        except ReplyTimeout:
            assert asyncio.get_running_loop().time() < deadline


async def test_a_reply_topic_that_is_not_there(system: System) -> None:
    async with Client(
        system.stack.kafka.bootstrap, tenant="nobody", prefix=system.topics.prefix
    ) as stranger:
        with pytest.raises(RepliesUnreadable, match=r"replies\.nobody"):
            await stranger.complete(say("x"))


async def test_partitions_that_are_added_later_are_read_from_their_beginning(
    system: System,
) -> None:
    bootstrap = {"bootstrap_servers": system.stack.kafka.bootstrap}
    topic = f"{system.topics.prefix}growing"
    admin = AIOKafkaAdminClient(**bootstrap)
    producer = AIOKafkaProducer(**bootstrap, metadata_max_age_ms=200)
    await admin.start()
    await producer.start()
    completed = [("ce_type", b"com.sluicegate.job.completed.v1")]
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await producer.send_and_wait(topic, b"{}", key=b"a", headers=completed, partition=0)
        async with ReplyReader(bootstrap, topic, producer.partitions_for) as reader:
            answers = {name: Answer() for name in ("a", "b", "c")}
            for name, answer in answers.items():
                reader.router.expect(name, answer)
            await admin.create_partitions({topic: NewPartitions(3)})
            # A record may be in a new partition before the reader knows of it.
            await eventually(lambda: len(producer.client.cluster.partitions_for_topic(topic)) == 3)
            for name, partition in (("b", 2), ("c", 0)):
                await producer.send_and_wait(
                    topic, b"{}", key=name.encode(), headers=completed, partition=partition
                )
            async with asyncio.timeout(20):
                await asyncio.gather(answers["b"].future, answers["c"].future)
            assert not answers["a"].future.done()  # it came before the reader did
    finally:
        await producer.stop()
        await admin.close()


async def test_a_restart_of_the_broker_loses_no_reply(client: Client, system: System) -> None:
    mark = uuid4().hex
    await system.mock.rule("latency=1500ms", match={"body": mark})
    asking = [asyncio.create_task(client.complete(say(f"{mark} {n}"))) for n in range(20)]

    async def called() -> bool:
        return len(await system.pool.fetch("select from sluice.jobs where state = 3")) == 20

    await eventually(called)
    await system.stack.kafka.restart()
    results = await asyncio.gather(*asking)
    assert all(result.succeeded for result in results)
    assert (await client.complete(say("after"))).succeeded
