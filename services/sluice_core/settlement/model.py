"""How one attempt went, as far as its settlement needs to know."""

from dataclasses import field
from typing import Literal

from sluice_core.jobs.fates import Money
from sluice_core.jobs.model import Outcome
from sluice_core.usage.model import NOTHING, Usage, UsageSource
from sluice_platform.values import frozen_value
from sluice_schemas.errors import ErrorCode

CacheMark = Literal["miss", "exact", "semantic"]


@frozen_value
class Priced:
    """What an attempt cost: nano-dollars paid and listed, the meters as JSON text, and which prices were applied."""

    cost_nano: int = 0
    list_nano: int = 0
    meters: str = "[]"
    price_version: str = "none"


@frozen_value
class Problem:
    """Why a job did not succeed, for its requester."""

    code: ErrorCode
    message: str
    status: int | None = None
    param: str | None = None
    retry_after_s: float | None = None


@frozen_value
class Report:
    """One attempt at one target. Times are epoch seconds, money nano-dollars.

    `body` is the response in OpenAI form (or the provider's error in that form), None where there is none.
    `money` says what may have been billed: `unknown` holds `worst_nano` until somebody says. `pressure` and
    `cool_until` (epoch seconds) are what the answer says of its account's and target's load. `asked` is False where
    no provider was called, so that the result counts no attempt. `arm` of a split, `region` of the target, `tier` that served it.
    """

    account: str
    provider: str
    provider_model: str
    started_at: float
    ended_at: float
    worst_nano: int
    outcome: Outcome
    money: Money
    input_nano: int = 0
    status: int | None = None
    request_id: str | None = None
    body: bytes | None = None
    usage: Usage = NOTHING
    usage_source: UsageSource = "reported"
    priced: Priced = field(default_factory=Priced)
    provider_ms: int = 0
    deltas: int = 0
    warnings: tuple[str, ...] = ()
    problem: Problem | None = None
    pressure: float | None = None
    cool_until: float | None = None
    asked: bool = True
    arm: str | None = None
    region: str | None = None
    tier: str | None = None
