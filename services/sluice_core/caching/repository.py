"""The ledger's statements on stored answers, a micro-batch at a time."""

from collections.abc import Sequence
from typing import Final, Literal

import asyncpg

from sluice_core.caching.model import Answer, Found, Keep, Meaning, Near
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
            "select * from sluice.look_cache_v2($1, $2, $3, $4)",
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

    async def has_meanings(self) -> bool:
        """Whether this ledger can compare meanings: it has pgvector, and was migrated since."""
        found: str | None = await self._pool.fetchval("select to_regclass('sluice.meanings')::text")
        return found is not None

    async def nearest(self, meaning: Meaning, *, threshold: float) -> Near | None:
        """The stored answer in this context whose words mean the same most, from a cosine of `threshold` on."""
        row = await self._pool.fetchrow(
            "select * from sluice.look_meaning_v1($1, $2::text, $3)",
            meaning.context,
            meaning.vector,
            threshold,
        )
        if row is None:
            return None
        return Near(answer=_answer(row), left_s=row["left_s"], cosine=row["cosine"])

    async def keep_meanings(self, answers: Sequence[Keep], *, entries: int) -> None:
        """Let stored answers be found by their meaning; of a context the newest `entries` are."""
        kept = [(k.key, k.meaning, k.ttl_s) for k in answers if k.meaning is not None]
        await self._pool.execute(
            "select sluice.keep_meanings_v1($1, $2, $3::text[], $4, $5)",
            [key for key, _, _ in kept],
            [meaning.context for _, meaning, _ in kept],
            [meaning.vector for _, meaning, _ in kept],
            [ttl_s for _, _, ttl_s in kept],
            entries,
        )

    async def purge_meanings(self, limit: int) -> int:
        """Remove meanings whose answers are gone; how many were removed."""
        removed: int = await self._pool.fetchval("select sluice.purge_meanings_v1($1)", limit)
        return removed

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
