"""Which accounts go with tokens, and where those come from; a new flow is a module with its fetch, and a line here."""

from sluice_core.config.provider import ProviderConfig
from sluice_providers.credentials import Fetch
from sluice_providers.entra import entra_tokens
from sluice_providers.google_tokens import google_tokens
from sluice_providers.http import Transport


def token_source(account: ProviderConfig, transport: Transport) -> Fetch | None:
    """How to fetch an account's tokens; None: it goes with keys."""
    if account.entra is not None:
        return entra_tokens(account.entra, transport)
    if account.service_account is not None:
        return google_tokens(account.service_account, transport)
    return None
