"""Resolves the broker's dependency tree anew and writes the list of pinned jars."""

import hashlib
import tempfile
from pathlib import Path

from sluice_devstack.jars import KAFKA, default_mirror

_ROOTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA}",
    f"org.apache.kafka:kafka-tools:{KAFKA}",
    "org.slf4j:slf4j-simple:1.7.36",
)
_HEADER = f"""\
# Apache Kafka {KAFKA} and all it needs: group:artifact:version, file name, sha256.
# Written by `python -m sluice_devstack.pin`.
"""


def main() -> None:
    """Writes jars.txt beside this module; for maintainers, after changing a version above."""
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as cache:
        context = MavenContext(
            repo_cache=Path(cache), remote_repos={"repository": default_mirror()}, timeout=30
        )
        roots = [context.create_dependency(f"{root}:compile") for root in _ROOTS]
        inputs, transitive = context.resolver.resolve(roots)
        needed = [
            *inputs,
            *(found for found in transitive if found.scope in {"compile", "runtime"}),
        ]
        lines = []
        for dependency in needed:
            jar = Path(dependency.artifact.resolve())
            coordinates = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
            digest = hashlib.sha256(jar.read_bytes()).hexdigest()
            lines.append(f"{coordinates} {jar.name} {digest}\n")
    Path(__file__).with_name("jars.txt").write_text(_HEADER + "".join(sorted(lines)), "ascii")


if __name__ == "__main__":
    main()
