"""An applied version of the configuration."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was applied when, and by whom; `document` is the text as it was written."""

    version: int
    applied_at: datetime
    actor: str
    document: str
