"""What every published value has in common."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints

Money = Annotated[str, StringConstraints(pattern=r"^-?[0-9]+\.[0-9]{9}$")]
"""US dollars with exactly nine decimals."""

Timestamp = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
"""RFC 3339 in UTC with `Z` and six decimals."""

UuidText = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
"""A UUID, lower-case and hyphenated."""

UNALLOCATED: Final = "unallocated"
"""The team, project or app of a job that names none."""


class Value(BaseModel):
    """A published value: fields not known are kept and never an error."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
