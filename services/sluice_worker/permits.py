"""What policies say of a job just before its call: they may have changed since it was admitted."""

from collections.abc import Awaitable, Callable, Iterable

from sluice_core.jobs.model import Facts
from sluice_core.policies.model import Ask, Decision, Subject
from sluice_core.policies.policy import Permissions


class Permits:
    """Asks the policies of this process's configuration for a job by its facts.

    Of a user the facts hold the pseudonym: those who have an entry of their own are found by it.
    """

    def __init__(
        self, permissions: Permissions, pseudonym: Callable[[str, str], Awaitable[str]]
    ) -> None:
        self._permissions = permissions
        self._pseudonym = pseudonym
        self._users: dict[tuple[str, str], str] = {}

    async def prepare(self, tenants: Iterable[str]) -> None:
        """Learn the pseudonyms of the users that policies name."""
        await self.change(self._permissions, tenants)

    async def change(self, permissions: Permissions, tenants: Iterable[str]) -> None:
        """Go by other policies."""
        self._users = {
            (tenant, await self._pseudonym(tenant, user)): user
            for tenant in tenants
            for user in permissions.users(tenant)
        }
        self._permissions = permissions

    def subject(self, facts: Facts) -> Subject | None:
        """The caller as policies know it; None where its tenant has none."""
        if not self._permissions.governs(facts.tenant):
            return None
        user = facts.user_id
        return Subject(
            tenant=facts.tenant,
            team=facts.team,
            project=facts.project,
            app=facts.app,
            user=None if user is None else self._users.get((facts.tenant, user), user),
            key_id=facts.key_id,
        )

    def refusal(
        self, subject: Subject, facts: Facts, *, worst_nano: int | None = None
    ) -> Decision | None:
        """Why the job may not be called; None where it may. `worst_nano`: what it may cost at most."""
        decision = self._permissions.decide(
            subject,
            Ask(
                model=facts.model,
                operation=facts.operation,
                job_class=facts.job_class,
                worst_nano=worst_nano,
            ),
        )
        return None if decision.allowed else decision

    def max_tokens(self, subject: Subject) -> int | None:
        """The longest answer that the caller may ask for, in tokens; None: any."""
        return self._permissions.max_tokens(subject)
