"""What is held, as a value that decides for a lane and for a job."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from sluice_core.jobs.model import Facts
from sluice_schemas.classes import JobClass

HoldKind = Literal["tenant", "class", "model", "account", "run"]
KINDS: Final[tuple[HoldKind, ...]] = get_args(HoldKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One thing that is held; `tenant` belongs to a run alone."""

    kind: HoldKind
    name: str
    tenant: str | None = None
    at: datetime
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """All that is held; runs as (tenant, name)."""

    tenants: frozenset[str] = frozenset()
    classes: frozenset[JobClass] = frozenset()
    models: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    runs: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, holds: Iterable[Hold]) -> "Holds":
        """Read rows; a class that this build does not know is passed over."""
        by_kind: dict[HoldKind, list[Hold]] = {kind: [] for kind in KINDS}
        for hold in holds:
            by_kind[hold.kind].append(hold)
        labels = {c.label: c for c in JobClass}
        return cls(
            tenants=frozenset(h.name for h in by_kind["tenant"]),
            classes=frozenset(labels[h.name] for h in by_kind["class"] if h.name in labels),
            models=frozenset(h.name for h in by_kind["model"]),
            accounts=frozenset(h.name for h in by_kind["account"]),
            runs=frozenset((h.tenant or "", h.name) for h in by_kind["run"]),
        )

    def __bool__(self) -> bool:
        return any((self.tenants, self.classes, self.models, self.accounts, self.runs))

    def lane(self, job_class: JobClass, tenant: str, model: str, accounts: frozenset[str]) -> bool:
        """Whether a whole lane is held; `accounts` are those that its model's jobs may go to."""
        return (
            tenant in self.tenants
            or job_class in self.classes
            or model in self.models
            or (bool(accounts) and accounts <= self.accounts)
        )

    def run(self, facts: Facts) -> bool:
        """Whether a job's run is held."""
        return facts.run_id is not None and (facts.tenant, facts.run_id) in self.runs
