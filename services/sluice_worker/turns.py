"""What a flight costs its tenant and project in virtual time: a guess as it is picked, the truth as it ends."""

from typing import Final

from sluice_core.admission.expectations import BYTES_A_TOKEN, Expectations
from sluice_core.dispatch.fairness import VirtualTimes
from sluice_worker.flight import Flight

MOST_OUTPUT: Final = 2**31


class Turns:
    """Charges flights to the virtual times, once each."""

    def __init__(self, times: VirtualTimes, expectations: Expectations) -> None:
        self._times = times
        self._expectations = expectations

    def charge(self, flight: Flight) -> None:
        """A flight is picked: it costs what it is expected to use."""
        facts, model = flight.job.facts, flight.job.facts.model or ""
        body = len(flight.job.body)
        flight.charged = float(
            flight.expected_tokens
            or self._expectations.tokens(
                facts.tenant, model, body_bytes=body, most_output=MOST_OUTPUT
            )
        )
        if not self._expectations.knows(model):
            flight.guess = max(0.0, flight.charged - body // BYTES_A_TOKEN - 1)
        self._times.charge(
            facts.job_class, facts.tenant, facts.project, flight.charged, guess=flight.guess
        )
        flight.tenant_floor = self._times.tenant(facts.job_class, facts.tenant).lift
        flight.project_floor = self._times.project(
            facts.job_class, facts.tenant, facts.project
        ).lift

    def forget(self, flight: Flight) -> None:
        """A flight that was picked did not begin: it costs nothing. Once more does nothing."""
        if flight.charged:
            facts = flight.job.facts
            self._times.forget(
                facts.job_class, facts.tenant, facts.project, flight.charged, guess=flight.guess
            )
            flight.charged = flight.guess = 0.0

    def begun(
        self, flight: Flight, *, tenant_vt: float | None = None, project_vt: float | None = None
    ) -> None:
        """Its tokens are charged in the ledger, where the virtual times now stand at these."""
        facts = flight.job.facts
        self._times.learn(
            facts.job_class,
            facts.tenant,
            facts.project,
            tenant_vt=tenant_vt,
            project_vt=project_vt,
            tokens=flight.charged,
        )
        flight.charged = 0.0

    def booked(self, flight: Flight) -> None:
        """What it used stands in the ledger instead of what it was charged."""
        if flight.guess:
            facts, guess = flight.job.facts, flight.guess
            used = self._expectations.output_tokens(
                facts.tenant, facts.model or "", most_output=int(guess)
            )
            self._times.booked(
                facts.job_class, facts.tenant, facts.project, guess=guess, used=float(used)
            )
            flight.guess = 0.0
