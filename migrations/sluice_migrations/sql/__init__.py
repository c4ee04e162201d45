"""The SQL files that the revisions run: tables once, functions one file a step, versioned by name."""

from importlib.resources import files

from sqlalchemy import Connection, text


def run(connection: Connection, name: str) -> None:
    """Runs `name`.sql, many statements, on the migration's own connection and inside its transaction."""
    script = files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    # The driver opens the transaction with the first statement.
    connection.execute(text("select 1"))
    driver = connection.connection.dbapi_connection
    assert driver is not None
    driver.run_async(lambda raw: raw.execute(script))
