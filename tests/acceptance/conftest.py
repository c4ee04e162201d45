"""The gateway that the contract tests share."""

from collections.abc import AsyncIterator

import pytest
from tests.acceptance.outsider import Outsider, OutsideWorld
from tests.conftest import Template

from sluice_devstack.stack import Stack


@pytest.fixture(scope="session")
async def outside(stack: Stack, migrated_template: Template) -> AsyncIterator[Outsider]:
    """A running gateway and a program that knows the contract alone."""
    async with OutsideWorld(stack, migrated_template) as outsider:
        yield outsider
