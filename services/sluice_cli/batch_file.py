"""Pure: OpenAI Batch files, line by line: jobs in, output and error lines out, and what a run has already."""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from sluice_schemas.jobs import MAX_TEXT_BYTES, OPERATIONS, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A usable line of an input file: its number (from 1), its `custom_id` and the job as it stands."""

    number: int
    custom_id: str
    job: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that is no job, and why."""

    number: int
    custom_id: str | None
    reason: str

    @property
    def message(self) -> str:
        """The reason with the line's number."""
        return f"line {self.number}: {self.reason}"


def read_lines(texts: Iterable[bytes], *, run: str) -> Iterator[Line | BadLine]:
    """Read an input file; blank lines are passed over, every other one is a Line or a BadLine.

    A line without `custom_id` is called after its number. Each job gets the run's name and, unless
    it has one, an idempotency key made of run and `custom_id`, so that the same file sent twice
    under one run is the same jobs.
    """
    seen = _Seen()
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        line = _read(number, text, run)
        if isinstance(line, Line):
            first = seen.first(line.custom_id, number)
            if first != number:
                reason = f"custom_id {line.custom_id!r} stands on line {first} already"
                line = BadLine(number=number, custom_id=line.custom_id, reason=reason)
        yield line


class _Seen:
    """On which line each name stood first, in some 40 bytes a name however long it is: files may have millions.

    Names are told apart by 64 bits of a hash; among ten million, two share one with a chance of 3 in a million.
    """

    def __init__(self) -> None:
        self._size, self._used = 1 << 12, 0
        self._hashes, self._lines = self._empty()

    def _empty(self) -> "tuple[array[int], array[int]]":
        zeros = bytes(8 * self._size)
        return array("Q", zeros), array("Q", zeros)

    def first(self, name: str, number: int) -> int:
        """The line that a name stood on first: `number` where it is new."""
        digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
        return self._put(int.from_bytes(digest) or 1, number)

    def _put(self, value: int, number: int) -> int:
        place = value % self._size
        while self._hashes[place]:
            if self._hashes[place] == value:
                return self._lines[place]
            place = (place + 1) % self._size
        self._hashes[place], self._lines[place] = value, number
        self._used += 1
        if 3 * self._used > 2 * self._size:
            self._grow()
        return number

    def _grow(self) -> None:
        held = zip(self._hashes, self._lines, strict=True)
        self._size, self._used = 2 * self._size, 0
        self._hashes, self._lines = self._empty()
        for value, number in held:
            if value:
                self._put(value, number)


def _read(number: int, text: bytes, run: str) -> Line | BadLine:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        return BadLine(number=number, custom_id=None, reason=f"not JSON: {exc}")
    if not isinstance(document, dict):
        return BadLine(number=number, custom_id=None, reason="not a JSON object")
    named = document.get("custom_id")
    custom_id = named if isinstance(named, str) else None
    try:
        job = Job.model_validate(document)
    except ValidationError as exc:
        reasons = dict.fromkeys(map(_explained, exc.errors(include_url=False)))
        reason = "; ".join(reasons)
        return BadLine(number=number, custom_id=custom_id, reason=reason)
    if job.url is not None and job.url not in OPERATIONS:
        reason = f"url {job.url!r} is not supported: {', '.join(OPERATIONS)}"
        return BadLine(number=number, custom_id=custom_id, reason=reason)
    name = custom_id if custom_id is not None else f"line-{number}"
    options = dict(document.get("options") or {})
    options.setdefault("idempotency_key", line_key(run, name))
    options.setdefault("run_id", run)
    return Line(
        number=number,
        custom_id=name,
        job={**document, "custom_id": name, "options": options},
    )


_EXPECTED: Final[Mapping[str, str]] = {
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "list_type": "must be a list",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "missing": "is missing",
}
"""What is said of a value of the wrong kind; the checker's own words name our classes or Python's types."""


def _explained(error: Mapping[str, Any]) -> str:
    loc = error["loc"]
    if loc[:2] == ("body", "input"):
        return "body.input: must be a text or a list"  # of two forms, so each would complain of its own
    place = ".".join(str(part) for part in loc)
    reason = str(error["msg"]).removeprefix("Value error, ")
    reason = _EXPECTED.get(error["type"], f"{reason[:1].lower()}{reason[1:]}")
    return f"{place}: {reason}" if place else reason


def line_key(run: str, custom_id: str) -> str:
    """The idempotency key of a line: readable where it fits, else by its hash."""
    key = f"{run}/{custom_id}"
    if len(key.encode()) <= MAX_TEXT_BYTES:
        return key
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def default_run(stem: str, texts: Iterable[bytes]) -> str:
    """A run's name from a file's name and content: the same file is the same run."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text)
    return f"{stem[:100]}-{digest.hexdigest()[:8]}"


_RESULT_FIELDS: Final = ("id", "custom_id", "response", "error")


def output_line(
    *,
    job_id: str,
    custom_id: str | None,
    status_code: int | None,
    request_id: str | None,
    body: Any,
    error: Mapping[str, Any] | None,
) -> bytes:
    """A line of an output or error file, as OpenAI writes them."""
    response = None
    if status_code is not None:
        response = {"status_code": status_code, "request_id": request_id, "body": body}
    values = (job_id, custom_id, response, error)
    return _written(dict(zip(_RESULT_FIELDS, values, strict=True)))


def bad_output_line(bad: BadLine) -> bytes:
    """The line of the error file that stands for a line that was never sent."""
    error = {"code": "invalid_line", "message": bad.message}
    values = (None, bad.custom_id, None, error)
    return _written(dict(zip(_RESULT_FIELDS, values, strict=True)))


def _written(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def collected(texts: Iterable[bytes]) -> tuple[set[str], int]:
    """The `custom_id`s in an output file, and the bytes up to the end of its last whole line.

    What a killed process wrote of one more line does not count.
    """
    found: set[str] = set()
    size = 0
    for text in texts:
        if not text.endswith(b"\n"):
            break
        try:
            document = json.loads(text)
        except ValueError:
            break
        if not isinstance(document, dict) or not isinstance(document.get("custom_id"), str):
            break
        found.add(document["custom_id"])
        size += len(text)
    return found, size
