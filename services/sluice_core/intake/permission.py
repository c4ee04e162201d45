"""What policies say of a job that has been read: the caller is told what was refused, and nothing else."""

from typing import Any

from sluice_core.intake.refusal import Refused, invalid
from sluice_core.intake.request import Request
from sluice_core.policies.model import Ask, Subject
from sluice_core.policies.policy import Permissions
from sluice_schemas.classes import JobClass


def permit(
    subject: Subject,
    request: Request,
    job_class: JobClass,
    topic: str,
    permissions: Permissions,
) -> None:
    """Return where the job may go on; raises Refused. What it may cost is judged once its target is known."""
    field, tokens = None, None
    if permissions.max_tokens(subject) is not None:
        field, tokens = _asked_tokens(request.body)
    decision = permissions.decide(
        subject,
        Ask(
            model=request.model,
            operation=request.operation,
            job_class=job_class,
            topic=topic,
            max_tokens=tokens,
        ),
    )
    if not decision.allowed:
        assert decision.code is not None
        param = field if decision.aspect == "max_tokens" else decision.param
        raise Refused(decision.code, decision.message, param, rule=str(decision.rule))


def _asked_tokens(body: dict[str, Any]) -> tuple[str, int | None]:
    """The largest number of output tokens that a body names, and the field that names it; None: none does.

    Raises Refused for anything but a whole number: a provider might still read a number in it.
    """
    largest: tuple[str, int | None] = ("body.max_tokens", None)
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        asked = body.get(name)
        if asked is None:
            continue
        if type(asked) is not int or asked < 0:
            raise invalid(f"body.{name} must be a whole number", f"body.{name}")
        if largest[1] is None or asked > largest[1]:
            largest = (f"body.{name}", asked)
    return largest
