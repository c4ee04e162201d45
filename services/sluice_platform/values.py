"""Values: dataclasses that the type checker keeps frozen and that cost no more to make than they must."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Class = TypeVar("Class")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen_value(cls: type[Class]) -> type[Class]:
    """A slotted, keyword-only dataclass, compared and hashed by its fields.

    Frozen by mypy alone: a dataclass that is frozen when it runs makes every field by a call of
    `object.__setattr__`, four times as slow. A job is some twenty such values on its way, which was a tenth of
    all that a worker does.
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
