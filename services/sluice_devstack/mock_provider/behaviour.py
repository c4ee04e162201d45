"""What the mock is told to do with one request: a small text form, its value, and the rules that hand it out."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, cast, get_args

Fault = Literal[
    "hang",
    "cut_before_status",
    "cut_body",
    "cut_stream",
    "malformed",
    "empty",
    "wrong_type",
    "stream_error",
]
_FAULTS: frozenset[str] = frozenset(get_args(Fault))
_SIZES = {"kb": 1_000, "mb": 1_000_000, "b": 1}


class BehaviourError(ValueError):
    """A behaviour text that cannot be read; the message names the part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One request's treatment; every field is a key of the text form `key=value,key=value`.

    latency      60ms, 2s, uniform:50ms:200ms, lognormal:80ms:0.5 (median, sigma); before the status
    chunk_delay  a latency between the events of a stream
    seed         of the random latencies (0)
    status       an HTTP error status; with code (an error code) and retry_after
    retry_after  2 (seconds), date:2 (an HTTP date), ms:1500 (`retry-after-ms`), xms:1500 (Azure's)
    fault        hang, cut_before_status, cut_body, cut_stream, malformed, empty, wrong_type, stream_error
    after        how many events a stream sends before its fault (0)
    usage        none leaves usage out
    cached, cache_write, reasoning    tokens to report
    words        answer with that many words instead of the echo
    size         answer with that many characters: 20mb
    stop         the stop reason to report, in the API's own words
    key          answer 401 unless this API key is sent
    """

    latency: str = ""
    chunk_delay: str = ""
    seed: int = 0
    status: int = 0
    code: str = ""
    retry_after: str = ""
    fault: Fault | None = None
    after: int = 0
    usage: str = ""
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    words: int = 0
    size: int = 0
    stop: str = ""
    key: str = ""


PLAIN = Behaviour()
_INTEGERS = {entry.name for entry in fields(Behaviour) if entry.type is int}
_NAMES = {entry.name for entry in fields(Behaviour)}


def seconds(text: str) -> float:
    """`60ms`, `2s` or a bare number of seconds, in seconds."""
    if text.endswith("ms"):
        return float(text[:-2]) / 1000
    return float(text.removesuffix("s"))


def parse(text: str, base: Behaviour = PLAIN) -> Behaviour:
    """Lay the keys of `text` over `base`. Raises BehaviourError that names the bad part."""
    if not text:
        return base
    changes: dict[str, Any] = {}
    for part in text.split(","):
        name, separator, value = part.strip().partition("=")
        if not separator or name not in _NAMES:
            raise BehaviourError(f"unknown behaviour {part!r}; known: {', '.join(sorted(_NAMES))}")
        try:
            changes[name] = _value(name, value)
        except ValueError as exc:
            raise BehaviourError(f"bad value in {part!r}: {exc}") from exc
    return replace(base, **changes)


def _value(name: str, value: str) -> object:
    if name == "fault":
        if value not in _FAULTS:
            raise ValueError(f"known faults: {', '.join(sorted(_FAULTS))}")
        return cast("Fault", value)
    if name == "size":
        for suffix, factor in _SIZES.items():
            if value.endswith(suffix):
                return int(value.removesuffix(suffix)) * factor
        return int(value)
    if name in {"latency", "chunk_delay"}:
        Latency(value, 0).draw()
        return value
    return int(value) if name in _INTEGERS else value


class Latency:
    """Draws waiting times in seconds from a latency text; the same seed draws the same series."""

    def __init__(self, text: str, seed: int) -> None:
        kind, *numbers = text.split(":")
        self._random = random.Random(seed)
        self._kind = kind if numbers else "fixed"
        self._first = seconds(numbers[0] if numbers else kind)
        self._second = 0.0
        if self._kind == "uniform":
            self._second = seconds(numbers[1])
        elif self._kind == "lognormal":
            self._second = float(numbers[1])
        elif self._kind != "fixed":
            raise BehaviourError(f"unknown latency {text!r}: fixed, uniform:A:B, lognormal:M:SIGMA")

    def draw(self) -> float:
        """The next waiting time in seconds."""
        if self._kind == "uniform":
            return self._random.uniform(self._first, self._second)
        if self._kind == "lognormal":
            return self._first * self._random.lognormvariate(0.0, self._second)
        return self._first


@dataclass(slots=True, kw_only=True)
class Rule:
    """A behaviour for the requests that match: by model, by a text in the body, the first N, or by chance."""

    number: int
    behaviour: Behaviour
    text: str
    model: str = ""
    body: bytes = b""
    first: int | None = None
    probability: float = 1.0
    seed: int = 0
    hits: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Seed the rule's own chance."""
        self._random = random.Random(self.seed)

    def fires(self, model: str, body: bytes) -> bool:
        """Whether this request gets the behaviour; counts the hit."""
        if self.first is not None and self.hits >= self.first:
            return False
        if (self.model and self.model != model) or (self.body and self.body not in body):
            return False
        if self.probability < 1.0 and self._random.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def shown(self) -> dict[str, object]:
        """The rule as the admin endpoint lists it."""
        return {
            "id": self.number,
            "behaviour": self.text,
            "model": self.model,
            "body": self.body.decode(),
            "first": self.first,
            "probability": self.probability,
            "seed": self.seed,
            "hits": self.hits,
        }


class Rules:
    """The rules in force, oldest first; the first that fires decides."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._last = 0

    def add(self, document: Mapping[str, Any]) -> Rule:
        """Add `{"behaviour": "status=500", "match": {"model", "body"}, "first", "probability", "seed"}`."""
        match = document.get("match") or {}
        text = str(document.get("behaviour", ""))
        self._last += 1
        rule = Rule(
            number=self._last,
            behaviour=parse(text),
            text=text,
            model=str(match.get("model", "")),
            body=str(match.get("body", "")).encode(),
            first=document.get("first"),
            probability=float(document.get("probability", 1.0)),
            seed=int(document.get("seed", 0)),
        )
        self._rules.append(rule)
        return rule

    def remove(self, number: int | None) -> int:
        """Remove one rule, or all for None; says how many went."""
        before = len(self._rules)
        self._rules = [] if number is None else [r for r in self._rules if r.number != number]
        return before - len(self._rules)

    def shown(self) -> list[dict[str, object]]:
        """All rules in order."""
        return [rule.shown() for rule in self._rules]

    def behaviour(self, model: str, body: bytes) -> Behaviour:
        """What the rules say about this request."""
        for rule in self._rules:
            if rule.fires(model, body):
                return rule.behaviour
        return PLAIN
