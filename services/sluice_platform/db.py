"""Connections to Postgres that bound every wait."""

import asyncio
import time
from urllib.parse import urlsplit

import asyncpg

from sluice_platform.errors import StartupError

DATABASE_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver says of a session that was ended under it
)
"""Everything a statement raises where the database, or the way to it, is at fault."""

_CONNECT_TIMEOUT_S = 5.0
_POLL_S = 0.2

# A wrong password does not become right by waiting.
_HOPELESS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,
)


async def connect_pool(
    dsn: str,
    *,
    size: int,
    statement_timeout_s: float,
    lock_timeout_s: float,
    application_name: str,
    behind_pooler: bool = False,
) -> "asyncpg.Pool":
    """A pool of exactly `size` connections; raises what asyncpg raises if it cannot be opened.

    The server ends a statement after `statement_timeout_s`, a wait for a lock after
    `lock_timeout_s`, and a transaction that idles as long as a statement may run. The client gives
    up five seconds after the server should have, which a frozen server needs.

    A transaction pooler (`behind_pooler`) refuses such settings at connect and shares sessions:
    then they must be the role's own (`alter role … set …`), and no prepared statement is kept.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=size,
        max_size=size,
        max_inactive_connection_lifetime=0,
        timeout=_CONNECT_TIMEOUT_S,
        command_timeout=statement_timeout_s + 5.0,
        statement_cache_size=0 if behind_pooler else 256,
        reset=_keep_as_is,
        server_settings={"application_name": application_name}
        | ({} if behind_pooler else _bounds(statement_timeout_s, lock_timeout_s)),
    )


def _bounds(statement_timeout_s: float, lock_timeout_s: float) -> dict[str, str]:
    statement = f"{round(statement_timeout_s * 1000)}ms"
    return {
        "statement_timeout": statement,
        "lock_timeout": f"{round(lock_timeout_s * 1000)}ms",
        "idle_in_transaction_session_timeout": statement,
        "jit": "off",  # compiling costs more than the short statements of a ledger
        "timezone": "UTC",
    }


async def _keep_as_is(_connection: "asyncpg.Connection") -> None:
    """Instead of a round trip that resets the session: nobody changes session state in a pool."""


async def wait_for_database(dsn: str, timeout_s: float) -> None:
    """Returns once the database accepts a connection.

    Raises StartupError after `timeout_s`, at once where waiting cannot help (credentials, name).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S)
        except _HOPELESS as exc:
            raise StartupError(f"{_where(dsn)} refuses: {exc}. Check SLUICE_DATABASE.") from exc
        except DATABASE_ERRORS as exc:
            if time.monotonic() >= deadline:
                raise StartupError(
                    f"{_where(dsn)} does not answer after {timeout_s:g} s: {exc or 'timeout'}. "
                    "Start it, or check SLUICE_DATABASE."
                ) from exc
            await asyncio.sleep(_POLL_S)
        else:
            await connection.close()
            return


def _where(dsn: str) -> str:
    """The address without its credentials."""
    parts = urlsplit(dsn)
    return f"PostgreSQL at {parts.netloc.rpartition('@')[2]}{parts.path}"
