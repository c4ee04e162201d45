"""What the embedded servers have in common: one process, started once, asked whether it answers, stopped in order."""

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from sluice_devstack.errors import DevstackError
from sluice_devstack.ground import free_port, require_port
from sluice_devstack.processes import Process


class EmbeddedServer(ABC):
    """A server with its data in `data_dir`. It ends with this process; what it acknowledged is there at the next start."""

    name: ClassVar[str]

    def __init__(self, data_dir: Path, *, port: int | None) -> None:
        self.data_dir = data_dir.resolve()
        self.log = self.data_dir / "server.log"
        self._port = port
        self._process: Process | None = None

    @property
    def port(self) -> int:
        """The TCP port; it stays the same over `restart`. Raises DevstackError before `start`."""
        if self._port is None:
            raise DevstackError(f"the embedded {self.name} has no address before it is started")
        return self._port

    @property
    def process(self) -> Process:
        """The server's own process. Raises DevstackError before the first `start`."""
        if self._process is None:
            raise DevstackError(f"the embedded {self.name} is not started")
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def start(self) -> None:
        """Starts the server and returns once it answers.

        Raises DataDirectoryInUse, PortBusy, ServerFailed, or what its programs are missing.
        """
        if self._process is not None and self._process.returncode is None:
            return
        await asyncio.to_thread(self._launch)
        try:
            await self._answers()
        except BaseException:
            await self.process.stop()
            raise

    async def stop(self) -> None:
        """Stops the server in order."""
        if self._process is not None:
            await self._process.stop()

    async def restart(self) -> None:
        """Stops the server if it runs and starts it again on the same port."""
        await self.stop()
        await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _choose_port(self) -> None:
        """The port that was asked for or had before, which must be free, or any that is. Raises PortBusy."""
        if self._port is None:
            self._port = free_port()
        else:
            require_port(self._port, self.name)

    @abstractmethod
    def _launch(self) -> None:
        """Set `_process`; runs in a thread."""

    @abstractmethod
    async def _answers(self) -> None:
        """Returns once the server is ready; raises ServerFailed if it will not be."""
