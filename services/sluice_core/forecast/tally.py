"""Sums over appraised jobs, in memory that does not grow with their number."""

from typing import Final, TypeVar

from sluice_core.admission.model import ScopeKind
from sluice_core.forecast.model import Appraisal, Lines, Load, Name, Refusal

KEPT_SCOPES: Final = 20_000
"""Users, keys and runs whose jobs are summed; jobs of more are counted as not judged by those scopes."""
KEPT_GROUPS: Final = 1_000
"""Models, and reasons of refusals, that are told apart."""
OTHERS: Final = "(others)"
_NARROW: Final = frozenset({ScopeKind.USER, ScopeKind.KEY, ScopeKind.RUN})

Reason = tuple[str, str, str | None]
_Key = TypeVar("_Key")


class Tally:
    """What a file's jobs come to: by model and operation, by scope, by pool; and what is refused, on which lines."""

    def __init__(self) -> None:
        self.total = Load()
        self.by_model: dict[tuple[str, str], Load] = {}
        self.by_scope: dict[Name, Load] = {}
        self.by_pool: dict[str, Load] = {}
        self.refusals: dict[Reason, Lines] = {}
        self.endless: dict[str, Lines] = {}
        self.unjudged = 0

    @property
    def refused(self) -> int:
        """Jobs that would be refused."""
        return sum(lines.count for lines in self.refusals.values())

    def add(self, job: Appraisal | Refusal) -> None:
        """Count a job."""
        if isinstance(job, Refusal):
            self._refuse(job)
            return
        self.total.add(job)
        _load(self.by_model, (job.model, job.operation), (OTHERS, job.operation)).add(job)
        self.by_pool.setdefault(job.pool, Load()).add(job)
        self._add_to_scopes(job)
        if job.endless is not None:
            _lines(self.endless, job.endless, OTHERS).add(job.number)

    def _refuse(self, job: Refusal) -> None:
        others = (job.code.value, OTHERS, None)
        _lines(self.refusals, (job.code.value, job.message, job.rule), others).add(job.number)

    def _add_to_scopes(self, job: Appraisal) -> None:
        left_out = False
        for name in job.scopes:
            load = self.by_scope.get(name)
            if load is None:
                if name[0] in _NARROW and len(self.by_scope) >= KEPT_SCOPES:
                    left_out = True
                    continue
                load = self.by_scope[name] = Load()
            load.add(job)
        self.unjudged += left_out


def _load(
    loads: dict[tuple[str, str], Load], key: tuple[str, str], others: tuple[str, str]
) -> Load:
    return loads.setdefault(key if key in loads or len(loads) < KEPT_GROUPS else others, Load())


def _lines(groups: dict[_Key, Lines], key: _Key, others: _Key) -> Lines:
    return groups.setdefault(key if key in groups or len(groups) < KEPT_GROUPS else others, Lines())
