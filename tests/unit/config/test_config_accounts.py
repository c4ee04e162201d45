"""How accounts prove who they are, and where they are reached."""

from pathlib import Path

import pytest

from sluice_core.config.load import ConfigError, Withheld, parse_config, parse_for_pool
from sluice_core.config.provider import ProviderConfig

ENVIRON = {"A": "key-a", "B": "key-b", "TENANT": "t-1", "CLIENT": "c-1", "SECRET": "s-1"}


def account(settings: str, pool: str = "default") -> ProviderConfig:
    return parse_for_pool(f"providers: {{it: {{{settings}}}}}", pool, ENVIRON).providers["it"]


def test_several_keys_each_by_its_variable() -> None:
    made = account('kind: openai, api_keys: ["${A}", "${B}", "${A}"]')
    assert made.keys == ("key-a", "key-b")
    assert account('kind: openai, api_keys: ["${A}"]', pool="gpu").keys == ()


def test_keys_on_the_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("key-1\n\nkey-2\n")
    made = account(f"kind: openai, api_key_file: {file}")
    assert made.keys == ("key-1", "key-2")
    # Whoever checks a configuration elsewhere has neither the file nor the variables.
    text = "providers: {it: {kind: openai, api_key_file: /not/there}}"
    assert parse_config(text, Withheld()).providers["it"].keys == ()
    assert parse_for_pool(text, "gpu", {}).providers["it"].api_key_file is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("kind: openai, api_key_file: /not/there", "providers.it.api_key_file: No such file"),
        ('kind: openai, api_keys: ["${A}", "${C}"]', "api_keys[1]: the environment variable C"),
        ('kind: openai, api_key: "${A}", api_keys: ["${B}"]', "api_keys: stands beside api_key"),
        ('kind: openai, api_keys: ["a\\nb"]', "api_keys: holds a line break"),
        ("kind: openai, provider: mine", "base_url: is missing, and for mine none is known"),
        ("kind: anthropic, quirks: {}", "quirks: are of servers like OpenAI's"),
        (
            'kind: anthropic, entra: {tenant_id: t, client_id: c, client_secret: "${A}"}',
            "entra: gives tokens for azure",
        ),
        ("kind: azure", "base_url: is missing, and for azure.ai.openai none is known"),
        ('kind: openai, provider: "${A}"', "is read only in secrets"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(settings: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        account(settings)
    assert any(says in line for line in caught.value.problems), caught.value.problems


def test_an_application_in_entra() -> None:
    made = account(
        'kind: openai, entra: {tenant_id: "${TENANT}", client_id: "${CLIENT}", client_secret: "${SECRET}"}'
    )
    assert made.entra is not None
    assert (made.entra.tenant_id, made.entra.client_id) == ("t-1", "c-1")
    assert [secret.get_secret_value() for secret in made.secrets] == ["s-1"]
    assert "s-1" not in repr(made)


def test_addresses_that_are_known_may_be_left_out() -> None:
    assert account('kind: openai, api_key: "${A}"').url == "https://api.openai.com/v1"
    assert account('kind: openai, base_url: "http://x", api_key: "${A}"').url == "http://x"
