"""What one kind of provider alone is told, and the accounts that go with a service account's tokens."""

from pathlib import Path

import pytest

from sluice_core.config.load import (
    ConfigError,
    Withheld,
    parse_config,
    parse_for_pool,
    spelled_out,
)
from sluice_core.config.provider import ProviderConfig
from sluice_core.pricing.book import PriceBook
from sluice_core.routing.model import Candidate
from sluice_worker.resolve import Resolver

ENVIRON = {"AK": "AKIDEXAMPLE", "SK": "s/+ecret", "KEY": '{\n"private_key": "PEM"}'}


def account(settings: str, pool: str = "default") -> ProviderConfig:
    return parse_for_pool(f"providers: {{it: {{{settings}}}}}", pool, ENVIRON).providers["it"]


@pytest.mark.parametrize(
    ("settings", "name", "url"),
    [
        (
            "kind: bedrock, options: {region: eu-west-1}",
            "aws.bedrock",
            "https://bedrock-runtime.eu-west-1.amazonaws.com",
        ),
        (
            "kind: vertex, options: {project: p, region: europe-west4}",
            "gcp.vertex_ai",
            "https://europe-west4-aiplatform.googleapis.com",
        ),
        (
            "kind: vertex, options: {project: p, region: global}",
            "gcp.vertex_ai",
            "https://aiplatform.googleapis.com",
        ),
        ("kind: gemini", "gcp.gemini", "https://generativelanguage.googleapis.com"),
        ("kind: cohere", "cohere", "https://api.cohere.com"),
        (
            "kind: vertex, base_url: 'http://x', options: {project: p, region: r}",
            "gcp.vertex_ai",
            "http://x",
        ),
    ],
)
def test_kinds_have_names_and_addresses(settings: str, name: str, url: str) -> None:
    made = account(settings)
    assert (made.provider_name, made.url) == (name, url)


def test_options_reach_the_target() -> None:
    text = """
providers: {it: {kind: ollama, base_url: "http://x", options: {num_ctx: 8192}}}
models: {fast: {targets: [{account: it, model: qwen3}]}}
"""
    config = parse_for_pool(text, "default", {})
    candidate = Candidate(account="it", model="qwen3", name="it/qwen3", place=0)
    route = Resolver(config, PriceBook(), pool="default").route("fast", candidate, 0.0)
    assert route.target.options == {"num_ctx": "8192"}


def test_keys_of_several_parts_come_from_the_environment() -> None:
    made = account('kind: bedrock, options: {region: r}, api_key: "${AK}:${SK}"')
    assert made.keys == ("AKIDEXAMPLE:s/+ecret",)


def test_parts_of_a_key_that_are_missing_or_written_out_are_found() -> None:
    text = "providers: {it: {kind: bedrock, options: {region: r}, api_key: '%s'}}"
    with pytest.raises(ConfigError, match="environment variable NO_SECRET"):
        parse_for_pool(text % "${AK}:${NO_SECRET}", "default", ENVIRON)
    for key, written in (("${AK}:${SK}", False), ("${AK}", False), ("AKID:${SK}", True)):
        config = parse_config(text % key, Withheld())
        assert [spelled_out(secret) for secret in config.providers["it"].secrets] == [written]


def test_a_service_account_by_environment_or_file(tmp_path: Path) -> None:
    place = "kind: vertex, options: {project: p, region: r}"
    made = account(f'{place}, service_account: {{key: "${{KEY}}"}}')
    assert made.service_account is not None
    assert [secret.get_secret_value() for secret in made.secrets] == [ENVIRON["KEY"]]
    assert "PEM" not in repr(made)
    file = tmp_path / "key.json"
    file.write_text(ENVIRON["KEY"])
    read = account(f"{place}, service_account: {{key_file: {file}}}")
    assert [secret.get_secret_value() for secret in read.secrets] == [ENVIRON["KEY"]]
    assert account(f"{place}, service_account: {{key_file: /none}}", pool="gpu").secrets == ()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("kind: bedrock", "sluice.yaml:1: providers.it.options.region: is missing"),
        ("kind: vertex, options: {region: r}", "providers.it.options.project: is missing"),
        (
            "kind: vertex, options: {project: p, regoin: r}",
            "options.regoin: no such option of vertex",
        ),
        ("kind: openai, options: {region: r}", "options.region: no such option of openai"),
        (
            'kind: ollama, base_url: "http://x", options: {num_ctx: big}',
            "num_ctx: must be a whole number",
        ),
        (
            'kind: gemini, api_key: "${AK}", service_account: {key: "${KEY}"}',
            "service_account: stands beside api_key",
        ),
        (
            'kind: gemini, service_account: {key: "${KEY}"}',
            "service_account: only kind: vertex goes with its tokens",
        ),
        (
            'kind: bedrock, options: {region: r}, api_key: "AK:"',
            "api_key: is ACCESS:SECRET, ACCESS",
        ),
        ("kind: gemini, service_account: {}", "service_account: has either key or key_file"),
        (
            "kind: vertex, options: {project: p, region: r}, service_account: {key_file: /not/there}",
            "service_account.key_file: No such file",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(settings: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        account(settings)
    assert any(says in line for line in caught.value.problems), caught.value.problems
