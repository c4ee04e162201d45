"""The mock's token endpoints: a form in, a token of its own out (RFC 6749 and 7523)."""

import base64
import time
from itertools import count
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.responses import answer_json

_numbers = count(1)
LIFE_S = 3600
_CLAIM = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def is_token_path(path: str) -> bool:
    """Entra's, of any tenant, and Google's."""
    return path == "/token" or path.endswith("/oauth2/v2.0/token")


def answer_token(raw: bytes) -> web.Response:
    """A token, `expires_in` of the client id's `@SECONDS`; the client secret `wrong` is refused, `down` answers 503."""
    form = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
    if form.get("grant_type") == _CLAIM:
        return _answer_claim(form.get("assertion", ""))
    sent = form.get("client_secret", "")
    if sent == "down":
        return answer_json(b"{}", 503)
    if form.get("grant_type") != "client_credentials" or not form.get("scope"):
        return _refused("invalid_request", 400)
    if sent in {"", "wrong"}:
        return _refused("invalid_client", 401)
    return _token(form.get("client_id", ""))


def _answer_claim(assertion: str) -> web.Response:
    """A token for a claim of whom Google would know; the account `wrong@…` is refused, `down@…` answers 503."""
    try:
        header, claims = (
            orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in assertion.split(".")[:2]
        )
        account, life = str(claims["iss"]), claims["exp"] - claims["iat"]
        known = header["alg"] == "RS256" and claims["scope"] and claims["aud"].endswith("/token")
    except (KeyError, TypeError, ValueError):
        return _refused("invalid_grant", 400)
    if account.startswith("down@"):
        return answer_json(b"{}", 503)
    in_time = claims["iat"] <= time.time() + 60 and 0 < life <= LIFE_S
    if not known or not in_time or account.startswith("wrong@"):
        return _refused("invalid_grant", 400)
    return _token("")


def _token(client: str) -> web.Response:
    _, _, life = client.partition("@")
    document = {
        "token_type": "Bearer",
        "expires_in": int(life or LIFE_S),
        "access_token": f"mock-token-{next(_numbers)}",
    }
    return answer_json(orjson.dumps(document))


def _refused(code: str, status: int) -> web.Response:
    document = {"error": code, "error_description": "AADSTS7000215: Invalid client secret."}
    return answer_json(orjson.dumps(document), status)
