"""A provider account in `sluice.yaml`: where calls go, with which keys, and how."""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints

from sluice_core.config.accounts import BASE_URLS, NAMES, EntraConfig
from sluice_core.config.base import Section
from sluice_core.config.compatible import Quirks, quirks_of
from sluice_core.config.kinds import ServiceAccountConfig, as_texts, regional_url
from sluice_core.config.prices import AccountPrices
from sluice_core.config.routing import BreakerConfig, Timeouts
from sluice_core.config.scopes import ScopeLimits

ProviderKind = Literal[
    "openai", "anthropic", "azure", "bedrock", "cohere", "gemini", "ollama", "vertex"
]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class ProviderConfig(Section):
    """A provider account: where calls go, with which keys, from which pool of workers.

    `provider` is the OpenTelemetry `gen_ai.provider.name` and the name prices are found by; it is
    the kind's where absent. `base_url` may be left out where the provider's is known. Of the keys in `api_keys`, or on
    the lines of `api_key_file`, or of those that the ledger keeps (`api_key_store`), each serves in turn. `options` are what one kind alone asks for, such as a region or
    an API version; `quirks` are laid over what is known of a compatible provider. `limits` hold over all its callers and workers together.
    """

    kind: ProviderKind
    base_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    api_key: SecretStr | None = None
    api_keys: tuple[SecretStr, ...] = ()
    api_key_file: str | None = Field(default=None, min_length=1)
    api_key_store: bool = False
    entra: EntraConfig | None = None
    service_account: ServiceAccountConfig | None = None
    provider: str | None = Field(default=None, min_length=1)
    options: Annotated[dict[str, str], BeforeValidator(as_texts)] = {}
    quirks: Quirks | None = None
    pool: Slug = "default"
    timeouts: Timeouts = Timeouts()
    breaker: BreakerConfig = BreakerConfig()
    prices: AccountPrices = AccountPrices()
    limits: ScopeLimits = ScopeLimits()

    @property
    def provider_name(self) -> str:
        """The OpenTelemetry name of the provider."""
        return self.provider or NAMES.get(self.kind, self.kind)

    @property
    def url(self) -> str:
        """Where it is reached; empty where that is neither said nor known."""
        known = BASE_URLS.get(self.provider_name, "")
        return self.base_url or regional_url(self.kind, self.options) or known

    @property
    def differences(self) -> Quirks | None:
        """In what it differs from OpenAI's form; None where in nothing, or where it speaks another."""
        return quirks_of(self.provider_name, self.quirks) if self.kind == "openai" else None

    @property
    def said(self) -> dict[str, str]:
        """Its options as an adapter sees them; `auth` says that what it goes with is a token."""
        return self.options if self.entra is None else {**self.options, "auth": "bearer"}

    @property
    def keys(self) -> tuple[str, ...]:
        """Its plain keys, each once and in order."""
        given = self.api_keys if self.api_key is None else (self.api_key, *self.api_keys)
        return tuple(dict.fromkeys(key.get_secret_value() for key in given))

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """Everything in it that must not be known."""
        account = None if self.service_account is None else self.service_account.key
        secrets = (*self.sent, account)
        return tuple(secret for secret in secrets if secret is not None)

    @property
    def sent(self) -> tuple[SecretStr, ...]:
        """What of it goes out as it is."""
        own = self.api_keys if self.api_key is None else (self.api_key, *self.api_keys)
        return own if self.entra is None else (*own, self.entra.client_secret)

    def secrets_alike(self, other: "ProviderConfig") -> bool:
        """Whether another proves who it is by the same."""
        return all(getattr(self, name) == getattr(other, name) for name in _SECRET_FIELDS)

    def without_secrets(self) -> "ProviderConfig":
        """The same as a process sees it that never calls it."""
        return self.model_copy(update={**dict.fromkeys(_SECRET_FIELDS), "api_keys": ()})


_SECRET_FIELDS: Final = ("api_key", "api_keys", "api_key_file", "entra", "service_account")
