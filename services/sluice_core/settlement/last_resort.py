"""Pure: the settlement of an end that could not be stored even without its answer: numbers, constants and cleaned names."""

from dataclasses import replace
from uuid import UUID

from sluice_core.jobs.model import Facts, Job, State
from sluice_core.jobs.writes import Settlement
from sluice_core.settlement.model import Problem
from sluice_core.settlement.policy import ending
from sluice_core.usage.model import Usage
from sluice_core.usage.policy import MOST_TOKENS
from sluice_core.usage.row import UsageRow
from sluice_schemas.errors import ErrorCode
from sluice_schemas.money import MAX_NANO

_NAME_BYTES = 256
_MOST_MS = 2**31


def last_resort(
    settlement: Settlement, job: Job, *, custom_id: str | None, now: float, ce_id: UUID
) -> Settlement:
    """End the job as `internal` with what any ledger can store; cost and held money stay what they were.

    Nothing that a provider wrote is in it; what says whose the usage is has been cut to storable text. A job that
    would have been tried again ends as well: its next attempt might be kept from being stored by the same thing. An
    attempt whose job was answered before ends alone.
    """
    bare = Settlement(
        row=settlement.row,
        id=settlement.id,
        day=settlement.day,
        attempt=settlement.attempt,
        state=None,
        outcome=settlement.outcome,
        death=settlement.death,
        code=ErrorCode.INTERNAL,
        usage=None if settlement.usage is None else _usage(settlement.usage),
        held_nano=_money(settlement.held_nano),
        input_nano=_money(settlement.input_nano),
    )
    if settlement.state is None:
        return bare
    end = ending(
        replace(job, facts=_facts(job.facts)),
        state=State.FAILED,
        custom_id=custom_id,
        now=now,
        ce_id=ce_id,
        problem=Problem(code=ErrorCode.INTERNAL, message="the answer could not be stored"),
    )
    return replace(bare, state=State.FAILED, ce_id=ce_id, result=end.result)


def _usage(row: UsageRow) -> UsageRow:
    used = row.usage
    return replace(
        row,
        run_id=_name(row.run_id),
        tenant=_text(row.tenant),
        team=_name(row.team),
        project=_text(row.project),
        app=_name(row.app),
        user_id=_name(row.user_id),
        tags="{}",
        key_id=_name(row.key_id),
        provider=_text(row.provider),
        account=_text(row.account),
        model_requested=_text(row.model_requested),
        provider_model=_text(row.provider_model),
        provider_request_id=None,
        arm=_name(row.arm),
        region=_name(row.region),
        service_tier=_name(row.service_tier),
        usage=Usage(
            input_tokens=_within(used.input_tokens, MOST_TOKENS),
            cache_read_tokens=_within(used.cache_read_tokens, MOST_TOKENS),
            cache_write_tokens=_within(used.cache_write_tokens, MOST_TOKENS),
            output_tokens=_within(used.output_tokens, MOST_TOKENS),
            reasoning_tokens=_within(used.reasoning_tokens, MOST_TOKENS),
        ),
        meters="[]",
        cost_nano=_within(row.cost_nano, MAX_NANO),
        list_cost_nano=_within(row.list_cost_nano, MAX_NANO),
        price_version=_text(row.price_version),
        provider_ms=_within(row.provider_ms, _MOST_MS),
    )


def _facts(facts: Facts) -> Facts:
    return Facts(
        tenant=facts.tenant,
        run_id=_name(facts.run_id),
        job_class=facts.job_class,
        model=_name(facts.model),
    )


def _within(number: int, most: int) -> int:
    return min(max(0, number), most)


def _money(nano: int | None) -> int | None:
    return None if nano is None else _within(nano, MAX_NANO)


def _name(text: str | None) -> str | None:
    return None if text is None else _text(text)


def _text(text: str) -> str:
    """Text that every ledger takes: valid UTF-8, no NUL, bounded."""
    clean = text.replace("\0", "").encode(errors="replace")[:_NAME_BYTES]
    return clean.decode(errors="ignore")
