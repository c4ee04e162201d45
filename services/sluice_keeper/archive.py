"""Moves finished executions out of the hot tables, a bounded stretch of rows at a time, round and round."""

from sluice_core.jobs.repository import JobRepository

EVERY_S = 0.1
AGE_S = 600.0
"""How long a finished execution stays hot: most repetitions and late readings come within it."""
BATCH = 5_000
PAUSE_ROUNDS = 50
"""Rounds that are left out after the last row was looked at."""


class Archive:
    """A cursor over all rows; any number of keepers may have one each."""

    def __init__(self, jobs: JobRepository, *, age_s: float = AGE_S) -> None:
        self._jobs = jobs
        self._age_s = age_s
        self._after = 0
        self._pause = 0

    async def once(self) -> bool:
        """Look at the next stretch of rows; never asks to go on at once, so that jobs come first."""
        if self._pause:
            self._pause -= 1
            return False
        following, _ = await self._jobs.archive(self._after, self._age_s, BATCH)
        self._after = following or 0
        if following is None:
            self._pause = PAUSE_ROUNDS
        return False
