"""The bounds of an exchange, and the one timer that keeps them."""

import asyncio

from sluice_platform.values import frozen_value


@frozen_value
class Timeouts:
    """Bounds of one exchange: the first three in seconds, the last two as times of the event loop's clock."""

    connect_s: float
    first_byte_s: float
    between_chunks_s: float
    total_at: float
    deadline_at: float


class Clock:
    """How far an exchange has come, and one timer for all of its phases; made by the task that it may cancel.

    `begun`: there is a connection; `sent`: it was handed the request's last byte; `answered`: there is a status.
    `deadline_hit`: the bound that counts now is the job's deadline. A later bound only takes note: the timer looks
    at it when it fires. So an exchange that goes well arms one timer, however many phases it has.

    It cancels as `asyncio.timeout` does, without its two turns through a context manager.
    """

    __slots__ = (
        "_armed_for",
        "_cancelling",
        "_expired",
        "_handle",
        "_loop",
        "_task",
        "_until",
        "answered",
        "begun",
        "deadline_hit",
        "sent",
        "timeouts",
    )

    def __init__(self, timeouts: Timeouts) -> None:
        task = asyncio.current_task()
        assert task is not None, "only a task can be cancelled"
        self.timeouts = timeouts
        self.begun = self.sent = self.answered = self._expired = False
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._bound(timeouts.connect_s)
        self._arm()

    def allow(self, allowed_s: float) -> None:
        """The next phase begins and may take that long."""
        if self._expired:
            return
        self._bound(allowed_s)
        if self._until < self._armed_for:
            self._handle.cancel()
            self._arm()

    def stop(self) -> bool:
        """The exchange is over; whether by this timer, and nobody else wants the task to end. Called once."""
        self._handle.cancel()
        return self._expired and self._task.uncancel() <= self._cancelling

    def _bound(self, allowed_s: float) -> None:
        until, timeouts = self._loop.time() + allowed_s, self.timeouts
        until = min(until, timeouts.total_at)
        self.deadline_hit = timeouts.deadline_at <= until
        self._until = timeouts.deadline_at if self.deadline_hit else until

    def _arm(self) -> None:
        self._armed_for = self._until
        self._handle = self._loop.call_at(self._until, self._fire)

    def _fire(self) -> None:
        if self._loop.time() < self._until:
            self._arm()
        else:
            self._expired = True
            self._task.cancel()
