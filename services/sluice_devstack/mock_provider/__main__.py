"""Starts the mock provider from the command line: `python -m sluice_devstack.mock_provider --port 8001`."""

import argparse
from pathlib import Path

from sluice_devstack.mock_provider.server import run


def main() -> None:
    """Parse the arguments and serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m sluice_devstack.mock_provider")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001, help="0 picks a free port")
    parser.add_argument("--record", type=Path, help="append every request to this JSON-lines file")
    arguments = parser.parse_args()
    run(arguments.host, arguments.port, record=arguments.record)


if __name__ == "__main__":
    main()
