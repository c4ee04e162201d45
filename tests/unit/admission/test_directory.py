"""What an attempt draws on, while limits and budgets are being read: never less than there is."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sluice_core.admission.directory import Directory, Place
from sluice_core.admission.model import ScopeKind
from sluice_core.config.model import Config

TENANT, PROJECT = (ScopeKind.TENANT, "acme"), (ScopeKind.PROJECT, "acme/p")
ACCOUNT, TARGET = (ScopeKind.ACCOUNT, "mock"), (ScopeKind.TARGET, "mock/gpt")
NUMBERS = {TENANT: 1, PROJECT: 2, ACCOUNT: 3, TARGET: 4}


class Rows:
    """The ledger's rows; while the gate is shut, nobody is told of budgets."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    async def wake(self) -> None:
        pass

    async def define(self, *_: Any, **__: Any) -> bool:
        return False

    async def limited(self) -> Mapping[Any, int]:
        return {TENANT: 1}

    async def numbers(self, names: Sequence[Any]) -> dict[Any, int]:
        return {name: NUMBERS[name] for name in names}

    async def budgets(self, scopes: Sequence[int]) -> Mapping[int, list[tuple[int, bool]]]:
        self.asked.set()
        await self.gate.wait()
        return {1: [(77, True)]} if 1 in scopes else {}


async def pseudonym(tenant: str, user: str) -> str:
    return user


def place(model: str) -> Place:
    return Place("acme", None, "p", None, None, None, None, model, "mock", "gpt")


@pytest.mark.parametrize("started", [True, False])
async def test_nobody_draws_on_budgets_that_are_only_half_read(started: bool) -> None:
    rows = Rows()
    directory = Directory(rows, Config(tenants={"acme": {}}), pseudonym)  # type: ignore[arg-type]
    if started:
        await directory.start()
        await directory.draws([place("a")])
    rows.gate.clear()
    rows.asked.clear()
    first = asyncio.create_task(
        directory.refresh(2) if started else directory.draws([place("a")])  # type: ignore[arg-type]
    )
    await rows.asked.wait()
    second = asyncio.create_task(directory.draws([place("b")]))
    for _ in range(5):
        await asyncio.sleep(0)
    rows.gate.set()
    await first
    (draw,) = await second
    assert draw.budgets == (77,)
    assert draw.hard
