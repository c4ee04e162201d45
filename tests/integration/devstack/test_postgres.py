import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from sluice_devstack.errors import BinariesMissing, DataDirectoryInUse, PortBusy, ServerFailed
from sluice_devstack.postgres import EmbeddedPostgres

pytestmark = pytest.mark.stack

_DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sluice-postgres-"))
    yield path
    shutil.rmtree(path)


async def _fetch(server: EmbeddedPostgres, statement: str) -> object:
    connection = await asyncpg.connect(server.dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_it_is_durable_and_its_data_is_found_again(directory: Path) -> None:
    async with EmbeddedPostgres(directory) as server:
        assert str(await _fetch(server, "show server_version")).startswith("18")
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await _fetch(server, f"show {setting}") == "on"
        assert await _fetch(server, "show max_connections") == "200"
        await _fetch(server, "create table kept as select 7 as n")
    async with EmbeddedPostgres(directory) as server:
        assert await _fetch(server, "select n from kept") == 7


@pytest.mark.parametrize("mode", ["kill", "immediate"])
async def test_a_crash_loses_nothing_and_keeps_the_port(directory: Path, mode: str) -> None:
    async with EmbeddedPostgres(directory) as server:
        await _fetch(server, "create table kept as select 7 as n")
        port, backends = server.port, psutil.Process(server.pid).children()
        await server.kill(mode)  # type: ignore[arg-type]
        psutil.wait_procs(backends, timeout=10)
        assert not any(backend.is_running() for backend in backends)
        await server.restart()
        assert server.port == port
        assert await _fetch(server, "select n from kept") == 7


async def test_a_stale_pid_file_with_a_reused_pid_does_not_matter(directory: Path) -> None:
    async with EmbeddedPostgres(directory) as server:
        await server.kill()
        pid_file = directory / "cluster" / "postmaster.pid"
        _, _, rest = pid_file.read_text().partition("\n")
        pid_file.write_text(f"{os.getpid()}\n{rest}")
        await server.start()
        assert await _fetch(server, "select 1") == 1


async def test_only_the_password_opens_it(directory: Path) -> None:
    async with EmbeddedPostgres(directory) as server:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn, password="guess")
    assert (directory / "password").stat().st_mode & 0o077 == 0


async def test_a_directory_in_use_is_one_clear_error(directory: Path) -> None:
    async with EmbeddedPostgres(directory):
        with pytest.raises(DataDirectoryInUse, match="in use by a live stack"):
            await EmbeddedPostgres(directory).start()


async def test_a_busy_port_is_one_clear_error(directory: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortBusy, match=f"PostgreSQL cannot listen on 127.0.0.1:{port}"):
            await EmbeddedPostgres(directory, port=port).start()
    async with EmbeddedPostgres(directory, port=port) as server:
        assert server.port == port


async def test_a_server_that_cannot_start_shows_its_log(directory: Path) -> None:
    broken = EmbeddedPostgres(directory, settings={"max_connections": "many"})
    with pytest.raises(ServerFailed, match="max_connections"):
        await broken.start()


async def test_binaries_that_are_not_there_are_named(directory: Path) -> None:
    with pytest.raises(BinariesMissing, match="initdb"):
        await EmbeddedPostgres(directory, bin_dir=directory).start()


@pytest.mark.skipif(
    not _DEBIAN_15.is_dir() or os.geteuid() != 0, reason="Debian's PostgreSQL 15 is not installed"
)
async def test_postgresql_15_runs_under_its_own_account(directory: Path) -> None:
    server = EmbeddedPostgres(directory, bin_dir=_DEBIAN_15, run_as="postgres")
    async with server:
        assert str(await _fetch(server, "show server_version")).startswith("15")
        assert psutil.Process(server.pid).username() == "postgres"
