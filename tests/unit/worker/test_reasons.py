"""Why lanes wait, told to the ledger rarely and forgotten when it is over."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sluice_worker.reasons import LASTS_S, Reasons


@dataclass
class Told:
    said: list[dict[int, tuple[str, float]]] = field(default_factory=list)

    async def lanes_wait(self, reasons: Mapping[int, tuple[str, float]]) -> None:
        self.said.append(dict(reasons))


async def test_a_reason_is_told_once_while_it_lasts_and_again_before_it_ends() -> None:
    told, now = Told(), [1_000.0]
    reasons = Reasons(told, clock=lambda: now[0])  # type: ignore[arg-type]
    await reasons.tell()
    reasons.note(1, "rate_limited", 1_000.1)
    await reasons.tell()
    for _ in range(4):  # refused again and again, a tenth of a second each time
        now[0] += 0.1
        reasons.note(1, "rate_limited", now[0] + 0.1)
        await reasons.tell()
    assert told.said == [{1: ("rate_limited", 1_000.1 + LASTS_S)}]
    now[0] += 4.0
    reasons.note(1, "rate_limited", now[0] + 0.1)
    await reasons.tell()
    assert len(told.said) == 2
    reasons.note(1, "budget_busy", now[0] + 60.0)
    await reasons.tell()
    assert told.said[-1] == {1: ("budget_busy", now[0] + 60.0 + LASTS_S)}
    assert reasons.why(1) == "budget_busy"
    now[0] += 60.0 + LASTS_S + 0.1
    assert reasons.why(1) is None
    await reasons.tell()
    assert len(told.said) == 3
