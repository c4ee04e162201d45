"""Logs as events with fields: JSON lines for machines, readable lines on a terminal."""

import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

import structlog
from structlog.typing import Processor

# While a broker is away its clients say so about fifteen times a second each, and a pool whose
# server is away with a traceback every time.
_NOISY = ("aiokafka", "asyncpg", "faststream", "kafka")
_NOISE_INTERVAL_S = 10.0


class RateLimit(logging.Filter):
    """Lets one record per logger and message template pass in `interval_s` seconds, in one line.

    The next one that passes says how many were held back in between.
    """

    def __init__(self, interval_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if not record.name.startswith(_NOISY):
            return True
        key = (record.name, str(record.msg))
        now = self._monotonic()
        last, held_back = self._seen.get(key, (float("-inf"), 0))
        if now - last < self._interval_s:
            self._seen[key] = (last, held_back + 1)
            return False
        self._seen[key] = (now, 0)
        if record.exc_info is not None and record.exc_info[1] is not None:
            record.msg = f"{record.getMessage()}: {record.exc_info[1]!r}"
            record.exc_info, record.args = None, ()
        if held_back:
            record.msg = f"{record.msg} ({held_back} more like this held back)"
        return True


def configure_logging(*, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sets up structlog and the standard library's logging for this process; called in `main`.

    Events go to `stream` (standard error): as JSON unless it is a terminal. Tracebacks never show
    local variables: those hold prompts and keys.
    """
    target = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(target)
    handler.addFilter(RateLimit(_NOISE_INTERVAL_S))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(target.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _rendering(terminal: bool) -> list[Processor]:
    if terminal:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
