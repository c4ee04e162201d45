"""Microsoft Entra ID's client-credentials flow: a token for an application with a secret of its own."""

from typing import Final

from sluice_core.config.accounts import EntraConfig
from sluice_providers.credentials import Fetch, Token
from sluice_providers.http import Transport
from sluice_providers.token_call import ask_token

_AUTHORITY: Final = "https://login.microsoftonline.com"


def entra_tokens(config: EntraConfig, transport: Transport) -> Fetch:
    """How to fetch a token for an application (RFC 6749, section 4.4)."""
    url = config.token_url or f"{_AUTHORITY}/{config.tenant_id}/oauth2/v2.0/token"
    form = {
        "grant_type": "client_credentials",
        "client_id": config.client_id,
        "client_secret": config.client_secret.get_secret_value(),
        "scope": config.scope,
    }

    async def fetch() -> Token:
        return await ask_token(transport, url, form)

    return fetch
