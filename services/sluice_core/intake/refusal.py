"""How the steps of intake say no: one exception inside, a verdict outside."""

from sluice_schemas.errors import ErrorCode


class Refused(Exception):
    """A record cannot go on; `param` names the field at fault."""

    def __init__(self, code: ErrorCode, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def invalid(message: str, param: str | None = None) -> Refused:
    """The refusal of a record that is not what the contract describes."""
    return Refused(ErrorCode.INVALID_RECORD, message, param)
