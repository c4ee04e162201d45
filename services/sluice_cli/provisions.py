"""What a data directory keeps from start to start: ports, secrets, the configuration that runs."""

import json
from pathlib import Path
from typing import Any, Final

from sluice_devstack.errors import PortBusy
from sluice_devstack.ground import LOOPBACK, free_port, require_port

TEMPLATE_MOCK_PORT: Final = 8001


class Ports:
    """Ports that a data directory keeps over starts, so that what was connected finds them again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports: dict[str, int] = {}
        if path.exists():
            self._ports = {
                str(name): int(port) for name, port in json.loads(path.read_text()).items()
            }

    def take(self, name: str) -> int:
        """The port of this name as it was, or a free one where that is taken by now."""
        port = self._ports.get(name)
        if port is not None:
            try:
                require_port(port, name)
            except PortBusy:
                port = None
        if port is None:
            port = self._ports[name] = free_port()
        return port

    def save(self) -> None:
        """Remember the ports."""
        self._path.write_text(json.dumps(self._ports))


def kept_secret(path: Path, fresh: str) -> str:
    """The secret in a file, readable by its owner alone; `fresh` becomes it where there is none."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(fresh, encoding="ascii")
    return path.read_text(encoding="ascii")


def at_port(text: str, port: int) -> str:
    """The packaged configuration with the mock provider's port."""
    return text.replace(f"{LOOPBACK}:{TEMPLATE_MOCK_PORT}", f"{LOOPBACK}:{port}")


def with_mock(text: str, packaged: str, port: int) -> str:
    """A configuration that names no provider, with the mock provider and its models."""
    import yaml

    given: dict[str, Any] = yaml.safe_load(text) or {}
    ours = yaml.safe_load(at_port(packaged, port))
    given["providers"] = ours["providers"]
    given["models"] = {**ours["models"], **(given.get("models") or {})}
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True)
