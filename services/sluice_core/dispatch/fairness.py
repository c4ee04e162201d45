"""Pure: virtual token time, by which tenants of a class and projects of a tenant take turns.

Source: Sheng et al., "Fairness in Serving Large Language Models" (Virtual Token Counter), arXiv 2401.00588.
A tenant's counter rises by the tokens of each job it is served, over its weight; the next job is that of the
waiting tenant whose counter is least; a newly active tenant is lifted to the least counter of those who wait
(Algorithm 2), so that nobody saves up service by idling. The expected cost is charged when a job is picked and
corrected when it has ended, as in the paper's variant with length prediction (section 4.4).

The counters live in the ledger and are shared by all workers: `begin` raises them, `settle` corrects them. What
a worker picked and `begin` has not confirmed is `pending` on top of what the ledger said last.

The bound. Let `E` be the largest charge of a job over its weight and `C` the largest sum of what is still to be
corrected among the jobs in service (of both tenants, each |actual - expected| over its weight). When tenant f is
picked, its counter is at most that of any waiting g, so afterwards f leads by at most E; corrections move the gap
by at most C. So two counters of tenants that both wait differ by at most U = E + C, and over any interval in which
both wait their weighted service differs by at most 2 U (the paper's theorem 4.4, where U = max(w_p L_input, w_q M)
says what the jobs of one batch can cost).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sluice_core.config.model import Config
from sluice_core.dispatch.turns import Crew, Turn, Turns
from sluice_schemas.classes import JobClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Shares among equals, by tenant and by (tenant, project); 1 where nothing is said."""

    tenants: Mapping[str, float] = field(default_factory=dict)
    projects: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Config) -> "Weights":
        """What the configuration says."""
        return cls(
            tenants={name: tenant.weight for name, tenant in config.tenants.items()},
            projects={
                (name, project): section.weight
                for name, tenant in config.tenants.items()
                for project, section in tenant.projects.items()
            },
        )


class VirtualTimes:
    """Counters of every class, tenant and project, in tokens over weight."""

    def __init__(self, weights: Weights | None = None) -> None:
        self._weights = weights or Weights()
        self.crew = Crew()
        self._classes = {job_class: Turns(self.crew) for job_class in JobClass}
        self._paths: dict[tuple[JobClass, str, str], _Path] = {}

    def change(self, weights: Weights) -> None:
        """Go by other weights from now on; what was charged stays."""
        self._weights = weights
        for turns in self._classes.values():
            for turn in turns:
                turn.weight = weights.tenants.get(turn.name, 1.0)
                for below in turn.below or ():
                    below.weight = weights.projects.get((turn.name, below.name), 1.0)

    def tenants(self, job_class: JobClass) -> Turns:
        """The tenants of a class."""
        return self._classes[job_class]

    def tenant(self, job_class: JobClass, tenant: str) -> Turn:
        """A tenant of a class, with its projects below."""
        turns = self._classes[job_class]
        turn = turns.get(tenant)
        if turn is None:
            turn = turns.member(tenant, self._weights.tenants.get(tenant, 1.0))
            turn.below = Turns(self.crew)
        return turn

    def project(self, job_class: JobClass, tenant: str, project: str) -> Turn:
        """A project of a tenant of a class."""
        below = self.tenant(job_class, tenant).below
        assert below is not None
        return below.get(project) or below.member(
            project, self._weights.projects.get((tenant, project), 1.0)
        )

    def charge(
        self, job_class: JobClass, tenant: str, project: str, tokens: float, *, guess: float = 0.0
    ) -> None:
        """A job was picked: its expected tokens count at once; `guess` of them are no more than that."""
        for turns, turn in self._path(job_class, tenant, project):
            cost = tokens / turn.weight
            if guess:
                turns.guess(turn, guess / turn.weight)
            turn.pending += cost
            turn.value += cost  # it rises, so its place in the order is found when it comes up

    def learn(
        self,
        job_class: JobClass,
        tenant: str,
        project: str,
        *,
        tenant_vt: float | None,
        project_vt: float | None,
        tokens: float,
    ) -> None:
        """A picked job was begun: the ledger has charged it, and its counters stand at these.

        None: the ledger did not say; then the charge counts from here.
        """
        told = tenant_vt
        for turns, turn in self._path(job_class, tenant, project):
            cost = tokens / turn.weight
            turn.pending = max(0.0, turn.pending - cost)
            turn.shared = max(turn.shared, turn.lift) + cost if told is None else told
            turn.lift = 0.0
            turns.moved(turn)
            told = project_vt

    def forget(
        self, job_class: JobClass, tenant: str, project: str, tokens: float, *, guess: float = 0.0
    ) -> None:
        """A picked job did not begin: it costs nothing."""
        for turns, turn in self._path(job_class, tenant, project):
            if guess:
                turns.guess(turn, -guess / turn.weight)
            turn.pending = max(0.0, turn.pending - tokens / turn.weight)
            turns.moved(turn)

    def booked(
        self, job_class: JobClass, tenant: str, project: str, *, guess: float, used: float
    ) -> None:
        """A job of which `guess` tokens were guessed has ended with about `used` instead, and the ledger knows."""
        for turns, turn in self._path(job_class, tenant, project):
            turns.guess(turn, -guess / turn.weight)
            turn.shared = max(0.0, turn.shared - (guess - used) / turn.weight)
            turns.moved(turn)

    def refresh(self, job_class: JobClass, tenant: str, project: str | None, shared: float) -> None:
        """Take what the ledger says of a tenant, or of one of its projects."""
        turns: Turns | None = self._classes[job_class]
        turn = self._classes[job_class].get(tenant)
        if turn is not None and project is not None:
            turns = turn.below
            turn = None if turns is None else turns.get(project)
        if turn is not None and turns is not None:
            turn.shared = shared
            turns.moved(turn)

    def floor(self, job_class: JobClass, tenant: str | None = None) -> float:
        """The least counter of the tenants of a class that wait, or of a tenant's projects."""
        turns: Turns | None = self._classes[job_class]
        if tenant is not None:
            turns = self.tenant(job_class, tenant).below
        assert turns is not None
        return turns.floor()

    def park(self, job_class: JobClass, tenant: str, project: str, *, parked: bool) -> None:
        """Say whether rows of a project are known to wait in the ledger; then it counts as waiting."""
        turn = self.tenant(job_class, tenant)
        assert turn.below is not None
        turn.below.park(self.project(job_class, tenant, project), parked=parked)
        self._classes[job_class].park(turn, parked=any(p.parked for p in turn.below))

    def waiting(self) -> Iterator[tuple[str, str | None]]:
        """Names whose counters matter now: (tenant, None) and (tenant, project), of any class."""
        seen: set[tuple[str, str | None]] = set()
        for turns in self._classes.values():
            for turn in turns:
                if turn.present:
                    seen.add((turn.name, None))
                    seen.update((turn.name, p.name) for p in turn.below or () if p.present)
        return iter(seen)

    def _path(self, job_class: JobClass, tenant: str, project: str) -> "_Path":
        key = (job_class, tenant, project)
        path = self._paths.get(key)
        if path is None:
            turn = self.tenant(job_class, tenant)
            assert turn.below is not None
            below = self.project(job_class, tenant, project)
            path = self._paths[key] = ((self._classes[job_class], turn), (turn.below, below))
        return path


_Path = tuple[tuple[Turns, Turn], tuple[Turns, Turn]]
