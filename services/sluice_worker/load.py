"""What answers teach about load: how long they take, how long they are, and when a provider wants a pause."""

import time

from sluice_core.admission.expectations import Expectations
from sluice_core.admission.pressure import CUT_THROTTLED, THROTTLED, Pace, cool_until
from sluice_core.jobs.fates import FailureKind
from sluice_providers.port import Answer
from sluice_worker.flight import Flight
from sluice_worker.route import Router

REMEMBERED = 10_000


class Load:
    """Notes on a flight what its answer says of its account's load, and learns from it what to expect."""

    def __init__(self, expectations: Expectations, router: Router) -> None:
        self._expectations = expectations
        self._router = router
        self._paces: dict[tuple[str, str], Pace] = {}

    def lost(self, flight: Flight) -> None:
        """A call of which nothing was learnt."""
        assert flight.route is not None
        now = time.time()
        if flight.deltas:
            self._router.never_went(flight.route, now)
        else:
            self._router.gave_up(flight.route, now - flight.started_at, now)

    def learn(self, flight: Flight, answer: Answer) -> None:
        """Take an answer into account."""
        assert flight.route is not None
        target, status, now = flight.route.target, answer.status, time.time()
        flight.pressure = flight.cool_until = None
        others = not flight.route.credentials.ended(flight.secret, answer, now)
        flight.spared = others and answer.failure is not None
        if flight.spared:
            # One key of several rests now; that says nothing of its account, nor of its target.
            self._router.never_went(flight.route, now)
            return
        if not others:
            flight.cool_until = cool_until(
                status,
                retry_after_s=answer.retry_after_s,
                exhausted_s=answer.exhausted_s,
                now=now,
            )
        self._router.ended(flight.route, answer, streams=flight.job.streams, now=now)
        if flight.cool_until is not None:
            why = "the provider asked for a pause"
            self._router.shut(
                flight.route, account=False, until=flight.cool_until, why=why, now=now
            )
        if status in THROTTLED and answer.failure is FailureKind.STATUS_ERROR:
            flight.pressure = CUT_THROTTLED
        elif answer.failure is None and answer.usage is not None:
            facts, output = flight.job.facts, answer.usage.output_tokens
            self._expectations.learn(facts.tenant, facts.model or "", output)
            pace = self._paces.get((target.account, target.model))
            if pace is None:
                if len(self._paces) > REMEMBERED:
                    self._paces.clear()
                pace = self._paces[target.account, target.model] = Pace()
            flight.pressure = pace.pressure(answer.provider_ms, output, now=time.monotonic())
