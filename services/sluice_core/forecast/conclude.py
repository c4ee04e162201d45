"""Pure: what the sums over a file mean under the limits and budgets above its jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluice_core.admission.model import ScopeKind
from sluice_core.config.model import Config
from sluice_core.forecast.appraise import Appraiser
from sluice_core.forecast.model import BudgetFit, BudgetState, Constraint, Load, Name, Standing
from sluice_core.forecast.policy import at_once, binding, fit, under_rates
from sluice_core.forecast.tally import Tally
from sluice_schemas.classes import DEFAULT_TIMEOUT_S, JobClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What becomes of a file: does each budget suffice, what takes how long, and what is worth knowing.

    `binds`: the constraint that takes longest; None where nothing is limited.
    """

    fits: tuple[BudgetFit, ...]
    constraints: tuple[Constraint, ...]
    binds: Constraint | None
    notes: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether every hard budget can take what is expected."""
        return all(found.enough for found in self.fits)


def configured_budgets(
    appraiser: Appraiser, names: Sequence[Name]
) -> dict[Name, list[BudgetState]]:
    """The budgets above the jobs as the configuration has them, nothing spent."""
    found: dict[Name, list[BudgetState]] = {}
    for kind, path in names:
        scoped = appraiser.said_of((kind, path))
        if scoped is not None and scoped.budgets:
            found[kind, path] = [
                BudgetState(
                    scope=f"{kind.label}:{path}",
                    per=budget.per,
                    period=f"a {budget.per}" if budget.per != "total" else "total",
                    hard=budget.kind == "hard",
                    remaining_nano=int(budget.usd.scaleb(9)),
                )
                for budget in scoped.budgets
            ]
    return found


def conclude(
    tally: Tally,
    appraiser: Appraiser,
    config: Config,
    job_class: JobClass,
    *,
    budgets: Mapping[Name, Sequence[BudgetState]],
    standing: Standing | None,
) -> Forecast:
    """Put sums, budgets and limits together; `standing` None: no ledger is at hand."""
    fits = [fit(tally.by_scope[name], budget) for name, ones in budgets.items() for budget in ones]
    constraints = [
        constraint
        for name, load in sorted(tally.by_scope.items())
        for constraint in _of_scope(name, load, appraiser, job_class, standing)
    ]
    if standing is not None:
        constraints += _of_workers(tally.by_pool, config, job_class, standing)
    constraints.sort(key=lambda one: -one.seconds)
    binds = binding(constraints)
    return Forecast(
        fits=tuple(sorted(fits, key=lambda one: (one.enough, one.budget.scope, one.budget.per))),
        constraints=tuple(constraints),
        binds=binds,
        notes=tuple(
            _notes(tally, binds, job_class, standing, hard=any(f.budget.hard for f in fits))
        ),
    )


def _of_scope(
    name: Name,
    load: Load,
    appraiser: Appraiser,
    job_class: JobClass,
    standing: Standing | None,
) -> list[Constraint]:
    scope = f"{name[0].label}:{name[1]}"
    found = under_rates(scope, appraiser.rates(name), load, job_class)
    most = appraiser.concurrency(name)
    learnt = None
    if standing is not None and name[0] is ScopeKind.ACCOUNT:
        learnt = standing.bearable.get(name[1])
    bounds = [float(bound) for bound in (most, learnt) if bound is not None]
    if bounds:
        what = "calls (learnt)" if learnt is not None and learnt == min(bounds) else "calls"
        constraint = at_once(scope, what, min(bounds), load, job_class)
        found += [] if constraint is None else [constraint]
    return found


def _of_workers(
    loads: Mapping[str, Load], config: Config, job_class: JobClass, standing: Standing
) -> list[Constraint]:
    found = []
    for pool, load in sorted(loads.items()):
        workers = standing.workers.get(pool, 0)
        if workers:
            slots = workers * config.worker.concurrency
            what = f"calls of {workers:,} worker{'' if workers == 1 else 's'}"
            found.append(at_once(f"pool:{pool}", what, slots, load, job_class))
    return [constraint for constraint in found if constraint is not None]


def _notes(
    tally: Tally,
    binds: Constraint | None,
    job_class: JobClass,
    standing: Standing | None,
    *,
    hard: bool,
) -> list[str]:
    notes = []
    if tally.total.unpriced:
        notes.append(
            f"{tally.total.unpriced:,} jobs have no price and count as 0: set prices of their models"
        )
    if tally.endless and not hard:
        notes.append(
            f"there is no worst case: the cost of {tally.total.unbounded:,} jobs has no bound"
        )
    if standing is None:
        notes.append(
            "without SLUICE_DATABASE budgets count as unspent, answers as 256 tokens, and how long calls take is not known"
        )
    else:
        idle = [pool for pool in sorted(tally.by_pool) if not standing.workers.get(pool)]
        notes += [f"no worker of pool {pool} is running" for pool in idle]
    if standing is not None and tally.total.untimed:
        notes.append(
            f"no call of the last days tells how long {tally.total.untimed:,} of the jobs take, or how long their answers are"
        )
    timeout = DEFAULT_TIMEOUT_S[job_class]
    if binds is not None and binds.seconds > timeout:
        notes.append(
            f"a {job_class.label} job ends as expired after {timeout / 3600:g} h: name a longer options.timeout_s, or send less at a time"
        )
    if tally.unjudged:
        notes.append(
            f"{tally.unjudged:,} jobs are of more users or runs than are kept here: their own limits and budgets are not in this"
        )
    return notes
