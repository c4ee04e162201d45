"""Which team, project, app and user a job's cost belongs to, and whether it may say so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice_core.intake.authenticate import Caller
from sluice_core.intake.refusal import Refused
from sluice_core.intake.rules import TenantRules
from sluice_schemas.base import UNALLOCATED
from sluice_schemas.errors import ErrorCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Where a job's cost belongs; `unallocated` where nobody said."""

    team: str
    project: str
    app: str
    user: str | None


def attribute(caller: Caller, options: Mapping[str, Any], rules: TenantRules) -> Attribution:
    """Join what the job says with what its caller is bound to.

    Raises Refused: `unknown_project` for a name that the tenant has not or the caller may not use, told in the
    same words, so that nobody learns by asking what others have; `forbidden` for another user than the one
    vouched for or the key's own.
    """
    project = _bound("project", options.get("project"), caller.project)
    app = _bound("app", options.get("app"), caller.app)
    team = _bound("team", options.get("team"), caller.team)
    known = rules.projects.get(project) if project is not None else None
    if project is not None and known is None:
        raise _unknown("project")
    if app is not None and (known is None or app not in known.apps):
        raise _unknown("app")
    if known is not None:
        if team is not None and known.team != team:
            raise _unknown("project")
        team = team or known.team
    if team is not None and team not in rules.teams:
        raise _unknown("team")
    return Attribution(
        team=team or UNALLOCATED,
        project=project or UNALLOCATED,
        app=app or UNALLOCATED,
        user=_user(options.get("user"), caller.user),
    )


def _bound(field: str, asked: str | None, held: str | None) -> str | None:
    if asked is not None and held is not None and asked != held:
        raise _unknown(field)
    return asked if asked is not None else held


def _unknown(field: str) -> Refused:
    message = f"no {field} of this name is open to this caller"
    return Refused(ErrorCode.UNKNOWN_PROJECT, message, f"options.{field}")


def _user(asked: str | None, held: str | None) -> str | None:
    if asked is not None and held is not None and asked != held:
        message = "this caller may not speak for another user"
        raise Refused(ErrorCode.FORBIDDEN, message, "options.user")
    return asked if asked is not None else held
