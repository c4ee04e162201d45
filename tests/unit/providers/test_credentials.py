"""Keys take turns and rest; tokens come once, are renewed ahead, and a failure to renew one costs nobody anything."""

import asyncio
from dataclasses import replace

import pytest

from sluice_core.jobs.fates import FailureKind
from sluice_providers.calls import uncalled
from sluice_providers.credentials import (
    REFUSED_S,
    YOUNG_S,
    KeyPool,
    NoSecretError,
    OneKey,
    Token,
    Tokens,
)
from sluice_providers.port import Answer


def ended(
    status: int, kind: FailureKind | None = FailureKind.STATUS_ERROR, retry_after_s: float = 0.0
) -> Answer:
    plain = uncalled(kind or FailureKind.EMPTY, "")
    return replace(plain, failure=kind, status=status, retry_after_s=retry_after_s or None)


WELL = ended(200, None)
REFUSED = ended(401, FailureKind.KEY_REFUSED)


def test_one_key_is_the_account() -> None:
    key = OneKey("a")
    assert key.take(0.0) == "a"
    assert key.ended("a", REFUSED, 0.0)
    assert key.take(0.0) == "a"


def test_keys_take_turns() -> None:
    pool = KeyPool("acme", ["a", "b", "c"])
    assert [pool.take(0.0) for _ in range(4)] == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("answer", "rests_s"),
    [
        (REFUSED, REFUSED_S),
        (ended(403), REFUSED_S),
        (ended(402, FailureKind.OUT_OF_FUNDS), REFUSED_S),
        (ended(429), 1.0),
        (ended(429, retry_after_s=7.0), 7.0),
    ],
)
def test_a_key_at_fault_rests_while_another_serves(answer: Answer, rests_s: float) -> None:
    pool = KeyPool("acme", ["a", "b"])
    assert pool.take(100.0) == "a"
    assert not pool.ended("a", answer, 100.0)
    assert [pool.take(100.0 + rests_s - 0.1) for _ in range(2)] == ["b", "b"]
    assert {pool.take(100.0 + rests_s) for _ in range(2)} == {"a", "b"}


def test_the_account_sees_it_once_no_key_is_left_and_the_first_to_come_back_is_asked() -> None:
    pool = KeyPool("acme", ["a", "b"])
    assert not pool.ended("a", ended(429, retry_after_s=9.0), 0.0)
    assert pool.ended("b", ended(429, retry_after_s=5.0), 0.0)
    assert pool.take(1.0) == "b"


@pytest.mark.parametrize("status", [500, 400, 404])
def test_other_failures_are_the_accounts(status: int) -> None:
    pool = KeyPool("acme", ["a", "b"])
    assert pool.ended("a", ended(status), 0.0)
    assert pool.take(0.0) == "a"


def test_refusals_in_a_row_rest_longer_until_the_key_works() -> None:
    pool = KeyPool("acme", ["a", "b"])
    pool.ended("a", REFUSED, 0.0)
    pool.ended("a", REFUSED, 100.0)
    assert [pool.take(100.0 + 2 * REFUSED_S - 1) for _ in range(2)] == ["b", "b"]
    pool.ended("a", WELL, 300.0)
    pool.ended("a", REFUSED, 400.0)
    assert "a" in {pool.take(400.0 + REFUSED_S) for _ in range(2)}


def test_a_key_whose_rate_is_used_up_rests_before_it_is_limited() -> None:
    pool = KeyPool("acme", ["a", "b"])
    used_up = replace(WELL, exhausted_s=5.0)
    assert not pool.ended("a", used_up, 0.0)
    assert {pool.take(4.0) for _ in range(2)} == {"b"}
    assert pool.ended("b", used_up, 0.0)


def test_keys_come_and_go_and_what_is_known_of_the_others_stays() -> None:
    pool = KeyPool("acme", ["a", "b"])
    pool.ended("a", REFUSED, 0.0)
    pool.change(["a", "c"])
    assert [pool.take(1.0) for _ in range(2)] == ["c", "c"]
    assert not pool.ended("b", REFUSED, 1.0)  # of a call that still ran with it
    pool.change(["c", "b"])
    assert {pool.take(2.0) for _ in range(2)} == {"b", "c"}


class Endpoint:
    """Gives tokens t1, t2, …; fails while `down`."""

    def __init__(self, life_s: float = 3600.0) -> None:
        self.asked, self.down, self.life_s = 0, False, life_s

    async def __call__(self) -> Token:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise NoSecretError(FailureKind.CONNECT_FAILED, "no token")
        return Token(secret=f"t{self.asked}", life_s=self.life_s)


async def test_a_token_is_fetched_once_for_all_who_wait() -> None:
    endpoint = Endpoint()
    tokens = Tokens("azure", endpoint)
    assert tokens.take(0.0) is None
    assert await asyncio.gather(*(tokens.first() for _ in range(20))) == ["t1"] * 20
    assert endpoint.asked == 1


async def test_a_token_is_renewed_ahead_and_a_failure_leaves_the_old_one(
    clock: "Clock",
) -> None:
    endpoint = Endpoint(life_s=1000.0)
    tokens = Tokens("azure", endpoint, clock=clock)
    await tokens.first()
    assert not tokens.due(clock() + 799.0)
    clock.now += 800.0
    assert tokens.due(clock())
    endpoint.down = True
    await tokens.renew()
    assert tokens.take(clock()) == "t1"
    assert not tokens.due(clock() + 4.0)
    clock.now += 5.0
    assert tokens.due(clock())
    endpoint.down = False
    await tokens.renew()
    assert tokens.take(clock()) == "t3"


async def test_without_a_token_jobs_hear_why_and_do_not_ask_again_at_once(clock: "Clock") -> None:
    endpoint = Endpoint()
    endpoint.down = True
    tokens = Tokens("azure", endpoint, clock=clock)
    for _ in range(3):
        with pytest.raises(NoSecretError, match="no token") as caught:
            await tokens.first()
        assert caught.value.kind is FailureKind.CONNECT_FAILED
    assert endpoint.asked == 1
    clock.now += 6.0
    endpoint.down = False
    assert await tokens.first() == "t2"


async def test_a_refused_token_is_fetched_anew_once(clock: "Clock") -> None:
    endpoint = Endpoint()
    tokens = Tokens("azure", endpoint, clock=clock)
    await tokens.first()
    clock.now += YOUNG_S
    assert not tokens.ended("t1", REFUSED, clock())
    assert tokens.take(clock()) is None
    assert await tokens.first() == "t2"
    assert not tokens.ended("t1", REFUSED, clock())  # of a call that went with the old one
    assert tokens.ended("t2", REFUSED, clock())  # the account's fault
    assert tokens.take(clock()) == "t2"


class Clock:
    """Epoch seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
