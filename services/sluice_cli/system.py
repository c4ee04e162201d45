"""The whole gateway on one machine: servers, mock provider, ledger, topics, workers and a keeper."""

import asyncio
import secrets
import socket
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final, Self

from sluice_cli.migrations import upgrade
from sluice_cli.output import Refused
from sluice_cli.provisions import Ports, at_port, kept_secret, with_mock
from sluice_cli.session import ledger, read_text
from sluice_cli.supervision import Report, ServerPart, keep_running
from sluice_cli.topics import create_topics
from sluice_core.config.load import Withheld, parse_config
from sluice_core.config.model import Config
from sluice_core.health.repository import HealthRepository
from sluice_core.operations.repository import OperatorRepository
from sluice_devstack.errors import log_tail
from sluice_devstack.ground import LOOPBACK
from sluice_devstack.kafka import EmbeddedKafka
from sluice_devstack.postgres import EmbeddedPostgres
from sluice_devstack.processes import Process, installed_command, scripts_environment
from sluice_devstack.stack import Stack
from sluice_platform.db import wait_for_database
from sluice_platform.kafka import wait_for_kafka
from sluice_platform.settings import Settings, load_settings

_READY_S: Final = 60.0
_POLL_S: Final = 0.1
_FRESH_S: Final = 5.0
_GRACE_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run: where its data lies, how many workers, and servers that are not embedded."""

    data: Path
    workers: int = 1
    kafka: str | None = None
    database: str | None = None
    config: Path | None = None


@dataclass(slots=True, kw_only=True)
class _Child:
    """A process of the gateway; started again when it ends by itself."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: dict[str, str]
    process: Process

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self.process.returncode

    async def start(self) -> None:
        """Start it again with the same command, appending to the same log."""
        self.process = launch(self.command, self.log, self.environment)


def launch(command: tuple[str, ...], log: Path, environment: dict[str, str]) -> Process:
    """A process of the gateway, given time to drain when it is stopped."""
    return Process(command, log=log, environment=environment, grace_s=_GRACE_S)


class System:
    """`async with System(plan, report) as system:` runs the gateway until the block is left.

    `report` is told each step in a line. Raises StartupError where a part cannot start. No child
    outlives this process, however it ends.
    """

    def __init__(self, plan: Plan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._exits = AsyncExitStack()
        self._children: list[_Child] = []
        self._embedded: list[ServerPart] = []
        self.environment: dict[str, str] = {}
        self.mock_url: str | None = None
        self.finance_dsn: str | None = None
        self.config_path = plan.data / "sluice.yaml"

    @property
    def settings(self) -> Settings:
        """What a process beside this one would read from the environment."""
        return load_settings(self.environment)

    @property
    def config(self) -> Config:
        """The configuration that runs, providers' keys withheld."""
        return parse_config(read_text(self.config_path), Withheld(), source=str(self.config_path))

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def _start(self) -> None:
        self._plan.data.mkdir(parents=True, exist_ok=True)
        ports = Ports(self._plan.data / "ports.json")
        self._configure(ports)
        await self._servers(ports)
        ports.save()
        await upgrade(self.environment["SLUICE_DATABASE"])
        self._report("ledger migrated")
        made = await create_topics(self.settings, self.config)
        self._report(f"topics: {len(made.created)} created, {len(made.existing)} were there")
        await self._finance_login()
        self._write_environment()
        await self._processes()

    def _configure(self, ports: Ports) -> None:
        """Settle which configuration runs, and whether the mock provider does."""
        packaged = files("sluice_cli.demo").joinpath("sluice.yaml").read_text(encoding="utf-8")
        mock = ports.take("mock")
        if self._plan.config is not None:
            self.config_path = self._plan.config
            text = read_text(self._plan.config)
            if not parse_config(text, Withheld(), source=str(self._plan.config)).providers:
                self.config_path = self._plan.data / "sluice.with-mock.yaml"
                self.config_path.write_text(with_mock(text, packaged, mock), encoding="utf-8")
        elif not self.config_path.exists():
            self.config_path.write_text(at_port(packaged, mock), encoding="utf-8")
        address = f"http://{LOOPBACK}:{mock}"
        if any(p.url.startswith(address) for p in self.config.providers.values()):
            self.mock_url = address

    async def _servers(self, ports: Ports) -> None:
        plan = self._plan
        kafka = None if plan.kafka else EmbeddedKafka(plan.data / "kafka", port=ports.take("kafka"))
        postgres = (
            None
            if plan.database
            else EmbeddedPostgres(plan.data / "postgres", port=ports.take("postgres"))
        )
        if kafka is not None and postgres is not None:
            await self._exits.enter_async_context(Stack(plan.data, kafka=kafka, postgres=postgres))
        elif kafka is not None:
            await self._exits.enter_async_context(kafka)
        elif postgres is not None:
            await self._exits.enter_async_context(postgres)
        self._embedded = [
            ServerPart(name=name, server=server)
            for name, server in (("PostgreSQL", postgres), ("Kafka", kafka))
            if server is not None
        ]
        bootstrap = plan.kafka if kafka is None else kafka.bootstrap
        dsn = plan.database if postgres is None else postgres.dsn
        assert bootstrap is not None
        assert dsn is not None
        self.environment = {
            "SLUICE_KAFKA": bootstrap,
            "SLUICE_DATABASE": dsn,
            "SLUICE_CONFIG": str(self.config_path.resolve()),
            "SLUICE_MASTER_KEY": kept_secret(plan.data / "master.key", secrets.token_hex(32)),
        }
        await wait_for_database(dsn, _READY_S)
        await wait_for_kafka(self.settings, _READY_S)
        self._report("Kafka and PostgreSQL answer")

    async def _finance_login(self) -> None:
        """Give finance's role a password, where the server is our own."""
        if self._plan.database is not None:
            return
        password = kept_secret(self._plan.data / "finance.password", secrets.token_hex(12))
        async with ledger(self.settings) as pool:
            await OperatorRepository(pool).set_finance_password(password)
        place = self.environment["SLUICE_DATABASE"].rpartition("@")[2]
        self.finance_dsn = f"postgresql://sluice_finance:{password}@{place}"

    def _write_environment(self) -> None:
        """A file that a shell reads to become a client of this system."""
        lines = "".join(f"export {name}='{value}'\n" for name, value in self.environment.items())
        path = self._plan.data / "env"
        path.touch(mode=0o600)
        path.write_text(lines, encoding="utf-8")

    async def _processes(self) -> None:
        if self.mock_url is not None:
            port = self.mock_url.rpartition(":")[2]
            self._run("mock-provider", ("mock-provider", "--port", port), {})
            await self._listens(int(port))
        own = "worker" if self._plan.kafka is None else f"{socket.gethostname()}-up"
        names = {f"{own}-{number}" for number in range(1, self._plan.workers + 1)}
        for name in sorted(names):
            self._run(name, ("worker",), {"SLUICE_WORKER_NAME": name})
        self._run("keeper", ("keeper",), {})
        await self._until_ready(names)

    def _run(self, name: str, arguments: tuple[str, ...], extra: dict[str, str]) -> None:
        command = (installed_command("sluice"), *arguments)
        log = self._plan.data / "logs" / f"{name}.log"
        environment = scripts_environment({**self.environment, **extra})
        child = _Child(
            name=name,
            command=command,
            log=log,
            environment=environment,
            process=launch(command, log, environment),
        )
        if not self._children:
            self._exits.push_async_callback(self._stop_children)
        self._children.append(child)

    async def _stop_children(self) -> None:
        # The mock provider was started first and is left last: calls in flight still end.
        for group in (
            (self._children[1:], self._children[:1]) if self.mock_url else (self._children,)
        ):
            await asyncio.gather(*(child.process.stop() for child in group))

    async def _listens(self, port: int) -> None:
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            self._require_running()
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, port)
            except OSError:
                await asyncio.sleep(_POLL_S)
                continue
            writer.close()
            self._report(f"mock provider at {self.mock_url}")
            return
        raise Refused(f"the mock provider does not listen on port {port}: see its log")

    async def _until_ready(self, names: set[str]) -> None:
        """Wait until every process beats in the ledger; raise with the log of one that ended."""
        deadline = time.monotonic() + _READY_S
        async with ledger(self.settings) as pool:
            health = HealthRepository(pool)
            while time.monotonic() < deadline:
                self._require_running()
                fresh = [p for p in await health.processes() if p.beat_age_s < _FRESH_S]
                if names <= {p.name for p in fresh} and any(p.kind == "keeper" for p in fresh):
                    self._report(f"{len(names)} workers and a keeper at work")
                    return
                await asyncio.sleep(_POLL_S)
        raise Refused(
            f"workers and keeper were not ready within {_READY_S:g} s: see {self._plan.data / 'logs'}"
        )

    def _require_running(self) -> None:
        for child in self._children:
            if child.process.returncode is not None:
                raise Refused(
                    f"{child.name} ended with status {child.process.returncode}. "
                    f"The end of {child.log}:\n{log_tail(child.log)}"
                )

    async def supervise(self, stop: asyncio.Event) -> None:
        """Start again what ends by itself, servers of our own too, until `stop` is set."""
        await keep_running([*self._embedded, *self._children], stop, self._report)
