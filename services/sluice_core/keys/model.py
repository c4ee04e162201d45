"""An API key as intake uses it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

VOUCH: Final = "vouch"
"""The grant to speak for any caller by `sluice-on-behalf-of`."""

GRANTS: Final = frozenset({VOUCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of a tenant; `team`, `project`, `app` and `user` restrict what its jobs may name.

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
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyScope:
    """Whose a key is, and what it may do; absent parts leave the choice to the job."""

    tenant: str
    team: str | None = None
    project: str | None = None
    app: str | None = None
    user: str | None = None
    grants: frozenset[str] = frozenset()
    reply_topics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as people see it: no signing material. `last_used_at` lags some seconds behind."""

    id: str
    scope: KeyScope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seals:
    """Under which master key the keys that are not revoked are sealed, by their ids, the oldest first."""

    current: tuple[str, ...] = ()
    previous: tuple[str, ...] = ()
    neither: tuple[str, ...] = ()
