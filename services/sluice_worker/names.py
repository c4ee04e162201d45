"""Names that the ledger knows by number: lanes, runs, users; remembered in the process."""

import hashlib
import hmac
import os

from sluice_core.jobs.names import NameRepository
from sluice_schemas.classes import JobClass

REMEMBERED = 50_000


class Names:
    """Rows that names stand for, remembered; a new name costs one statement, once."""

    def __init__(self, names: NameRepository) -> None:
        self._names = names
        self._lanes: dict[tuple[JobClass, str, str, str, str], int] = {}
        self._runs: dict[tuple[str, str], int] = {}
        self._user_keys: dict[str, bytes] = {}
        self._users: dict[tuple[str, str], str] = {}

    async def lane(
        self, job_class: JobClass, pool: str, tenant: str, project: str, model: str
    ) -> int:
        """The lane's id."""
        key = (job_class, pool, tenant, project, model)
        found = self._lanes.get(key)
        if found is None:
            found = self._lanes[key] = await self._names.ensure_lane(*key)
        return found

    async def run(self, tenant: str, name: str) -> int:
        """The run's id."""
        key = (tenant, name)
        found = self._runs.get(key)
        if found is None:
            if len(self._runs) > REMEMBERED:
                self._runs.clear()
            found = self._runs[key] = await self._names.ensure_run(tenant, name)
        return found

    async def pseudonym(self, tenant: str, user: str) -> str:
        """The user's pseudonym: HMAC-SHA256 under the tenant's key, 128 bits of it."""
        found = self._users.get((tenant, user))
        if found is None:
            if tenant not in self._user_keys:
                self._user_keys[tenant] = await self._names.pseudonym_key(tenant, os.urandom(32))
            digest = hmac.digest(self._user_keys[tenant], user.encode(), hashlib.sha256)
            found = "u_" + digest[:16].hex()
            await self._names.ensure_user(tenant, found, user)
            if len(self._users) > REMEMBERED:
                self._users.clear()
            self._users[(tenant, user)] = found
        return found
