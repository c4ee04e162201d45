"""The running mock provider and a transport to reach it."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.conformance.driver import Calls, Mock
from tests.conformance.kinds import KINDS

from sluice_providers.http import Transport


@pytest.fixture(scope="session")
def mock() -> Iterator[Mock]:
    command = [sys.executable, "-m", "sluice_devstack.mock_provider", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        running = Mock(process.stdout.readline().strip())
        try:
            yield running
        finally:
            running.close()
            process.terminate()
            assert process.wait(timeout=10) == 0


@pytest.fixture(scope="session")
async def transport() -> AsyncIterator[Transport]:
    async with Transport() as opened:
        yield opened


@pytest.fixture(params=KINDS)
def calls(request: pytest.FixtureRequest, transport: Transport, mock: Mock) -> Calls:
    return Calls(transport, request.param, f"{mock.url}/v1")


@pytest.fixture
def openai_calls(transport: Transport, mock: Mock) -> Calls:
    return Calls(transport, "openai", f"{mock.url}/v1")
