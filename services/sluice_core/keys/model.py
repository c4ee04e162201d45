"""An API key as intake uses it."""

from dataclasses import dataclass, field
from typing import Final

VOUCH: Final = "vouch"
"""The grant to speak for any caller by `sluice-on-behalf-of`."""

GRANTS: Final = frozenset({VOUCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of a tenant; `team`, `project` and `app` restrict what its jobs may name.

    `hmac_key` is the SHA-256 of the secret (32 bytes). `reply_topics` is where replies to a vouching
    key's records may go (empty: its tenant's list). `expires_at` and `revoked_at` are epoch seconds.
    """

    id: str
    tenant: str
    team: str | None
    project: str | None
    app: str | None
    grants: frozenset[str]
    hmac_key: bytes = field(repr=False)
    reply_topics: tuple[str, ...]
    expires_at: float | None
    revoked_at: float | None
