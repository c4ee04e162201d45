"""The running mock provider and a transport to reach it."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.conformance.driver import Calls, Mock

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


WAYS = {
    "openai": ("openai", "/v1", None),
    "anthropic": ("anthropic", "/v1", None),
    "azure": ("azure", "", "azure.ai.openai"),
    "azure-v1": ("azure", "/openai/v1", "azure.ai.openai"),
    "compatible": ("openai", "/v1", "vllm"),
}
"""The kind of each way to the mock, its path there, and the provider where its name is not the kind's."""


@pytest.fixture(params=WAYS)
def calls(request: pytest.FixtureRequest, transport: Transport, mock: Mock) -> Calls:
    kind, path, provider = WAYS[request.param]
    return Calls(transport, kind, mock.url + path, provider=provider)


@pytest.fixture(params=["azure", "azure-v1"])
def azure_calls(request: pytest.FixtureRequest, transport: Transport, mock: Mock) -> Calls:
    kind, path, provider = WAYS[request.param]
    return Calls(transport, kind, mock.url + path, provider=provider)


@pytest.fixture
def openai_calls(transport: Transport, mock: Mock) -> Calls:
    return Calls(transport, "openai", f"{mock.url}/v1")
