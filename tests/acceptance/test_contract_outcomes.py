"""The contract's sentences on outcomes: errors, retries, deadlines, unknowns, and the money of each."""

import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.acceptance.outsider import RECORD_BYTES, Outsider, header, say, value_of
from tests.waiting import eventually

from sluice_schemas.usage import Usage

pytestmark = [pytest.mark.stack, pytest.mark.acceptance, pytest.mark.xdist_group("contract")]


async def outcome(outside: Outsider, behaviour: str, **arguments: Any) -> dict[str, Any]:
    """The result of a job whose first `first` calls the provider treats in a certain way."""
    mark = uuid4().hex
    rule: dict[str, Any] = {"match": {"body": mark}}
    if first := arguments.pop("first", None):
        rule["first"] = first
    await outside.system.mock.rule(behaviour, **rule)
    body = say(mark, arguments.pop("model", "odd"))
    return dict(value_of(await outside.ask(body, **arguments)))


def summary(value: dict[str, Any]) -> tuple[str, str | None]:
    error = value["job"]["error"]
    return value["job"]["state"], error and error["code"]


async def calls(outside: Outsider, value: dict[str, Any]) -> list[dict[str, Any]]:
    return await outside.system.mock.calls_of(value["id"])


# The mock counts ceil(bytes of the messages / 4) tokens in, and words of its answer out; `odd` costs
# 0.5 nano-dollars a token in, 0.1 cached, 1.5 out; half-even to whole nano-dollars, once per meter.
@pytest.mark.parametrize(
    ("text", "behaviour", "cost"),
    [
        ("a", "", "0.000000004"),  # 1 in: 0.5 → 0; "You said: a" 3 out: 4.5 → 4
        ("abcdefghi", "words=1", "0.000000004"),  # 3 in: 1.5 → 2; 1 out: 1.5 → 2
        ("abcdefghijklmnopq", "words=2", "0.000000005"),  # 5 in: 2.5 → 2; 2 out: 3
        # 12 in, 8 of them cached: 4 × 0.5 = 2; 8 × 0.1 = 0.8 → 1; 1 + 3 reasoning out: 6
        ("x" * 48, "cached=8,words=1,reasoning=3", "0.000000009"),
    ],
)
async def test_money_is_exact_to_the_nano_dollar(
    outside: Outsider, text: str, behaviour: str, cost: str
) -> None:
    number = await outside.system.mock.rule(behaviour, match={"body": f'"{text}"'})
    value = value_of(await outside.ask(say(text)))
    await outside.system.mock.forget_rule(number)
    assert value["job"]["cost_usd"] == cost
    (row,) = await outside.usage_rows(value["id"])
    assert row["cost_usd"] == Decimal(cost)
    assert row["list_cost_usd"] == Decimal(cost)
    meters = json.loads(row["meters"])
    assert sum(Decimal(meter["cost_usd"]) for meter in meters) == Decimal(cost)


async def test_tokens_follow_the_mock_for_both_formats(outside: Outsider) -> None:
    for model in ("odd", "smart"):
        value = value_of(await outside.ask(say("abcdefgh", model)))
        usage = value["job"]["usage"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (2, 3)
        assert value["response"]["body"]["object"] == "chat.completion"
        assert value["response"]["body"]["model"] == model
    assert value["job"]["cost_usd"] == "0.000051000"  # 2 × 3 $/M + 3 × 15 $/M


async def test_the_usage_event_equals_the_row(outside: Outsider) -> None:
    options = {"run_id": "u", "user": "joe@example.com", "tags": {"k": "v"}, "project": "search"}
    value = value_of(await outside.ask(say("usage"), **options, app="web"))
    job_key = value["id"].encode()
    (event,) = await outside.usage.wait_for(lambda: outside.usage.by_key(job_key))
    (row,) = await outside.usage_rows(value["id"])
    usage = value_of(event)
    Usage.model_validate(usage)
    assert set(usage) == set(row.keys())
    for name, stored in row.items():
        if name in {"tags", "meters"}:
            assert usage[name] == json.loads(stored)
        elif name in {"cost_usd", "list_cost_usd"}:
            assert usage[name] == f"{stored:.9f}"
        elif name.endswith("_at"):
            assert usage[name] == stored.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        elif name in {"usage_id", "job_id"}:
            assert usage[name] == str(stored)
        else:
            assert usage[name] == stored, name
    assert header(event, "ce_id") == usage["usage_id"].encode()
    assert header(event, "ce_type") == b"com.sluicegate.usage.recorded.v1"
    assert (usage["team"], usage["project"], usage["app"]) == ("ml", "search", "web")
    assert (usage["provider"], usage["operation"]) == ("openai", "chat")
    assert (usage["outcome"], usage["usage_source"]) == ("succeeded", "reported")
    assert usage["user_id"] is not None
    assert "joe" not in event.value.decode()


async def test_usage_is_append_only(outside: Outsider) -> None:
    value = value_of(await outside.ask(say("append")))
    await outside.usage_rows(value["id"])
    for statement in (
        "update finance.usage set cost_usd = 0",
        "delete from finance.usage",
        "truncate finance.usage",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await outside.system.pool.execute(statement)


async def test_server_errors_are_retried_and_cost_nothing(outside: Outsider) -> None:
    value = await outcome(outside, "status=500", first=2)
    assert summary(value) == ("succeeded", None)
    assert value["job"]["attempts"] == 3
    assert len(await calls(outside, value)) == 3
    (row,) = await outside.usage_rows(value["id"])
    assert row["attempt"] == 3


async def test_max_attempts_ends_with_the_providers_answer(outside: Outsider) -> None:
    value = await outcome(outside, "status=503", max_attempts=2)
    assert summary(value) == ("failed", "provider_unavailable")
    assert value["error"] is None
    assert value["response"]["status_code"] == 503
    assert value["response"]["body"]["error"]
    error = value["job"]["error"]
    assert (error["status"], error["retryable"]) == (503, True)
    assert value["job"]["attempts"] == len(await calls(outside, value)) == 2
    assert value["job"]["cost_usd"] == "0.000000000"
    assert not await outside.usage_rows(value["id"], count=0)


async def test_retry_after_is_honoured(outside: Outsider) -> None:
    value = await outcome(outside, "status=429,retry_after=2", first=1)
    assert summary(value) == ("succeeded", None)
    first, second = await calls(outside, value)
    assert 2.0 <= second["at"] - first["at"] < 8.0


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "provider_error"), (403, "provider_auth"), (404, "provider_error"), (413, "too_large")],
)
async def test_refusals_pass_through_and_are_not_retried(
    outside: Outsider, status: int, code: str
) -> None:
    value = await outcome(outside, f"status={status}")
    assert summary(value) == ("failed", code)
    assert value["response"]["status_code"] == status
    assert value["response"]["body"]["error"]["message"]
    assert len(await calls(outside, value)) == 1


async def test_a_refused_key_is_the_accounts_fault_so_the_job_waits_for_it(
    outside: Outsider,
) -> None:
    value = await outcome(outside, "status=401", timeout_s=4, model="refused")
    # Its last retry is not begun where it would come too late; then the refusal itself is what is told.
    assert summary(value) in {("expired", "deadline_exceeded"), ("failed", "provider_auth")}
    assert value["job"]["cost_usd"] == "0.000000000"
    assert 1 <= len(await calls(outside, value)) <= 3


async def test_what_its_provider_cannot_be_asked_is_rejected_unasked(outside: Outsider) -> None:
    value = value_of(await outside.ask(say("two of them", "smart", n=2)))
    assert summary(value) == ("rejected", "invalid_record")
    assert value["error"]["param"] == "body.n"
    assert value["response"] is None
    assert (value["job"]["attempts"], value["job"]["cost_usd"]) == (0, "0.000000000")
    assert not await calls(outside, value)
    assert not await outside.usage_rows(value["id"], count=0)


async def test_a_provider_that_is_not_there(outside: Outsider) -> None:
    value = value_of(await outside.ask(say("x", "absent/any"), max_attempts=1))
    assert summary(value) == ("failed", "provider_unavailable")
    assert value["response"] is None
    assert value["error"]["retryable"]
    assert not await outside.usage_rows(value["id"], count=0)


async def test_a_deadline_that_has_passed(outside: Outsider) -> None:
    value = value_of(await outside.ask(say("late"), deadline="2020-01-01T00:00:00+02:00"))
    assert summary(value) == ("expired", "deadline_exceeded")
    assert value["job"]["attempts"] == 0
    assert not await calls(outside, value)


async def test_the_earlier_of_deadline_and_timeout_holds(outside: Outsider) -> None:
    value = value_of(await outside.ask(say("late"), deadline="2999-01-01T00:00:00Z", timeout_s=0))
    assert summary(value) == ("expired", "deadline_exceeded")


async def test_a_deadline_during_the_call_answers_at_once_and_books_what_is_reported(
    outside: Outsider,
) -> None:
    value = await outcome(outside, "latency=2500ms", timeout_s=1)
    assert summary(value) == ("expired", "deadline_exceeded")
    assert value["job"]["total_ms"] < 2400
    (row,) = await outside.usage_rows(value["id"])
    assert (row["outcome"], row["usage_source"]) == ("expired", "reported")
    assert row["cost_usd"] > 0


@pytest.mark.parametrize("fault", ["hang", "cut_before_status"])
async def test_an_outcome_that_cannot_be_known(outside: Outsider, fault: str) -> None:
    value = await outcome(outside, f"fault={fault}", model="hasty")
    assert summary(value) == ("unknown", "outcome_unknown")
    assert value["response"] is None
    assert value["error"]["code"] == "outcome_unknown"
    assert value["job"]["cost_usd"] == "0.000000000"
    assert len(await calls(outside, value)) == 1
    (row,) = await outside.usage_rows(value["id"])
    assert (row["outcome"], row["usage_source"], row["input_tokens"]) == ("unknown", "estimated", 0)
    assert row["cost_usd"] == 0
    held = await outside.system.pool.fetchrow(
        "select * from finance.unresolved where usage_id = $1", row["usage_id"]
    )
    assert held is not None
    # 100 tokens out at 2 $/M, and at least the prompt at 1 $/M.
    assert held["held_usd"] >= Decimal("0.000200")


async def test_an_unknown_job_is_answered_again_but_never_called_again(outside: Outsider) -> None:
    mark = uuid4().hex
    await outside.system.mock.rule("fault=cut_before_status", match={"body": mark})
    body = say(mark, "hasty")
    first = value_of(await outside.ask(body, idempotency_key=mark))
    again = await outside.ask(body, idempotency_key=mark, on_duplicate="rerun")
    assert summary(first) == summary(value_of(again)) == ("unknown", "outcome_unknown")
    assert header(again, "sluice-duplicate") == b"true"
    assert len(await calls(outside, first)) == 1


async def test_on_unknown_retry_calls_again_and_keeps_the_money_held(outside: Outsider) -> None:
    value = await outcome(outside, "fault=hang", first=1, model="hasty", on_unknown="retry")
    assert summary(value) == ("succeeded", None)
    assert value["job"]["attempts"] == 2
    rows = await outside.usage_rows(value["id"], count=2)
    assert [row["outcome"] for row in rows] == ["unknown", "succeeded"]
    unresolved = await outside.system.pool.fetchval(
        "select count(*) from finance.unresolved where usage_id = $1", rows[0]["usage_id"]
    )
    assert unresolved == 1


@pytest.mark.parametrize("fault", ["cut_body", "malformed", "empty", "wrong_type"])
async def test_a_2xx_that_cannot_be_read_is_billed_and_not_retried(
    outside: Outsider, fault: str
) -> None:
    value = await outcome(outside, f"fault={fault}")
    assert summary(value) == ("failed", "provider_invalid_response")
    assert len(await calls(outside, value)) == 1
    (row,) = await outside.usage_rows(value["id"])
    assert (row["outcome"], row["usage_source"]) == ("failed", "estimated")
    assert row["cost_usd"] > 0
    assert value["job"]["cost_usd"] == f"{row['cost_usd']:.9f}"


async def test_an_answer_without_usage_is_estimated(outside: Outsider) -> None:
    value = await outcome(outside, "usage=none")
    assert summary(value) == ("succeeded", None)
    (row,) = await outside.usage_rows(value["id"])
    assert row["usage_source"] == "estimated"
    assert row["input_tokens"] > 0
    assert row["output_tokens"] > 0
    assert row["cost_usd"] > 0


async def test_an_answer_of_20_mb_is_stored_whole(outside: Outsider) -> None:
    mark = uuid4().hex
    await outside.system.mock.rule("size=20mb", match={"body": mark})
    sent = await outside.send(say(mark))
    reply = await outside.reply_to(sent, within_s=30)
    value = value_of(reply)
    job_id = value["id"]
    assert summary(value) == ("succeeded", None)
    assert value["response"]["status_code"] == 200
    assert value["response"]["body"] is None
    assert header(reply, "ce_dataref") == f"/v1/jobs/{job_id}/result".encode()
    assert len(reply.value) < RECORD_BYTES
    stored = await outside.system.pool.fetchval(
        "select result from sluice.responses where uuid = $1", job_id
    )
    content = json.loads(stored)["response"]["body"]["choices"][0]["message"]["content"]
    assert content == "x" * 20_000_000
    assert len(await calls(outside, value)) == 1
    assert len(await outside.usage_rows(job_id)) == 1


async def test_a_cancel_while_calling_books_what_the_provider_reports(outside: Outsider) -> None:
    mark = uuid4().hex
    await outside.system.mock.rule("latency=2s", match={"body": mark})
    sent = await outside.send(say(mark))
    job_id = outside.record_id(sent)
    await eventually(lambda: outside.system.mock.calls_of(job_id))
    await outside.put(
        json.dumps({"id": job_id}).encode(), topic=f"{outside.topics.prefix}control.v1"
    )
    value = value_of(await outside.reply_to(sent))
    assert summary(value) == ("cancelled", "cancelled")
    assert value["job"]["total_ms"] < 2000
    (row,) = await outside.usage_rows(job_id)
    assert (row["outcome"], row["usage_source"]) == ("cancelled", "reported")
    assert row["cost_usd"] > 0
