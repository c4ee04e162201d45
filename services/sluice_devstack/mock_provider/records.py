"""What the mock saw: one record a request, in memory and, if asked, in a file that outlives a kill."""

import json
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

KEPT = 200_000
"""How many records stay in memory; counts and the file keep everything."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One request as received; `outcome` is `pending` until it ended, then `answered`, `cut` or `client_gone`."""

    seq: int
    at: float
    method: str
    path: str
    model: str
    job: str
    body_sha256: str
    outcome: str = "pending"
    status: int | None = None
    usage: Mapping[str, Any] | None = None
    bytes: int = 0


class Recorder:
    """Keeps records and counts calls per job header; with a file it continues where that file ended."""

    def __init__(self, path: Path | None = None) -> None:
        self._records: deque[Record] = deque(maxlen=KEPT)
        self._counts: Counter[str] = Counter()
        self._seq = 0
        self._file: int | None = None
        if path is not None:
            self._load(path)
            # Unbuffered appends: what was written is in the kernel and survives kill -9.
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def received(self, *, method: str, path: str, model: str, job: str, digest: str) -> Record:
        """Note a request before anything is answered."""
        self._seq += 1
        record = Record(
            seq=self._seq,
            at=time.time(),
            method=method,
            path=path,
            model=model,
            job=job,
            body_sha256=digest,
        )
        self._keep(record)
        self._write({"event": "received"}, record)
        return record

    def finished(self, record: Record) -> None:
        """Write the end of a request whose outcome was set on its record."""
        self._write({"event": "finished"}, record)

    def clear(self) -> None:
        """Forget all records and counts; the file stays as it is."""
        self._records.clear()
        self._counts.clear()

    def after(self, seq: int) -> Iterator[Record]:
        """Records with a greater `seq`, in order."""
        return (record for record in self._records if record.seq > seq)

    def counts(self) -> Mapping[str, int]:
        """Calls per job header."""
        return self._counts

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        if record.job:
            self._counts[record.job] += 1

    def _write(self, event: dict[str, str], record: Record) -> None:
        if self._file is not None:
            os.write(self._file, orjson.dumps(event | asdict(record)) + b"\n")

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        known: dict[int, Record] = {}
        for line in path.read_text().splitlines():
            try:
                document = json.loads(line)
            except ValueError:
                continue  # the line a kill cut short
            event = document.pop("event")
            record = Record(**document)
            if event == "received":
                known[record.seq] = record
                self._keep(record)
            elif record.seq in known:
                seen = known[record.seq]
                seen.outcome, seen.status = record.outcome, record.status
                seen.usage, seen.bytes = record.usage, record.bytes
            self._seq = max(self._seq, record.seq)
