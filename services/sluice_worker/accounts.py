"""Which accounts a model's jobs may go to: what a hold on an account goes by."""

from collections.abc import Callable

from sluice_core.config.model import Config, resolve_model

REMEMBERED = 10_000
"""Model names kept; under `*` anybody may invent more."""


def accounts_of(config: Config, pool: str) -> Callable[[str], frozenset[str]]:
    """A function from a model's name to the accounts of its targets in this pool."""
    known: dict[str, frozenset[str]] = {}

    def accounts(model: str) -> frozenset[str]:
        if model not in known:
            if len(known) >= REMEMBERED:
                known.clear()
            named = (target.account for target in resolve_model(config, model))
            known[model] = frozenset(a for a in named if config.providers[a].pool == pool)
        return known[model]

    return accounts
