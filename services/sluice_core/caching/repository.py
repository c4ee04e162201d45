"""The ledger's statements on stored answers, a micro-batch at a time."""

from collections.abc import Sequence
from typing import Final, Literal

import asyncpg

from sluice_core.caching.model import Answer, Found, Keep
from sluice_core.usage.model import Usage

_STATES: Final[dict[int, Literal["hit", "mine", "others"]]] = {0: "mine", 1: "hit", 2: "others"}


class CacheRepository:
    """Looks for answers, stores and removes them."""

    def __init__(self, pool: asyncpg.Pool, worker: int) -> None:
        self._pool = pool
        self._worker = worker

    async def look(self, keys: Sequence[tuple[bytes, str]], *, lease_s: float) -> list[Found]:
        """What each (key, tenant) is; what nobody has is this worker's to ask for `lease_s` seconds. The keys are distinct."""
        rows = await self._pool.fetch(
            "select * from sluice.look_cache_v1($1, $2, $3, $4)",
            self._worker,
            [key for key, _ in keys],
            [tenant for _, tenant in keys],
            lease_s,
        )
        return [
            Found(state="hit", answer=_answer(row), left_s=row["left_s"])
            if row["state"] == 1
            else Found(state=_STATES[row["state"]])
            for row in rows
        ]

    async def keep(self, answers: Sequence[Keep], given_up: Sequence[bytes]) -> None:
        """Store answers, and let others ask for what this worker gives up."""
        await self._pool.execute(
            "select sluice.keep_cache_v1($1, $2, $3)",
            [
                (
                    k.key,
                    k.tenant,
                    k.ttl_s,
                    k.answer.body,
                    k.answer.provider,
                    k.answer.account,
                    k.answer.provider_model,
                    _tokens(k.answer.usage),
                    k.answer.list_nano,
                    k.answer.price_version,
                )
                for k in answers
            ],
            list(given_up),
            self._worker,
        )

    async def purge(self, most_bytes: int, limit: int) -> int:
        """Remove what counts no more, and the oldest beyond `most_bytes`; how many were removed."""
        removed: int = await self._pool.fetchval(
            "select sluice.purge_cache_v1($1, $2)", most_bytes, limit
        )
        return removed


def _tokens(usage: Usage) -> list[int]:
    return [
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    ]


def _answer(row: asyncpg.Record) -> Answer:
    given, read, written, output, reasoning = row["tokens"]
    return Answer(
        body=row["body"],
        provider=row["provider"],
        account=row["account"],
        provider_model=row["provider_model"],
        usage=Usage(
            input_tokens=given,
            cache_read_tokens=read,
            cache_write_tokens=written,
            output_tokens=output,
            reasoning_tokens=reasoning,
        ),
        list_nano=row["list_nano"],
        price_version=row["price_version"],
    )
