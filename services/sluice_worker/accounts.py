"""Which account a model's jobs would go to: what a hold on an account goes by."""

from collections.abc import Callable

from sluice_core.config.model import Config, resolve_model

REMEMBERED = 10_000
"""Model names kept; under `*` anybody may invent more."""


def first_account(config: Config, pool: str) -> Callable[[str], str | None]:
    """A function from a model's name to the account of its first target in this pool; None where it has none."""
    known: dict[str, str | None] = {}

    def account_of(model: str) -> str | None:
        if model not in known:
            if len(known) >= REMEMBERED:
                known.clear()
            accounts = (target.account for target in resolve_model(config, model))
            known[model] = next((a for a in accounts if config.providers[a].pool == pool), None)
        return known[model]

    return account_of
