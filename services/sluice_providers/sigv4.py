"""AWS Signature Version 4: what a request proves its sender by, as a function of the request, the keys and the time.

After the AWS documentation, "Create a signed AWS API request". The path counts as it is sent and is encoded once more,
as every service but S3 has it.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qsl, quote

from sluice_platform.values import frozen_value

_ALGORITHM = "AWS4-HMAC-SHA256"


@frozen_value
class Keys:
    """What AWS gives a caller; `session` with keys that are temporary."""

    access: str
    secret: str
    session: str | None = None


@frozen_value
class Signable:
    """A request as it goes out: `path` and `query` encoded, and those headers that are signed, `host` among them."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    content: bytes


def signed(
    request: Signable, keys: Keys, *, region: str, service: str, at: datetime
) -> dict[str, str]:
    """The headers to send besides the signed ones; `at` in UTC."""
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": stamp}
    if keys.session:
        added["x-amz-security-token"] = keys.session
    headers = {
        name.lower(): " ".join(value.split())
        for name, value in sorted({**request.headers, **added}.items(), key=_by_name)
    }
    names = ";".join(headers)
    canonical = "\n".join(
        (
            request.method,
            quote(request.path or "/", safe="/-_.~"),
            _query(request.query),
            *(f"{name}:{value}" for name, value in headers.items()),
            "",
            names,
            hashlib.sha256(request.content).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join((_ALGORITHM, stamp, scope, digest))
    key = signing_key(keys.secret, day=stamp[:8], region=region, service=service)
    signature = _hmac(key, text).hex()
    proof = f"Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    return added | {"authorization": f"{_ALGORITHM} {proof}"}


def signing_key(secret: str, *, day: str, region: str, service: str) -> bytes:
    """The key of one day (`20150830`), region and service."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _by_name(header: tuple[str, str]) -> str:
    return header[0].lower()


def _query(query: str) -> str:
    pairs = [
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))
