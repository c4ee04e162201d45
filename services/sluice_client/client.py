"""The client: jobs go to Kafka, results and streams come back over the tenant's reply topic."""

import asyncio
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Self, Unpack

from sluice_client.arguments import as_job, as_jobs, patience_s, split_key
from sluice_client.connection import Connection, variable
from sluice_client.envelope import Envelopes, SigningKey
from sluice_client.errors import JobFailed, NotAccepted, NotConfigured, ReplyTimeout, ResultTooLarge
from sluice_client.fetch import fetch
from sluice_client.mapping import Slot, run_map
from sluice_client.model import (
    ClassName,
    EventName,
    Finished,
    Job,
    JobOptions,
    Result,
    Submitted,
    read_result,
)
from sluice_client.stream import Inbox, Stream
from sluice_client.waiting import Answer, Waiter
from sluice_client.wire import Wire
from sluice_schemas.classes import JobClass
from sluice_schemas.signature import CallerName, hmac_key
from sluice_schemas.topics import DEFAULT_PREFIX, RECORD_OVERHEAD_BYTES, Topics


class Client:
    """`async with Client("host:9092", tenant="acme") as client:` speaks to the gateway over Kafka.

    With `key_id` and `secret` every record is signed. `reply_topic` (default: the tenant's own) has
    to be on the tenant's list. Replies are read from the first call on that needs one. `api` is the
    address of an HTTP edge, where results are read that do not fit in a record. `record_bytes` is
    the gateway's `limits.record_bytes`.
    """

    def __init__(
        self,
        connection: str | Connection,
        *,
        tenant: str,
        key_id: str | None = None,
        secret: str | None = None,
        prefix: str = DEFAULT_PREFIX,
        reply_topic: str | None = None,
        source: str = "/sluice_client",
        api: str | None = None,
        record_bytes: int = 8 * 1024**2,
    ) -> None:
        if isinstance(connection, str):
            connection = Connection(bootstrap=connection)
        if (key_id is None) != (secret is None):
            raise NotConfigured("key_id and secret go together")
        key = None
        if key_id is not None and secret is not None:
            key = SigningKey(id=key_id, material=hmac_key(secret))
        self._topics = Topics(prefix=prefix)
        self._job_topics = {known.label: self._topics.jobs(known) for known in JobClass}
        self._reply_topic = reply_topic or self._topics.replies(tenant)
        self._envelopes = Envelopes(tenant=tenant, source=source, key=key)
        self._secret = secret
        self._api = api
        self._wire = Wire(
            connection.arguments,
            reply_topic=self._reply_topic,
            max_request_size=record_bytes + RECORD_OVERHEAD_BYTES,
        )

    @classmethod
    def from_environment(
        cls,
        *,
        tenant: str = "default",
        environ: Mapping[str, str] | None = None,
        prefix: str = DEFAULT_PREFIX,
        reply_topic: str | None = None,
        source: str = "/sluice_client",
    ) -> Self:
        """A client as the environment says; NotConfigured names what is missing.

        `SLUICE_KAFKA` and `SLUICE_KAFKA_…` (the connection), `SLUICE_KEY` (`id:secret`, absent:
        unsigned), `SLUICE_API`; each may be `NAME_FILE`, the path of a file.
        """
        environ = os.environ if environ is None else environ
        key_id, secret = split_key(variable(environ, "SLUICE_KEY"))
        return cls(
            Connection.from_environment(environ),
            tenant=tenant,
            key_id=key_id,
            secret=secret,
            prefix=prefix,
            reply_topic=reply_topic,
            source=source,
            api=variable(environ, "SLUICE_API"),
        )

    async def __aenter__(self) -> Self:
        await self._wire.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wire.__aexit__()

    async def submit(
        self,
        body: Mapping[str, Any] | Job,
        *,
        job_class: ClassName = "standard",
        on_behalf_of: CallerName | None = None,
        **options: Unpack[JobOptions],
    ) -> Submitted:
        """Hand a job to Kafka and return once Kafka has it; its result goes to the results topic.

        Raises NotAccepted.
        """
        outgoing, submitted = self._envelopes.job(
            as_job(body, options),
            topic=self._jobs_topic(job_class),
            now=time.time(),
            on_behalf_of=on_behalf_of,
        )
        await self._wire.deliver(outgoing)
        return submitted

    async def complete(
        self,
        body: Mapping[str, Any] | Job,
        *,
        job_class: ClassName = "realtime",
        timeout: float | None = None,  # noqa: ASYNC109 - of the reply, not of the coroutine
        on_behalf_of: CallerName | None = None,
        **options: Unpack[JobOptions],
    ) -> Result:
        """Send a job and wait for its result.

        `timeout` in seconds; without one, a little more than the job's own deadline. Raises
        JobFailed for every state but `succeeded`, ResultTooLarge, ReplyTimeout, NotAccepted.
        """
        return await self._ask(
            as_job(body, options), job_class, timeout, event=None, on_behalf_of=on_behalf_of
        )

    async def attach(
        self,
        body: Mapping[str, Any] | Job,
        *,
        job_class: ClassName = "realtime",
        event: EventName | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the reply, not of the coroutine
        on_behalf_of: CallerName | None = None,
        **options: Unpack[JobOptions],
    ) -> Result:
        """Wait for a job that was sent before, by this process or another.

        The same body is sent under the same `idempotency_key`, or under the `event` that
        `Submitted` holds; the gateway joins the wait or sends the stored result again, and nothing
        is paid twice. A job that it does not know is done now. Raises as `complete` does, and
        ValueError without a key or an event.
        """
        job = as_job(body, options)
        if event is None and "idempotency_key" not in job.options:
            raise ValueError("attach needs the job's idempotency_key or its event")
        return await self._ask(job, job_class, timeout, event=event, on_behalf_of=on_behalf_of)

    def stream(
        self,
        body: Mapping[str, Any] | Job,
        *,
        job_class: ClassName = "realtime",
        timeout: float | None = None,
        on_behalf_of: CallerName | None = None,
        **options: Unpack[JobOptions],
    ) -> Stream:
        """The chunks of a streamed answer; `stream: true` is set in the body. See `Stream`."""
        job = as_job(body, options)
        job = replace(job, body={**job.body, "stream": True})

        async def start(inbox: Inbox) -> Submitted:
            return await self._begin(job, job_class, inbox, on_behalf_of=on_behalf_of)

        return Stream(start, self._wire.forget, timeout_s=patience_s(job, job_class, timeout))

    async def map(
        self,
        jobs: Iterable[Mapping[str, Any] | Job] | AsyncIterable[Mapping[str, Any] | Job],
        *,
        job_class: ClassName = "bulk",
        concurrency: int = 1000,
        run_id: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the reply, not of the coroutine
    ) -> AsyncIterator[Finished]:
        """Send many jobs, at most `concurrency` at a time, and yield each with its result.

        Results come as they finish and whatever their state. Where jobs have idempotency keys, a
        map that was broken off is resumed by running it again: what is done is sent again, not
        called again. `run_id` is set on jobs that have none. Raises ReplyTimeout where one job has
        no result within `timeout` seconds (default: a little more than its deadline).
        """

        async def begin(slot: Slot) -> None:
            submitted = await self._begin(slot.job, job_class, slot, many=True)
            slot.arm(submitted, patience_s(slot.job, job_class, timeout))

        prepared = as_jobs(jobs, run_id)
        results = run_map(prepared, begin, self._wire.forget, concurrency=concurrency)
        async with aclosing(results):
            async for finished in results:
                yield finished

    async def cancel(
        self,
        *,
        id: str | None = None,  # noqa: A002 - the contract's name
        idempotency_key: str | None = None,
        run_id: str | None = None,
        on_behalf_of: CallerName | None = None,
    ) -> None:
        """Ask for the end of one job, or of every job of a run; returns once Kafka has the wish.

        A cancel that comes before its job counts. Raises ValueError unless exactly one is named.
        """
        named = {"id": id, "idempotency_key": idempotency_key, "run_id": run_id}
        value = {name: str(text) for name, text in named.items() if text is not None}
        if len(value) != 1:
            raise ValueError("name exactly one of id, idempotency_key and run_id")
        outgoing = self._envelopes.control(
            value, topic=self._topics.control, now=time.time(), on_behalf_of=on_behalf_of
        )
        await self._wire.deliver(outgoing)

    async def _ask(
        self,
        job: Job,
        job_class: ClassName,
        limit_s: float | None,
        *,
        event: EventName | None,
        on_behalf_of: CallerName | None,
    ) -> Result:
        limit = patience_s(job, job_class, limit_s)
        answer = Answer()
        submitted: Submitted | None = None
        try:
            async with asyncio.timeout(limit):
                submitted = await self._begin(
                    job, job_class, answer, event=event, on_behalf_of=on_behalf_of
                )
                reply = await answer.future
        except TimeoutError:
            if submitted is None:
                raise NotAccepted(f"Kafka did not take the record within {limit:g} s") from None
            raise ReplyTimeout(submitted, limit) from None
        finally:
            if submitted is not None:
                self._wire.forget(submitted)
        result = await self._whole(read_result(reply.value, reply.headers))
        if not result.succeeded:
            raise JobFailed(result)
        return result

    async def _begin(
        self,
        job: Job,
        job_class: ClassName,
        waiter: Waiter,
        *,
        event: EventName | None = None,
        on_behalf_of: CallerName | None = None,
        many: bool = False,
    ) -> Submitted:
        outgoing, submitted = self._envelopes.job(
            job,
            topic=self._jobs_topic(job_class),
            now=time.time(),
            reply_to=self._reply_topic,
            event=event,
            on_behalf_of=on_behalf_of,
        )
        await self._wire.begin(outgoing, submitted, waiter, many=many)
        return submitted

    async def _whole(self, result: Result) -> Result:
        """The result with its body, fetched where it did not fit in the record."""
        if result.dataref is None:
            return result
        if self._api is None:
            raise ResultTooLarge(result)
        try:
            value = await fetch(self._api, result.dataref, self._secret)
        except OSError as exc:
            raise ResultTooLarge(result) from exc
        return replace(read_result(value, {}), duplicate=result.duplicate)

    def _jobs_topic(self, job_class: str) -> str:
        topic = self._job_topics.get(job_class)
        if topic is None:
            raise ValueError(
                f"no class {job_class!r}; the classes are {', '.join(self._job_topics)}"
            )
        return topic
