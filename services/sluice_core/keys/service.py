"""Makes, lists, revokes and rotates keys; what is shown once is never kept."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sluice_core.keys.model import GRANTS, KeyRecord, KeyScope
from sluice_core.keys.policy import create_secret, decrypt, encrypt, opens
from sluice_core.keys.repository import PROVIDER_PREFIX, KeyRepository
from sluice_platform.errors import StartupError
from sluice_schemas.jobs import bounded
from sluice_schemas.signature import hmac_key

_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class KeyRefused(StartupError):
    """A key cannot be made, revoked or rotated as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key just made. `secret` is shown to its owner and exists nowhere else."""

    id: str
    secret: str = field(repr=False)


class KeyService:
    """Changes keys; each change, its audit entry and the keys' new version are one statement."""

    def __init__(self, repository: KeyRepository, actor: str) -> None:
        self._repository = repository
        self._actor = actor

    async def list(self) -> Sequence[KeyRecord]:
        """Every key, the newest first, without its signing material."""
        return await self._repository.records()

    async def create(
        self,
        scope: KeyScope,
        *,
        master_key: bytes,
        previous: bytes | None = None,
        expires_in_s: float | None = None,
    ) -> NewKey:
        """Make a key.

        Raises KeyRefused where the scope names what cannot be, or the master key is not that of the
        keys that are there.
        """
        _check(scope)
        await self._require_same_master(master_key, previous)
        key_id, secret = create_secret()
        sealed = encrypt(hmac_key(secret), master_key=master_key, key_id=key_id)
        await self._repository.insert(
            key_id, scope, sealed, expires_in_s=expires_in_s, actor=self._actor
        )
        return NewKey(id=key_id, secret=secret)

    async def revoke(self, key_id: str) -> None:
        """End a key now. Raises KeyRefused for an unknown key or one that is revoked already."""
        if not await self._repository.revoke(key_id, actor=self._actor):
            raise KeyRefused(f"no key {key_id} that is not revoked yet: see `sluice keys list`")

    async def rotate(
        self, key_id: str, *, master_key: bytes, previous: bytes | None = None, overlap_s: float
    ) -> NewKey:
        """Make a key of the same scope; the old one expires in `overlap_s` seconds, or sooner.

        Raises KeyRefused for an unknown, revoked or expired key, or where the master key is not that
        of the keys that are there.
        """
        await self._require_same_master(master_key, previous)
        new_id, secret = create_secret()
        sealed = encrypt(hmac_key(secret), master_key=master_key, key_id=new_id)
        rotated = await self._repository.rotate(
            key_id, new_id, sealed, overlap_s=overlap_s, actor=self._actor
        )
        if not rotated:
            raise KeyRefused(f"no key {key_id} that is still valid: see `sluice keys list`")
        return NewKey(id=new_id, secret=secret)

    async def rotate_master(self, *, master_key: bytes, previous: bytes) -> int:
        """Seal every key's signing material that opens under `previous` under `master_key`; how many were.

        Raises KeyRefused, and changes nothing, where a key that is not revoked opens under neither.
        """
        await self._require_same_master(master_key, previous)
        renewed = [
            (
                key_id,
                sealed,
                encrypt(
                    decrypt(sealed, master_key=previous, key_id=key_id),
                    master_key=master_key,
                    key_id=key_id,
                ),
            )
            for key_id, sealed in await self._repository.sealed()
            if opens(sealed, previous, key_id)
        ]
        return await self._repository.reseal(renewed, actor=self._actor) if renewed else 0

    async def _require_same_master(self, master_key: bytes, previous: bytes | None) -> None:
        """Refuse to seal under a master key that workers, who open the others, do not have."""
        unreadable = (await self._repository.seals(master_key, previous)).neither
        if unreadable:
            if unreadable[0].startswith(PROVIDER_PREFIX):
                _, account, name = unreadable[0].split("/", 2)
                raise KeyRefused(
                    f"the key {name} of provider {account} does not open under this SLUICE_MASTER_KEY: set that of the"
                    f" workers, or remove it (`sluice provider-keys remove {account} --name {name}`)"
                )
            raise KeyRefused(
                f"{unreadable[0]} does not open under this SLUICE_MASTER_KEY, so a key made under it "
                "would not work where that one does: set the SLUICE_MASTER_KEY of the workers, or "
                f"revoke the keys of a lost one (`sluice keys revoke {unreadable[0]}`)"
            )


def _check(scope: KeyScope) -> None:
    if _TENANT.fullmatch(scope.tenant) is None:
        raise KeyRefused(
            f"{scope.tenant!r} is no tenant's name: lower-case letters, digits and dashes, at most 63"
        )
    unknown = scope.grants - GRANTS
    if unknown:
        raise KeyRefused(
            f"no grant {', '.join(sorted(unknown))}; the grants are: {', '.join(sorted(GRANTS))}"
        )
    if scope.user is not None:
        try:
            bounded(scope.user)
        except ValueError as exc:
            raise KeyRefused(f"the user's name {exc}") from exc
    if scope.app is not None and scope.project is None:
        raise KeyRefused("an app belongs to a project: name the project too")
