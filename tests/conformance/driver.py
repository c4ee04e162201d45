"""The mock provider's process as tests see it, and calls against it."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson

from sluice_core.config.compatible import quirks_of
from sluice_providers.calls import call
from sluice_providers.http import Transport
from sluice_providers.port import Answer, Call, Target


class Mock:
    """The mock provider's process as tests see it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url)

    def close(self) -> None:
        self._http.close()

    def requests(self, job: str = "") -> list[dict[str, Any]]:
        rows = self._http.get("/_mock/requests").json()
        return [row for row in rows if not job or row["job"] == job]

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self._http.get("/_mock/counts").json()
        return counts

    def add_rule(self, **rule: Any) -> int:
        answer = self._http.post("/_mock/rules", json=rule).raise_for_status()
        return int(answer.json()["id"])

    def remove_rule(self, number: int) -> None:
        self._http.delete(f"/_mock/rules/{number}").raise_for_status()


class Calls:
    """Makes calls of one wire format against one base URL."""

    def __init__(
        self, transport: Transport, kind: str, base_url: str, *, provider: str | None = None
    ) -> None:
        self.transport, self.kind, self.base_url = transport, kind, base_url
        self.provider = provider or kind
        self.chunks: list[dict[str, Any]] = []
        self.job = UUID(int=0)

    @property
    def speaks(self) -> str:
        """The wire form that the mock's behaviours are said in: `openai` for all that are like it."""
        return "openai" if self.kind == "azure" else self.kind

    def build(
        self, *, behaviour: str = "", stream: bool = False, operation: Any = "chat", **options: Any
    ) -> Call:
        self.job = uuid4()
        body = {"model": "fast", **options.pop("body", {})}
        if operation == "chat":
            body.setdefault(
                "messages", [{"role": "user", "content": options.pop("prompt", "hello there")}]
            )
        key = options.pop("api_key", "sk-secret")
        limits = {
            "answer_bytes_limit": options.pop("limit", 32_000_000),
            "deadline": options.pop("deadline", 20.0),
        }
        name = options.pop(
            "model", "gpt-4o-mini" if self.speaks == "openai" else "claude-sonnet-4-5"
        )
        target = Target(
            account="mock",
            kind=self.kind,
            provider=self.provider,
            base_url=options.pop("base_url", self.base_url),
            quirks=options.pop(
                "quirks", quirks_of(self.provider, None) if self.kind == "openai" else None
            ),
            model=f"{name}@{behaviour}" if behaviour else name,
            model_requested="fast",
            **{
                "connect_timeout_s": 5.0,
                "first_byte_timeout_s": 10.0,
                "between_chunks_timeout_s": 10.0,
            }
            | options,
        )
        return Call(
            job_id=self.job,
            attempt=1,
            operation=operation,
            api_key=key,
            body=orjson.dumps(body),
            stream=stream,
            target=target,
            **limits,
        )

    async def __call__(self, **options: Any) -> Answer:
        self.chunks = []
        return await call(
            self.build(**options),
            transport=self.transport,
            on_chunks=lambda chunks: self.chunks.extend(map(orjson.loads, chunks)),
        )
