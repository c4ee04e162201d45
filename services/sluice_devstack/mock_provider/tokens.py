"""The mock's token endpoints: a form in, a token of its own out (RFC 6749)."""

from itertools import count
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.responses import answer_json

_numbers = count(1)
LIFE_S = 3600


def is_token_path(path: str) -> bool:
    """Entra's, of any tenant."""
    return path.endswith("/oauth2/v2.0/token")


def answer_token(raw: bytes) -> web.Response:
    """A token, `expires_in` of the client id's `@SECONDS`; the client secret `wrong` is refused, `down` answers 503."""
    form = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
    sent = form.get("client_secret", "")
    if sent == "down":
        return answer_json(b"{}", 503)
    if form.get("grant_type") != "client_credentials" or not form.get("scope"):
        return _refused("invalid_request", 400)
    if sent in {"", "wrong"}:
        return _refused("invalid_client", 401)
    _, _, life = form.get("client_id", "").partition("@")
    document = {
        "token_type": "Bearer",
        "expires_in": int(life or LIFE_S),
        "access_token": f"mock-token-{next(_numbers)}",
    }
    return answer_json(orjson.dumps(document))


def _refused(code: str, status: int) -> web.Response:
    document = {"error": code, "error_description": "AADSTS7000215: Invalid client secret."}
    return answer_json(orjson.dumps(document), status)
