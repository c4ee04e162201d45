"""Which adapter speaks which kind of wire format."""

from collections.abc import Mapping
from typing import Final

from sluice_providers.adapter import Adapter
from sluice_providers.anthropic import AnthropicAdapter
from sluice_providers.azure import AzureAdapter
from sluice_providers.openai import OpenAIAdapter

ADAPTERS: Final[Mapping[str, Adapter]] = {
    "openai": OpenAIAdapter(),
    "anthropic": AnthropicAdapter(),
    "azure": AzureAdapter(),
}


def adapter_for(kind: str) -> Adapter:
    """The adapter of a `providers:` entry's `kind`. Raises LookupError that lists the known kinds."""
    adapter = ADAPTERS.get(kind)
    if adapter is None:
        raise LookupError(f"unknown provider kind {kind!r}; known: {', '.join(sorted(ADAPTERS))}")
    return adapter
