"""What this worker knows of each target: its breaker, its pauses, its speed, how much is in flight to it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sluice_core.routing.breaker import Breaker, BreakerRules, Opening, Standing
from sluice_core.routing.health import Health
from sluice_core.routing.model import ENDLESS, Moment, Now
from sluice_core.routing.repository import Key, OpenNews, OpenRow

FAULTS: Final = 3
"""Faults of its account in a row that shut a target: one may be a slip of the provider's."""
FAULT_S: Final = 30.0
"""How long nothing goes to a target whose account has no funds, or whose key is refused: that takes a person."""
GRANT_S: Final = 0.25
"""How soon it is worth asking again for a target that waits for its probe, or for the probe's end."""
HELD_S: Final = 1.0
"""How soon it is worth asking again for an account that an operator holds."""
IDLE_PROBE_S: Final = 3.0
"""Where no job comes to probe by any more: one good answer is enough then, and without any another worker may have a job."""
HUNG_S: Final = 30.0
HUNG_TIMES: Final = 3.0
"""A call that is given up has hung if it took so long, and so many times what calls to its target take lately."""
RECENT: Final = 0.1
"""Of the newest call in the running means of times."""


@dataclass(slots=True)
class _State:
    """One target. `reason`: why its breaker is open."""

    breaker: Breaker
    now: Now = field(default_factory=Now)
    reason: str = ""
    faults: int = 0
    cool_until: float = 0.0
    cool_why: str = ""
    probed_at: float = 0.0
    moments: list[Moment] = field(default_factory=list)


class Targets:
    """The states of all targets, and what is to be shared with other workers. All times in epoch seconds.

    `stir` is called when there is something that others should hear of, or be asked for.
    """

    def __init__(self, stir: Callable[[], None]) -> None:
        self._stir = stir
        self._states: dict[Key, _State] = {}
        self._held: frozenset[str] = frozenset()
        self.opened: list[OpenNews] = []
        self.closed: list[Key] = []
        self.given_up: list[Key] = []
        self.wanted: dict[Key, None] = {}
        self.unpriced: list[Key] = []

    def moment(self, keys: Sequence[Key], rules: Sequence[BreakerRules], now: float) -> Moment:
        """What is known of a plan's candidates, kept up to date from now on."""
        states = [self._state(key, rule) for key, rule in zip(keys, rules, strict=True)]
        moment = Moment(nows=[state.now for state in states])
        for state in states:
            state.moments.append(moment)
        self._changed(keys, now)
        return moment

    def forget_plans(self) -> None:
        """Plans are made anew: their moments are nobody's."""
        for state in self._states.values():
            state.moments.clear()

    def hold(self, accounts: frozenset[str], now: float) -> None:
        """Operators hold these accounts: nothing goes to them."""
        changed, self._held = accounts ^ self._held, accounts
        self._changed([key for key in self._states if key[0] in changed], now)

    def has_no_price(self, key: Key) -> None:
        """Calls to a target are booked at 0: somebody is told."""
        self.unpriced.append(key)
        self._stir()

    def look(self, keys: Sequence[Key], now: float) -> None:
        """Before a decision while something is shut: what may be probed is asked for."""
        for key in keys:
            if self._states[key].breaker.due(now):
                self.wanted[key] = None
                self._stir()
        self._changed(keys, now)

    def asking(self) -> dict[Key, None]:
        """Targets whose probes are under way here: the grant is to last as long as they do."""
        return {key: None for key, state in self._states.items() if state.breaker.asking}

    def started(self, key: Key, now: float) -> None:
        """A call is about to go to a target."""
        state = self._states[key]
        state.now.in_flight += 1
        if state.breaker.standing is Standing.PROBING:
            state.breaker.started()
            self._changed((key,), now)

    def never_went(self, key: Key, now: float) -> None:
        """A call that was about to go did not."""
        self._states[key].now.in_flight -= 1
        self._abandon(key, now)

    def ended(self, key: Key, health: Health, *, took_s: float, reason: str, now: float) -> None:
        """A call to a target ended; `reason` in a word or two where it failed."""
        state = self._states[key]
        state.now.in_flight -= 1
        if health is Health.NEUTRAL:
            self._abandon(key, now)
        elif health is Health.FAULT:
            state.faults += 1
            probing = state.breaker.standing is Standing.PROBING
            if probing or (state.faults >= FAULTS and state.breaker.standing is not Standing.OPEN):
                self._open(key, state.breaker.trip(now, for_s=FAULT_S), reason, fault=True)
                self._changed((key,), now)
        else:
            state.faults = 0
            self._end(key, well=health is Health.WELL, took_s=took_s, reason=reason, now=now)

    def hung(self, key: Key, *, took_s: float, now: float) -> None:
        """A call was given up that had brought nothing: its target is ill, if that is no way for it to be."""
        usual_s = self._states[key].now.first_s
        long = took_s >= HUNG_S and took_s > HUNG_TIMES * usual_s
        health = Health.ILL if long else Health.NEUTRAL
        self.ended(key, health, took_s=took_s, reason="no answer", now=now)

    def learn_times(
        self, key: Key, *, first_s: float | None, took_s: float, output_tokens: int
    ) -> None:
        """Take a successful call's times into account; `first_s`: of a stream, to its first token."""
        state = self._states[key].now
        known = state.first_s > 0 or state.token_s > 0
        first = first_s if first_s is not None else min(state.first_s or took_s, took_s)
        token_s = max(0.0, took_s - first) / max(1, output_tokens)
        weight = RECENT if known else 1.0
        state.first_s += weight * (first - state.first_s)
        state.token_s += weight * (token_s - state.token_s)

    def shut(self, keys: Iterable[Key], until: float, why: str, now: float) -> None:
        """Nothing goes to these targets for a while, by the ledger's word or a provider's."""
        for key in keys:
            state = self._states.get(key)
            if state is not None and until > state.cool_until:
                state.cool_until, state.cool_why = until, why
                self._changed((key,), now)

    def apply(self, rows: Sequence[OpenRow], now: float) -> None:
        """What is open for everybody, as the ledger says it; what happened here since it was asked counts more."""
        newer = {news.key for news in self.opened} | set(self.closed) | set(self.given_up)
        changed: list[Key] = []
        for row in rows:
            state = self._states.get(row.key)
            if state is None or row.key in newer:
                continue
            breaker, state.reason = state.breaker, row.reason
            if not row.mine:
                breaker.opened(level=row.level, until=now + row.left_s)
            elif breaker.standing is not Standing.PROBING:
                breaker.opened(level=row.level, until=now)
                breaker.granted()
                state.probed_at = now
            changed.append(row.key)
        there = {row.key for row in rows}
        for key, state in self._states.items():
            if state.breaker.standing is Standing.CLOSED or key in newer:
                continue
            if key not in there:
                state.breaker.close()
            elif state.breaker.idle and now - state.probed_at > IDLE_PROBE_S:
                self._ends_probing(key, now)
            changed.append(key)
        self._changed(changed, now)

    def _ends_probing(self, key: Key, now: float) -> None:
        breaker = self._states[key].breaker
        if breaker.passed:
            breaker.close()
            self.closed.append(key)
        else:
            breaker.opened(level=breaker.level, until=now)
            self.given_up.append(key)
        self._stir()

    def _end(self, key: Key, *, well: bool, took_s: float, reason: str, now: float) -> None:
        breaker = self._states[key].breaker
        before = breaker.standing
        self._states[key].probed_at = now
        opening = breaker.ended(well=well, took_s=took_s, now=now)
        if opening is not None:
            self._open(key, opening, "too slow" if well else reason)
        elif before is Standing.PROBING and breaker.standing is Standing.CLOSED:
            self.closed.append(key)
            self._stir()
        if breaker.standing is not before:
            self._changed((key,), now)

    def _open(self, key: Key, opening: Opening, reason: str, *, fault: bool = False) -> None:
        self._states[key].reason = reason
        self.opened.append(
            OpenNews(
                key=key, level=opening.level, open_s=opening.open_s, reason=reason, fault=fault
            )
        )
        self._stir()

    def _abandon(self, key: Key, now: float) -> None:
        breaker = self._states[key].breaker
        if breaker.standing is Standing.PROBING:
            breaker.abandoned()
            self._changed((key,), now)

    def _state(self, key: Key, rules: BreakerRules) -> _State:
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State(breaker=Breaker(rules))
        state.breaker.rules = rules
        return state

    def _changed(self, keys: Iterable[Key], now: float) -> None:
        """Say anew of each target until when it is shut and why."""
        moments: dict[int, Moment] = {}
        for key in keys:
            self._say(key, now)
            moments |= {id(moment): moment for moment in self._states[key].moments}
        for moment in moments.values():
            moment.shut_until = max(state.shut_until for state in moment.nows)
            moment.probing = any(state.probing for state in moment.nows)

    def _say(self, key: Key, now: float) -> None:
        state = self._states[key]
        said = state.now
        said.shut_until = said.again_at = state.cool_until
        said.why, said.probing = state.cool_why, False
        breaker = state.breaker
        if breaker.passes():
            said.probing = breaker.standing is Standing.PROBING
        else:
            # Open for good as far as a job can see: only a granted probe finds out more.
            said.shut_until = ENDLESS
            said.again_at = max(said.again_at, breaker.open_until, now + GRANT_S)
            said.why = f"its breaker is open ({state.reason})"
        if key[0] in self._held:
            said.shut_until, said.again_at = ENDLESS, now + HELD_S
            said.why = "an operator holds the account"
        said.probing = said.probing and said.shut_until <= now
