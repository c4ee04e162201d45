"""Keys: secrets, encryption at rest, and when a key counts."""

import os
from dataclasses import replace

import pytest

from sluice_core.keys.model import Key
from sluice_core.keys.policy import (
    MaterialUnreadableError,
    create_secret,
    decrypt,
    decrypt_any,
    encrypt,
    usable,
)

MASTER = bytes(range(32))
KEY = Key(
    id="sgk_1",
    tenant="acme",
    team=None,
    project=None,
    app=None,
    grants=frozenset(),
    hmac_key=b"\x07" * 32,
    reply_topics=(),
    expires_at=None,
    revoked_at=None,
)


def test_secrets_are_recognisable_and_never_repeat() -> None:
    made = [create_secret() for _ in range(200)]
    assert all(name.startswith("sgk_") and secret.startswith("sgs_") for name, secret in made)
    assert len({name for name, _ in made}) == len({secret for _, secret in made}) == 200
    assert all(len(secret) >= 4 + 43 for _, secret in made)


def test_material_opens_under_its_own_master_key_and_id_alone() -> None:
    sealed = encrypt(KEY.hmac_key, master_key=MASTER, key_id=KEY.id)
    assert KEY.hmac_key not in sealed
    assert decrypt(sealed, master_key=MASTER, key_id=KEY.id) == KEY.hmac_key
    assert encrypt(KEY.hmac_key, master_key=MASTER, key_id=KEY.id) != sealed
    for master, name, text in [
        (os.urandom(32), KEY.id, sealed),
        (MASTER, "sgk_2", sealed),
        (MASTER, KEY.id, sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (MASTER, KEY.id, sealed[:20]),
        (MASTER, KEY.id, b""),
    ]:
        with pytest.raises(MaterialUnreadableError):
            decrypt(text, master_key=master, key_id=name)
    with pytest.raises(ValueError, match="64 hex digits"):
        encrypt(b"x", master_key=b"short", key_id="sgk_1")


def test_a_key_shows_no_material() -> None:
    assert "\\x07" not in repr(KEY)
    assert "hmac" not in repr(KEY)


def test_usable_until_expired_or_revoked() -> None:
    assert usable(KEY, 10.0)
    assert usable(replace(KEY, expires_at=11.0), 10.0)
    assert not usable(replace(KEY, expires_at=10.0), 10.0)
    assert usable(replace(KEY, revoked_at=11.0), 10.0)
    assert not usable(replace(KEY, revoked_at=10.0), 10.0)


def test_material_opens_under_the_current_master_key_or_the_one_before() -> None:
    older = os.urandom(32)
    for sealing in (MASTER, older):
        sealed = encrypt(KEY.hmac_key, master_key=sealing, key_id=KEY.id)
        assert decrypt_any(sealed, master_keys=(MASTER, older), key_id=KEY.id) == KEY.hmac_key
    for master_keys in ((MASTER,), ()):
        with pytest.raises(MaterialUnreadableError, match="SLUICE_MASTER_KEY"):
            decrypt_any(sealed, master_keys=master_keys, key_id=KEY.id)
