import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sluice_platform.logging import RateLimit, configure_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_are_json_lines_with_fields() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.stdlib.get_logger("sluice.test").info("job.settled", job_id="j1", attempts=2)
    (line,) = _lines(stream)
    assert line["event"] == "job.settled"
    assert (line["job_id"], line["attempts"], line["level"]) == ("j1", 2, "info")
    assert str(line["timestamp"]).endswith("Z")


def test_the_standard_library_comes_the_same_way() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    logging.getLogger("aiokafka.conn").error("Unable connect to node %s", 1)
    (line,) = _lines(stream)
    assert line["event"] == "Unable connect to node 1"
    assert line["logger"] == "aiokafka.conn"


def test_a_traceback_shows_no_local_variables() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)

    def fail() -> None:
        prompt = "my secret " + "prompt"
        assert prompt
        raise RuntimeError("boom")

    try:
        fail()
    except RuntimeError:
        structlog.stdlib.get_logger("sluice.test").exception("step.failed")
    (line,) = _lines(stream)
    assert "RuntimeError: boom" in str(line["exception"])
    assert "my secret prompt" not in stream.getvalue()


def test_a_terminal_gets_readable_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    configure_logging(stream=stream)
    structlog.stdlib.get_logger("sluice.test").info("process.ready", port=1)
    assert "process.ready" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def _record(name: str, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "f", 1, message, (1,), None)


def test_noise_is_held_back_and_counted() -> None:
    now = [0.0]
    limit = RateLimit(10.0, monotonic=lambda: now[0])
    assert limit.filter(_record("aiokafka.conn", "away %s"))
    assert [limit.filter(_record("aiokafka.conn", "away %s")) for _ in range(3)] == [False] * 3
    assert limit.filter(_record("aiokafka.conn", "another %s"))
    now[0] = 10.0
    late = _record("aiokafka.conn", "away %s")
    assert limit.filter(late)
    assert late.getMessage() == "away 1 (3 more like this held back)"


def test_our_own_events_are_never_held_back() -> None:
    limit = RateLimit(10.0, monotonic=lambda: 0.0)
    assert all(limit.filter(_record("sluice_worker.settle", "same")) for _ in range(5))


def test_what_libraries_say_of_an_outage_is_a_line() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    try:
        raise ConnectionRefusedError(111, "100 % gone")
    except ConnectionRefusedError:
        logging.getLogger("asyncpg.pool").warning("the floor of %s is gone", "x", exc_info=True)
    (line,) = _lines(stream)
    assert line["event"] == ("the floor of x is gone: ConnectionRefusedError(111, '100 % gone')")
    assert "exception" not in line
