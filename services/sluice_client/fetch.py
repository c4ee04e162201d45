"""Reads a result that did not fit in a record from an HTTP edge."""

import asyncio
import urllib.error
import urllib.request

TIMEOUT_S = 60.0


async def fetch(api: str, dataref: str, secret: str | None) -> bytes:
    """The result's JSON from the edge at `api`; OSError where it does not answer with it."""
    request = urllib.request.Request(api.rstrip("/") + dataref)  # noqa: S310 - see below
    if request.type not in {"http", "https"}:
        raise OSError(f"SLUICE_API is not an http:// or https:// address: {api}")
    if secret is not None:
        request.add_header("authorization", f"Bearer {secret}")
    return await asyncio.to_thread(_read, request)


def _read(request: urllib.request.Request) -> bytes:
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked above
        content: bytes = answer.read()
        return content
