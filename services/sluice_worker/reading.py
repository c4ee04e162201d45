"""Turns records into verdicts, a few milliseconds at a time, with keys that are as new as the records."""

import asyncio
from collections.abc import Sequence

from sluice_core.intake.model import Cancel, DeadLetter, NewJob, Record, Rejection, Verdict
from sluice_core.intake.policy import IntakePolicy, read_record
from sluice_core.keys.ring import Keys
from sluice_schemas.errors import ErrorCode

CHUNK = 100
"""Records read between two turns of the loop."""


class Reader:
    """Reads batches of records. A key that is not known may have been made a moment ago: then keys are read again."""

    def __init__(self, policy: IntakePolicy, keys: Keys) -> None:
        self._policy = policy
        self._keys = keys

    def change(self, policy: IntakePolicy) -> None:
        """Go by another policy."""
        self._policy = policy

    async def read(self, records: Sequence[Record]) -> list[Verdict]:
        """One verdict a record, in order. Raises what the database raises."""
        verdicts: list[Verdict] = []
        for first in range(0, len(records), CHUNK):
            if first:
                await asyncio.sleep(0)
            verdicts += [self._one(record) for record in records[first : first + CHUNK]]
        strangers = [place for place, verdict in enumerate(verdicts) if _unauthorized(verdict)]
        if strangers:
            await self._keys.reload()
            for place in strangers:
                verdicts[place] = self._one(records[place])
        return verdicts

    def _one(self, record: Record) -> Verdict:
        verdict = read_record(record, policy=self._policy, keys=self._keys)
        if isinstance(verdict, NewJob | Cancel) and verdict.key_id is not None:
            self._keys.used(verdict.key_id, record.timestamp_ms / 1000)
        return verdict


def _unauthorized(verdict: Verdict) -> bool:
    return isinstance(verdict, DeadLetter | Rejection) and verdict.code is ErrorCode.UNAUTHORIZED
