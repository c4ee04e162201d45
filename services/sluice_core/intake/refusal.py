"""How the steps of intake say no: one exception inside, a verdict outside."""

from sluice_core.keys.model import Key
from sluice_schemas.errors import ErrorCode


class Refused(Exception):
    """A record cannot go on; `param` names the field at fault.

    `message` reaches the caller, so it tells nothing of what there is besides. For the record of denials are `rule`,
    the policy's statement that decided, and `key`, the known key under which a signature did not verify.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        param: str | None = None,
        *,
        rule: str | None = None,
        key: Key | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.rule = rule
        self.key = key


def invalid(message: str, param: str | None = None) -> Refused:
    """The refusal of a record that is not what the contract describes."""
    return Refused(ErrorCode.INVALID_RECORD, message, param)
