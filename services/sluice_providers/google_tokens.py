"""Google's tokens for service accounts: a claim signed with the account's key, for a token (RFC 7523)."""

import base64
import time
from typing import Any, Final

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sluice_core.config.kinds import ServiceAccountConfig
from sluice_core.jobs.fates import FailureKind
from sluice_platform.values import frozen_value
from sluice_providers.credentials import Fetch, NoSecretError, Token
from sluice_providers.http import Transport
from sluice_providers.token_call import ask_token

_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_LIFE_S: Final = 3600
"""The longest that Google lets a claim count."""


@frozen_value
class ServiceKey:
    """A service account's key: who it is, by which of its keys, and where its tokens come from."""

    email: str
    key_id: str
    token_url: str
    private: rsa.RSAPrivateKey


def read_key(text: str) -> ServiceKey:
    """Read the JSON document of a key. Raises ValueError that quotes nothing of it."""
    wrong = "is not the JSON document of a service account's key"
    try:
        document: Any = orjson.loads(text)
        private = serialization.load_pem_private_key(document["private_key"].encode(), None)
        email = document["client_email"]
    except (AttributeError, KeyError, TypeError, ValueError, UnsupportedAlgorithm):
        raise ValueError(wrong) from None
    if not (isinstance(private, rsa.RSAPrivateKey) and isinstance(email, str)):
        raise ValueError(wrong)  # noqa: TRY004 - of the text, whatever is wrong with it
    return ServiceKey(
        email=email,
        key_id=str(document.get("private_key_id") or ""),
        token_url=str(document.get("token_uri") or _TOKEN_URL),
        private=private,
    )


def assertion(key: ServiceKey, *, scope: str, audience: str, now: int) -> str:
    """The claim as a JWT signed with RS256; `now` in epoch seconds."""
    header = {"alg": "RS256", "typ": "JWT"} | ({"kid": key.key_id} if key.key_id else {})
    claims = {
        "iss": key.email,
        "scope": scope,
        "aud": audience,
        "iat": now,
        "exp": now + _LIFE_S,
    }
    text = b".".join(map(_coded, (orjson.dumps(header), orjson.dumps(claims))))
    signature = key.private.sign(text, padding.PKCS1v15(), hashes.SHA256())
    return (text + b"." + _coded(signature)).decode()


def _coded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def google_tokens(config: ServiceAccountConfig, transport: Transport) -> Fetch:
    """How to fetch a token for a service account."""

    async def fetch() -> Token:
        try:
            key = read_key("" if config.key is None else config.key.get_secret_value())
        except ValueError as exc:
            raise NoSecretError(FailureKind.KEY_REFUSED, f"no token: the key {exc}") from None
        url = config.token_url or key.token_url
        signed = assertion(key, scope=config.scope, audience=url, now=int(time.time()))
        return await ask_token(transport, url, {"grant_type": _GRANT, "assertion": signed})

    return fetch
