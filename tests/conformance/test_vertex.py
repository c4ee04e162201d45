"""Vertex: tokens for a service account, fetched once and ahead of need, and calls that go with them."""

import asyncio
import base64
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from tests.conformance.driver import Calls, Mock

from sluice_core.config.kinds import ServiceAccountConfig
from sluice_core.config.provider import ProviderConfig
from sluice_core.jobs.fates import FailureKind
from sluice_providers.credentials import NoSecretError, Tokens
from sluice_providers.google_tokens import assertion, google_tokens, read_key
from sluice_providers.http import Transport
from sluice_worker.keyring import Keyring

PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()
PUBLIC = PRIVATE.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def key_of(mock: Mock, email: str = "robot@p-1.iam.gserviceaccount.com") -> str:
    document = {
        "type": "service_account",
        "private_key_id": "k-1",
        "private_key": PEM,
        "client_email": email,
        "token_uri": f"{mock.url}/token",
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def config_of(key: str, **more: Any) -> ServiceAccountConfig:
    return ServiceAccountConfig.model_validate({"key": key, **more})


def test_a_claim_is_signed_as_google_reads_it(mock: Mock) -> None:
    key = read_key(key_of(mock))
    signed = assertion(key, scope="s", audience="https://x/token", now=1_800_000_000)
    header = jwt.decode_header(signed)
    assert (header["alg"], header["kid"]) == ("RS256", "k-1")
    claims = jwt.decode(signed, verify=False)
    assert claims == {
        "iss": "robot@p-1.iam.gserviceaccount.com",
        "scope": "s",
        "aud": "https://x/token",
        "iat": 1_800_000_000,
        "exp": 1_800_003_600,
    }
    text, _, signature = signed.rpartition(".")
    assert crypt.verify_signature(text.encode(), base64.urlsafe_b64decode(signature + "=="), PUBLIC)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_goes_with_a_token_of_the_account(
    transport: Transport, mock: Mock, stream: bool
) -> None:
    account = ProviderConfig.model_validate(
        {
            "kind": "vertex",
            "base_url": mock.url,
            "options": {"project": "p-1", "region": "europe-west4"},
            "service_account": {"key": key_of(mock)},
        }
    )
    credentials = Keyring(transport).of("vertex", account)
    assert isinstance(credentials, Tokens)
    firsts = await asyncio.gather(*(credentials.first() for _ in range(5)))
    assert len(set(firsts)) == 1
    assert credentials.take(0.0) == firsts[0]
    calls = Calls(transport, "vertex", mock.url)
    answer = await calls(stream=stream, api_key=firsts[0], behaviour=f"key={firsts[0]}")
    assert answer.failure is None, answer.message
    path = mock.requests(f"{calls.job}/1")[0]["path"]
    method = "streamGenerateContent" if stream else "generateContent"
    assert path.startswith("/v1/projects/p-1/locations/europe-west4/publishers/google/models/")
    assert path.endswith(f":{method}")
    await credentials.close()


@pytest.mark.parametrize(
    ("email", "kind"),
    [
        ("wrong@p-1", FailureKind.KEY_REFUSED),
        ("down@p-1", FailureKind.CONNECT_FAILED),
    ],
)
async def test_an_account_that_is_refused(
    transport: Transport, mock: Mock, email: str, kind: FailureKind
) -> None:
    with pytest.raises(NoSecretError) as caught:
        await google_tokens(config_of(key_of(mock, email)), transport)()
    assert caught.value.kind is kind


@pytest.mark.parametrize(
    "key",
    [
        "",
        "withheld",
        "{}",
        '{"private_key": "PEM-secret", "client_email": "x"}',
        '{"private_key": 7, "client_email": "x"}',
    ],
)
async def test_a_key_that_is_none_is_refused_and_not_quoted(transport: Transport, key: str) -> None:
    with pytest.raises(NoSecretError, match="not the JSON document") as caught:
        await google_tokens(config_of(key), transport)()
    assert caught.value.kind is FailureKind.KEY_REFUSED
    assert "PEM-secret" not in str(caught.value)


async def test_an_endpoint_of_its_own(transport: Transport, mock: Mock) -> None:
    key = key_of(mock).replace(mock.url, "http://127.0.0.1:1")
    fetch = google_tokens(config_of(key, token_url=f"{mock.url}/token"), transport)
    assert (await fetch()).life_s == 3600
