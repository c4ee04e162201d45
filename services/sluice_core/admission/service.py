"""Making the ledger say what a configuration says of limits and budgets: the one way, for processes and commands."""

from sluice_core.admission.changes import Change, compare
from sluice_core.admission.definitions import definitions, kept
from sluice_core.admission.repository import AdmissionRepository
from sluice_core.config.model import Config


async def align(
    repository: AdmissionRepository, config: Config, *, actor: str | None = None
) -> bool:
    """Make it so; whether anything changed. With an `actor` a change is audited.

    Jobs that wait for a budget ask again, for it may have been raised, or lifted; also where nothing is changed here:
    whoever changed it may have been cut off before they were woken.
    """
    scopes, budgets = definitions(config)
    changed = await repository.define(scopes, budgets, whole=True, kept=kept(config), actor=actor)
    await repository.wake()
    return changed


async def changes(repository: AdmissionRepository, config: Config) -> tuple[Change, ...]:
    """What `align` would change, in words; nothing is changed."""
    return compare(await repository.defined(), definitions(config), kept(config))
