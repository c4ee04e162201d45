"""A control record: cancel one job, or every job of a run."""

from typing import Self

from pydantic import StrictStr, model_validator

from sluice_schemas.base import Value
from sluice_schemas.jobs import Text


class Cancel(Value):
    """Names exactly one of a job's id, its idempotency key, or a run of the caller's tenant."""

    id: StrictStr | None = None
    idempotency_key: Text | None = None
    run_id: Text | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        named = (self.id, self.idempotency_key, self.run_id)
        if sum(field is not None for field in named) != 1:
            raise ValueError("name exactly one of id, idempotency_key and run_id")
        return self
