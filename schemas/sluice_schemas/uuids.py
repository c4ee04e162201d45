"""Makes UUID values out of 128 bits that are known to be right."""

from typing import Final
from uuid import UUID, SafeUUID

_set: Final = object.__setattr__


def uuid_of(number: int) -> UUID:
    """The UUID of a number of 128 bits, as `UUID(int=number)`, whose checks cost five times the value itself.

    Every job makes three; `number` is not checked.
    """
    made = object.__new__(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", SafeUUID.unknown)
    return made
