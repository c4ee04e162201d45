"""Limits and budgets, applied and listed."""

import pytest
from tests.integration.cli.shell import Shell, limited

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("cli")]


async def test_applying_puts_limits_and_budgets_in_force_at_once(sluice: Shell) -> None:
    await sluice("config", "apply")
    limited(sluice)
    planned = (await sluice("config", "plan", "--json")).json["limits"]
    assert {
        "scope": "tenant:acme",
        "what": "budget per month",
        "before": None,
        "after": "2 USD, hard, UTC, alerts: 50 %, 80 %, 100 %",
    } in planned
    assert await sluice.pool.fetchval("select count(*) from sluice.budgets") == 0
    applied = (await sluice("config", "apply", "--json")).json
    assert (applied["changed"], applied["limits"]) == (True, planned)
    assert await sluice.pool.fetchval("select cap_nano from sluice.budgets") == 2 * 10**9
    assert (await sluice("config", "plan", "--json")).json["limits"] == []
    assert "nothing changed: version 2 is in force" in (await sluice("config", "apply")).out
    assert await sluice.audited() == ["config.apply", "config.apply"]


async def test_applying_says_what_waits_for_the_next_start(sluice: Shell) -> None:
    await sluice("config", "apply")
    sluice.config.write_text(
        sluice.config.read_text() + "unknown: {after: 3h}\nlimits: {answer_bytes: 3MiB}\n"
    )
    applied = (await sluice("config", "apply")).out
    assert "another limits keep it until they start anew" in applied
    assert "start anew" not in (await sluice("config", "apply")).out


async def test_a_ledger_that_says_something_else_is_put_right_and_that_is_audited(
    sluice: Shell,
) -> None:
    limited(sluice)
    await sluice("config", "apply")
    # A worker that still starts with the configuration before.
    await sluice.pool.execute("update sluice.scopes set max_in_flight = 99 where kind = 8")
    ran = await sluice("config", "apply")
    assert "~ account:openai limits.concurrency: 99 → 10" in ran.out
    assert "nothing changed" not in ran.out
    assert await sluice.audited() == ["config.apply", "config.limits"]


async def test_limits_are_listed_as_they_stand(sluice: Shell) -> None:
    limited(sluice)
    await sluice("config", "apply")
    await sluice.pool.execute(
        "update sluice.scope_state t set levels = array_fill((extract(epoch from now()) + 3600) * 1e6, array[3]),"
        " virtual = '{0,0,70}' from sluice.scopes s where s.id = t.scope and s.kind = 1"
    )
    await sluice.pool.execute(
        "update sluice.scope_state t set in_flight = 4, allowed = 6.5, blocked_until = now() + interval '1 hour'"
        " from sluice.scopes s where s.id = t.scope and s.kind = 8"
    )
    found = {line["scope"]: line for line in (await sluice("limits", "list", "--json")).json}
    assert set(found) == {"tenant:acme", "account:openai"}
    (rate,) = found["tenant:acme"]["rates"]
    assert (rate["meter"], rate["limit"], rate["per"], rate["burst"]) == (
        "requests",
        600,
        "minute",
        5,
    )
    assert 35_000 < rate["used"] <= 36_000
    assert rate["next_at"]["bulk"] is not None
    assert found["tenant:acme"]["virtual_tokens"] == {"realtime": 0, "standard": 0, "bulk": 70}
    account = found["account:openai"]
    assert (account["in_flight"], account["max_in_flight"], account["allowed"]) == (4, 10, 6)
    assert account["blocked_until"] is not None
    alone = await sluice("limits", "list", "project:acme/search")
    assert (alone.code, "project:acme/search" in alone.out) == (0, True)
    assert "4 of 10, learnt 6" in (await sluice("limits", "list")).out
    wrong = await sluice("limits", "list", "tenat:acme")
    assert (wrong.code, "no kind of scope" in wrong.err) == (2, True)
