"""What may be said of how an account proves who it is, beside plain keys; and what is known of providers by name."""

from collections.abc import Mapping
from typing import Final

from pydantic import Field, SecretStr

from sluice_core.config.base import Section
from sluice_core.config.compatible import ROWS

NAMES: Final[Mapping[str, str]] = {"azure": "azure.ai.openai"}
"""The OpenTelemetry `gen_ai.provider.name` of kinds that have another name there."""

BASE_URLS: Final[Mapping[str, str]] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    **{name: url for name, (url, _) in ROWS.items() if url is not None},
}
"""Where a provider of this name is reached, unless `base_url` says otherwise."""


class EntraConfig(Section):
    """An application in Microsoft Entra ID whose tokens an account goes with."""

    tenant_id: str = Field(min_length=1)
    client_id: str = Field(min_length=1)
    client_secret: SecretStr
    scope: str = Field(default="https://cognitiveservices.azure.com/.default", min_length=1)
    token_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
