"""Breakers shared through the ledger: one opening for all, one prober at a time, alerts for the account's own faults."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.integration.ledger.world import World, world

from sluice_core.routing.repository import BreakerRepository, OpenNews, OpenRow

KEY, WHOLE = ("openai", "gpt"), ("openai", "")


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


def sharing(ledger: World, worker: int) -> BreakerRepository:
    return BreakerRepository(ledger.pool, worker)


def news(level: int = 1, open_s: float = 0.2, **given: object) -> OpenNews:
    return OpenNews(
        **{"key": KEY, "level": level, "open_s": open_s, "reason": "status 500"} | given
    )  # type: ignore[arg-type]


async def only(rows: list[OpenRow]) -> OpenRow:
    (row,) = rows
    return row


async def test_two_that_find_out_together_are_one_opening(ledger: World) -> None:
    await sharing(ledger, 1).share(opened=[news(open_s=5)], probe_s=9)
    row = await only(await sharing(ledger, 2).share(opened=[news(open_s=5)], probe_s=9))
    assert (row.key, row.level, row.reason, row.mine) == (KEY, 1, "status 500", False)
    assert 4 < row.left_s <= 5


async def test_only_one_probes_and_what_it_finds_counts_for_all(ledger: World) -> None:
    one, other = sharing(ledger, 1), sharing(ledger, 2)
    early = await only(await one.share(opened=[news()], wanted=[KEY], probe_s=9))
    assert not early.mine
    await asyncio.sleep(0.25)
    granted = await asyncio.gather(*(w.share(wanted=[KEY], probe_s=9) for w in (one, other)))
    mine = [rows[0].mine for rows in granted]
    assert sorted(mine) == [False, True]
    prober, waits = (one, other) if mine[0] else (other, one)
    assert len(await waits.share(closed=[KEY], probe_s=9)) == 1, "only the prober may close it"
    again = await only(await prober.share(opened=[news(level=2, open_s=0.2)], probe_s=9))
    assert (again.level, again.mine) == (2, False)
    await asyncio.sleep(0.25)
    assert (await only(await waits.share(wanted=[KEY], probe_s=9))).mine
    assert await waits.share(closed=[KEY], probe_s=9) == []
    assert await prober.share(probe_s=9) == []


async def test_a_probe_passes_on_when_it_is_given_up_or_its_time_is_over(ledger: World) -> None:
    one, other = sharing(ledger, 1), sharing(ledger, 2)
    await one.share(opened=[news(open_s=0.0)], probe_s=9)
    assert (await only(await one.share(wanted=[KEY], probe_s=0.2))).mine
    assert not (await only(await other.share(wanted=[KEY], probe_s=9))).mine
    await asyncio.sleep(0.25)
    assert (await only(await other.share(wanted=[KEY], probe_s=9))).mine
    await other.share(given_up=[KEY], probe_s=9)
    assert (await only(await one.share(wanted=[KEY], probe_s=9))).mine


async def test_an_accounts_fault_alerts_once_and_is_resolved_when_it_closes(ledger: World) -> None:
    one = sharing(ledger, 1)
    fault = news(key=WHOLE, open_s=0.0, reason="key_refused", fault=True)
    await one.share(opened=[fault], probe_s=9)
    await sharing(ledger, 2).share(opened=[fault], probe_s=9)
    alerts = "sluice.alerts where kind = 'account_refused' and subject = 'account:openai'"
    assert await ledger.count(alerts) == 1
    assert (await only(await one.share(wanted=[WHOLE], probe_s=9))).mine
    assert await one.share(closed=[WHOLE], probe_s=9) == []
    assert await ledger.count(alerts + " and resolved_at is not null") == 1


async def test_many_at_once_in_any_order_do_not_block_each_other(ledger: World) -> None:
    keys = [(f"account-{n}", "m") for n in range(8)]

    async def churn(worker: int) -> None:
        mine = sharing(ledger, worker)
        for turn in range(20):
            order = keys if (worker + turn) % 2 else keys[::-1]
            await mine.share(
                opened=[news(key=key, open_s=0.0) for key in order],
                wanted=order[::-1],
                probe_s=0.01,
            )
            await mine.share(closed=order, wanted=order, probe_s=0.01)

    await asyncio.gather(*(churn(worker) for worker in range(1, 6)))
