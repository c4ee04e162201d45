"""Making keys, keeping their signing material encrypted, and deciding whether a key still counts."""

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sluice_core.keys.model import Key

ID_PREFIX: Final = "sgk_"
SECRET_PREFIX: Final = "sgs_"  # noqa: S105 - the prefix by which scanners recognise a secret
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class MaterialUnreadableError(Exception):
    """Signing material does not open: another master key, another key's id, or altered bytes."""


def create_secret() -> tuple[str, str]:
    """Make a new (id, secret): 96 random bits name the key, 256 sign for it."""
    return ID_PREFIX + secrets.token_hex(12), SECRET_PREFIX + secrets.token_urlsafe(32)


def encrypt(material: bytes, *, master_key: bytes, key_id: str) -> bytes:
    """Encrypt signing material with AES-256-GCM, bound to the key's id; nonce first.

    `master_key` is 32 bytes; ValueError for another length.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(master_key).encrypt(nonce, material, key_id.encode())


def decrypt(sealed: bytes, *, master_key: bytes, key_id: str) -> bytes:
    """Open what `encrypt` sealed; MaterialUnreadableError where it does not open."""
    if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise MaterialUnreadableError(f"the signing material of {key_id} is cut short")
    nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return _cipher(master_key).decrypt(nonce, text, key_id.encode())
    except InvalidTag as exc:
        raise MaterialUnreadableError(
            f"the signing material of {key_id} does not open under this SLUICE_MASTER_KEY"
        ) from exc


def decrypt_any(sealed: bytes, *, master_keys: Sequence[bytes], key_id: str) -> bytes:
    """Open under the first master key that opens it; MaterialUnreadableError where none does."""
    for master_key in master_keys:
        with suppress(MaterialUnreadableError):
            return decrypt(sealed, master_key=master_key, key_id=key_id)
    if not master_keys:
        raise MaterialUnreadableError("SLUICE_MASTER_KEY is not set")
    raise MaterialUnreadableError(
        f"the signing material of {key_id} does not open under this SLUICE_MASTER_KEY"
    )


def opens(sealed: bytes, master_key: bytes, key_id: str) -> bool:
    """Whether `decrypt` would open it."""
    try:
        decrypt(sealed, master_key=master_key, key_id=key_id)
    except MaterialUnreadableError:
        return False
    return True


def _cipher(master_key: bytes) -> AESGCM:
    if len(master_key) != 32:
        raise ValueError("a master key is 32 bytes: SLUICE_MASTER_KEY has 64 hex digits")
    return AESGCM(master_key)


def usable(key: Key, now: float) -> bool:
    """Whether a key counts at `now` (epoch seconds): neither expired nor revoked by then."""
    return (key.expires_at is None or now < key.expires_at) and (
        key.revoked_at is None or now < key.revoked_at
    )
