"""The secrets that an account's calls go with: one key, several in turn, or a token that is fetched."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from sluice_core.jobs.fates import FailureKind
from sluice_platform.values import frozen_value
from sluice_providers.port import Answer

REFUSED_S: Final = 60.0
"""How long a refused key rests at first; doubled with each refusal in a row."""
REFUSED_MOST_S: Final = 1800.0
LIMITED_S: Final = 1.0
"""How long a key rests whose provider said 429 and not for how long."""
RENEWED_AT: Final = 0.8
"""A token is renewed after this part of its life."""
RETRY_S: Final = 5.0
RETRY_MOST_S: Final = 60.0
YOUNG_S: Final = 30.0
"""A token that is refused sooner after it came is not at fault: another would be refused as well."""

_log = structlog.stdlib.get_logger(__name__)


class NoSecretError(Exception):
    """There is no secret to call with; `kind` is what that means for the attempt, the message safe to show."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Credentials(Protocol):
    """Of one account. All times are epoch seconds."""

    def take(self, now: float) -> str | None:
        """The secret of a call that goes now; None: there is none yet, and `first` brings it."""
        ...

    async def first(self) -> str:
        """Wait for the first secret. Raises NoSecretError."""
        ...

    def ended(self, secret: str, answer: Answer, now: float) -> bool:
        """A call with this secret ended; False: what it says of load or of a refusal is of this secret alone, and there
        is another."""
        ...


class OneKey:
    """A key that is always the same; empty where an account needs none."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str = "") -> None:
        self._secret = secret

    def take(self, now: float) -> str | None:  # noqa: ARG002 - it is always there
        """The key."""
        return self._secret

    async def first(self) -> str:
        """The key."""
        return self._secret

    def ended(self, secret: str, answer: Answer, now: float) -> bool:  # noqa: ARG002 - there is no other
        """What happens to the key happens to the account."""
        return True


@dataclass(slots=True)
class _Key:
    secret: str
    cool_until: float = 0.0
    refusals: int = 0


class KeyPool:
    """Several keys in turn; one that was refused or limited rests while another serves."""

    def __init__(self, account: str, secrets: Sequence[str]) -> None:
        self._account = account
        self._keys = [_Key(secret) for secret in secrets]
        self._next = 0

    @property
    def secrets(self) -> tuple[str, ...]:
        """Its keys in order."""
        return tuple(key.secret for key in self._keys)

    def change(self, secrets: Sequence[str]) -> None:
        """Take keys away and add others; what is known of those that stay is kept, calls under way keep theirs."""
        known = {key.secret: key for key in self._keys}
        self._keys = [known.get(secret) or _Key(secret) for secret in secrets]
        self._next = 0

    def take(self, now: float) -> str | None:
        """The next key that may be used; where all rest, the one that does so soonest."""
        keys = self._keys
        for step in range(len(keys)):
            place = (self._next + step) % len(keys)
            if keys[place].cool_until <= now:
                self._next = place + 1
                return keys[place].secret
        return min(keys, key=lambda key: key.cool_until).secret if keys else None

    async def first(self) -> str:
        """A key. Raises NoSecretError where there is none."""
        secret = self.take(time.time())
        if secret is None:
            message = (
                f"no key of {self._account} is there: `sluice provider-keys set {self._account}`"
            )
            raise NoSecretError(FailureKind.KEY_REFUSED, message)
        return secret

    def ended(self, secret: str, answer: Answer, now: float) -> bool:
        """Let a refused or limited key rest; the account sees it once no key is left."""
        key = next((key for key in self._keys if key.secret == secret), None)
        if answer.failure is None:
            if key is not None:
                key.refusals = 0
                if answer.exhausted_s:
                    key.cool_until = max(key.cool_until, now + answer.exhausted_s)
                    return self._all_rest(now)
            return True
        rest_s = _rest_s(answer, 0 if key is None else key.refusals)
        if rest_s is None:
            return True
        if key is not None:
            refused = answer.status != 429 or answer.failure is FailureKind.OUT_OF_FUNDS
            key.refusals += refused
            key.cool_until = max(key.cool_until, now + rest_s)
            if refused:
                place = self._keys.index(key) + 1
                _log.warning(
                    "key.refused", account=self._account, key=place, status=answer.status, s=rest_s
                )
        return self._all_rest(now)

    def _all_rest(self, now: float) -> bool:
        return all(key.cool_until > now for key in self._keys)


def _rest_s(answer: Answer, refusals: int) -> float | None:
    """How long a key rests after this failure; None where it is not the key's."""
    if answer.failure in {FailureKind.KEY_REFUSED, FailureKind.OUT_OF_FUNDS} or (
        answer.failure is FailureKind.STATUS_ERROR and answer.status == 403
    ):
        rest_s = min(REFUSED_MOST_S, REFUSED_S * 2.0 ** min(refusals, 10))
        return max(rest_s, answer.retry_after_s or 0.0)
    if answer.failure is FailureKind.STATUS_ERROR and answer.status == 429:
        return max(answer.retry_after_s or LIMITED_S, answer.exhausted_s or 0.0)
    return None


@frozen_value
class Token:
    """A token as it was given, and for how many seconds it counts."""

    secret: str
    life_s: float


Fetch = Callable[[], Awaitable[Token]]
"""Fetches a token, a round trip or more. Raises NoSecretError."""


class Tokens:
    """A token that is renewed before its end, by `renew` in the background; no call waits for one but the first."""

    def __init__(
        self, account: str, fetch: Fetch, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._account, self._fetch, self._clock = account, fetch, clock
        self._secret: str | None = None
        self._came_at = self._ends_at = 0.0
        self._renew_at = 0.0
        self._failures = 0
        self._failed: NoSecretError | None = None
        self._task: asyncio.Task[None] | None = None

    def take(self, now: float) -> str | None:
        """The token, as long as it counts."""
        return self._secret if now < self._ends_at else None

    async def first(self) -> str:
        """Wait for a token that counts; soon after a failure it is that failure."""
        now = self._clock()
        if self._failed is not None and now < self._renew_at:
            raise NoSecretError(self._failed.kind, str(self._failed))
        await self.renew()
        secret = self.take(self._clock())
        if secret is None:
            failed = self._failed or NoSecretError(FailureKind.KEY_REFUSED, "there is no token")
            raise NoSecretError(failed.kind, str(failed))
        return secret

    def due(self, now: float) -> bool:
        """Whether it is time to renew it."""
        return now >= self._renew_at

    async def renew(self) -> None:
        """Fetch another, once for all that wait; a failure is logged, and tried again when it is `due`."""
        await asyncio.shield(self.start_renewing())

    def start_renewing(self) -> "asyncio.Task[None]":
        """Begin to fetch another, unless that is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew())
        return self._task

    async def _renew(self) -> None:
        try:
            token = await self._fetch()
        except NoSecretError as exc:
            self._failures += 1
            wait_s = min(RETRY_MOST_S, RETRY_S * 2.0 ** min(self._failures - 1, 10))
            self._failed, self._renew_at = exc, self._clock() + wait_s
            _log.warning("token.not_renewed", account=self._account, error=str(exc), retry_s=wait_s)
            return
        now = self._clock()
        self._failed, self._failures = None, 0
        self._secret, self._came_at, self._ends_at = token.secret, now, now + token.life_s
        self._renew_at = now + token.life_s * RENEWED_AT
        _log.info("token.renewed", account=self._account, life_s=token.life_s)

    def ended(self, secret: str, answer: Answer, now: float) -> bool:
        """A token that is refused before its end is fetched anew, once."""
        if answer.failure is not FailureKind.KEY_REFUSED or not secret:
            return True
        if secret != self._secret:
            return False  # there is a newer one
        if now - self._came_at < YOUNG_S:
            return True
        self._ends_at = self._renew_at = now
        return False

    async def close(self) -> None:
        """Give up what is being fetched."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
