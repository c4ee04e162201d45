"""Every place of a configuration that says something of a scope, with its path."""

from collections.abc import Iterator

from sluice_core.config.document import Path
from sluice_core.config.model import Config, TenantConfig
from sluice_core.config.scopes import Scoped, ScopeLimits

Place = tuple[Path, Scoped]


def callers(name: str, tenant: TenantConfig) -> Iterator[Place]:
    """The scopes of a tenant, itself first; of each the path in the configuration."""
    own: Path = ("tenants", name)
    yield own, tenant
    for team, in_team in tenant.teams.items():
        yield (*own, "teams", team), in_team
    for project, in_project in tenant.projects.items():
        yield (*own, "projects", project), in_project
        for app, in_app in in_project.apps.items():
            yield (*own, "projects", project, "apps", app), in_app
    for user, of_user in tenant.users.items():
        yield (*own, "users", user), of_user
    for key, of_key in tenant.keys.items():
        yield (*own, "keys", key), of_key


def limited(config: Config) -> Iterator[tuple[Path, ScopeLimits]]:
    """Every section of limits: of callers, models and accounts."""
    for name, tenant in config.tenants.items():
        for path, scope in callers(name, tenant):
            yield (*path, "limits"), scope.limits
    for name, model in config.models.items():
        yield ("models", name, "limits"), model.limits
    for name, provider in config.providers.items():
        yield ("providers", name, "limits"), provider.limits
