"""A job whose key is refused goes on with another at once, and its target is not blamed."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import structlog
from tests.unit.worker.worker_world import flight, router_of, running, way_of
from tests.waiting import eventually

from sluice_core.admission.expectations import Expectations
from sluice_core.config.load import parse_for_pool
from sluice_core.config.model import Config
from sluice_core.jobs.model import State
from sluice_core.pricing.book import PriceBook
from sluice_core.settlement.model import Report
from sluice_providers.http import Transport
from sluice_schemas.errors import ErrorCode
from sluice_worker.call import CallStep
from sluice_worker.escalate import Escalation
from sluice_worker.flight import Flight
from sluice_worker.keyring import Keyring
from sluice_worker.load import Load
from sluice_worker.resolve import Resolver
from sluice_worker.route import Router
from sluice_worker.targets import Targets

BOOK = PriceBook()
ENVIRON = {"A": "key-a", "B": "key-b", "C": "key-c"}


def config(url: str, keys: str = '["${A}", "${B}"]', **more: str) -> Config:
    also = "".join(f", {name}: {value}" for name, value in more.items())
    text = f"""
providers: {{openai: {{kind: openai, base_url: "{url}", api_keys: {keys}{also}}}}}
models: {{fast: {{targets: [{{account: openai}}]}}}}
"""
    return parse_for_pool(text, "default", ENVIRON)


class Paper:
    """Takes note of what becomes of flights."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.reports: list[Report] = []

    def end(self, _flight: object, state: State, *, report: Report, **_: object) -> None:
        self.said.append(state.name.lower())
        self.reports.append(report)

    def again(self, _flight: object, report: Report) -> None:
        self.said.append("again")
        self.reports.append(report)

    def retry(self, _flight: object, report: Report, *, run_at: float) -> None:
        self.said.append("retry")
        self.reports.append(report)


class Silent:
    """Deltas that nobody listens to."""

    def channel(self, _flight: object) -> None:
        return None


@asynccontextmanager
async def provider(
    statuses: dict[str, int], used_up: Collection[str] = ()
) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that answers each key with its status, and whether its rate is used up; and which keys came."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            except asyncio.IncompleteReadError:
                break
            lines = dict(line.split(": ", 1) for line in head.split("\r\n") if ": " in line)
            await reader.readexactly(int(lines["content-length"]))
            key = lines["authorization"].removeprefix("bearer ")
            seen.append(key)
            status = statuses.get(key, 200)
            body = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'
            left = b"x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 9s\r\n"
            more = left if key in used_up else b""
            writer.write(
                b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, more, len(body), body)
            )
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", seen


async def called(step: CallStep, router: Any, made: Flight, attempt: int) -> None:
    made.route = way_of(router, made.job)
    router.started(made.route, made.job.admitted_at)
    step.start(made, attempt)
    assert made.task is not None
    await made.task


def step_of(router: Any, paper: Paper, transport: Transport) -> CallStep:
    return CallStep(
        transport,
        cast("Any", paper),
        cast("Any", Silent()),
        answer_bytes=1_000_000,
        finished=lambda _flight: None,
        load=Load(Expectations(), router),
        router=router,
        escalation=Escalation(),
        repeatable=lambda *_: None,
        gave_up=lambda _: None,
        hedge=lambda _: None,
        hold=lambda _: None,
    )


async def test_a_refused_key_is_followed_by_another_at_once() -> None:
    paper = Paper()
    async with Transport() as transport, provider({"key-a": 401}) as (url, seen):
        router = router_of(config(url), BOOK)
        step = step_of(router, paper, transport)
        one = flight()
        await called(step, router, one, 1)
        await called(step, router, one, 2)
        for _ in range(4):
            await called(step, router, flight(), 1)
    assert paper.said == ["again", "succeeded", *["succeeded"] * 4]
    assert seen == ["key-a", *["key-b"] * 5]


async def test_once_all_keys_are_refused_the_target_is_shut() -> None:
    paper = Paper()
    async with (
        Transport() as transport,
        provider(dict.fromkeys(("key-a", "key-b"), 401)) as (
            url,
            seen,
        ),
    ):
        router = router_of(config(url), BOOK)
        step = step_of(router, paper, transport)
        for _ in range(4):
            await called(step, router, flight(), 1)
        chosen = router.choose(flight().job, flight().job.admitted_at)
    assert paper.said == ["again", *["retry"] * 3]
    assert "its breaker is open" in cast("Any", chosen).why
    assert len(seen) == 4


async def test_a_limited_key_pauses_no_target() -> None:
    paper = Paper()
    async with Transport() as transport, provider({"key-a": 429}) as (url, seen):
        router = router_of(config(url), BOOK)
        one = flight()
        await called(step_of(router, paper, transport), router, one, 1)
        way_of(router, flight().job)
    assert paper.said == ["again"]
    assert paper.reports[0].cool_until is None
    assert paper.reports[0].pressure is None
    assert seen == ["key-a"]


async def test_a_key_whose_rate_is_used_up_pauses_no_target() -> None:
    paper = Paper()
    async with Transport() as transport, provider({}, used_up={"key-a"}) as (url, seen):
        router = router_of(config(url), BOOK)
        step = step_of(router, paper, transport)
        for _ in range(4):
            await called(step, router, flight(), 1)
    assert paper.said == ["succeeded"] * 4
    assert [report.cool_until for report in paper.reports] == [None] * 4
    assert seen == ["key-a", *["key-b"] * 3]


async def test_keys_are_taken_away_and_added_while_jobs_run() -> None:
    paper = Paper()
    async with Transport() as transport, provider({"key-a": 401}) as (url, seen):
        router = router_of(config(url), BOOK)
        step = step_of(router, paper, transport)
        held = flight()
        held.route = way_of(router, held.job)
        router.change(config(url, '["${B}", "${C}"]'))
        for _ in range(4):
            await called(step, router, flight(), 1)
        assert set(seen) == {"key-b", "key-c"}
        router.change(config(url, '["${C}"]'))
        seen.clear()
        for _ in range(2):
            await called(step, router, flight(), 1)
        assert set(seen) == {"key-c"}
        router.change(config(url, '["${A}", "${C}"]'))
        one = flight()
        await called(step, router, one, 1)
    assert seen[-1] == "key-a"
    assert paper.said[-1] == "again"


@asynccontextmanager
async def token_endpoint(life_s: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Gives tokens t1, t2, … and what it was sent."""
    sent: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        sent.append(await reader.readexactly(size))
        body = b'{"access_token":"t%d","expires_in":%d}' % (len(sent), life_s)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token", sent


def with_entra(url: str, token_url: str) -> Config:
    text = f"""
providers:
  openai:
    kind: openai
    base_url: "{url}"
    entra: {{tenant_id: t, client_id: c, client_secret: "${{A}}", token_url: "{token_url}"}}
models: {{fast: {{targets: [{{account: openai}}]}}}}
"""
    return parse_for_pool(text, "default", ENVIRON)


def router_with(config: Config, keyring: Keyring) -> Router:
    resolver = Resolver(config, BOOK, pool="default", keyring=keyring)
    return Router(resolver, Targets(lambda: None), Expectations())


async def test_a_token_is_there_before_the_first_job_and_renewed_while_jobs_run() -> None:
    paper = Paper()
    async with (
        Transport() as transport,
        provider({}) as (url, seen),
        token_endpoint(life_s=3600) as (token_url, sent),
    ):
        keyring = Keyring(transport)
        router = router_with(with_entra(url, token_url), keyring)
        async with running(keyring.run()):
            await eventually(lambda: bool(sent))
            step = step_of(router, paper, transport)
            for _ in range(5):
                await called(step, router, flight(), 1)
            # Another configuration that says the same of the account keeps its token.
            router.change(with_entra(url, token_url))
            await called(step, router, flight(), 1)
    assert paper.said == ["succeeded"] * 6
    assert seen == ["t1"] * 6
    assert len(sent) == 1
    assert b"client_secret=key-a" in sent[0]


async def test_without_a_token_a_job_is_tried_again_and_costs_nothing() -> None:
    paper = Paper()
    async with Transport() as transport:
        router = router_with(
            with_entra("http://127.0.0.1:1/v1", "http://127.0.0.1:1/token"), Keyring(transport)
        )
        step = step_of(router, paper, transport)
        await called(step, router, flight(), 1)
    assert paper.said == ["retry"]
    assert paper.reports[0].money == "none"
    problem = paper.reports[0].problem
    assert problem is not None
    assert problem.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert "no token" in problem.message


async def test_a_file_of_keys_is_followed_and_never_to_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("key-a\n")
    text = f"""
providers: {{openai: {{kind: openai, base_url: "http://x", api_key_file: "{file}"}}}}
models: {{fast: {{targets: [{{account: openai}}]}}}}
"""
    keyring = Keyring()
    router = router_with(parse_for_pool(text, "default", {}), keyring)
    route = way_of(router, flight().job)
    assert route.credentials.take(0.0) == "key-a"
    async with running(keyring.run()):
        file.write_text("key-b\n\nkey-c\n")
        await eventually(lambda: route.credentials.take(0.0) in {"key-b", "key-c"})
        with structlog.testing.capture_logs() as logs:
            file.write_text("\n")
            await eventually(lambda: bool(logs))
    assert [entry["event"] for entry in logs] == ["key.file_not_read"]
    assert {route.credentials.take(0.0) for _ in range(2)} == {"key-b", "key-c"}
