"""Fetches the broker's jars once into a per-user cache, and lets no other bytes than the pinned in."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from sluice_devstack.errors import BinariesMissing, JarMismatch, JarsUnavailable

CENTRAL = "https://repo.maven.apache.org/maven2"
KAFKA = "4.3.0"

_DOWNLOADS = 8
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One pinned jar: its Maven coordinates, its file name and what its bytes must be."""

    group: str
    artifact: str
    version: str
    file_name: str
    sha256: str


def pinned_jars() -> tuple[Jar, ...]:
    """The committed list of all jars on the broker's class path."""
    text = resources.files("sluice_devstack").joinpath("jars.txt").read_text(encoding="ascii")
    return tuple(_parse(line) for line in text.splitlines() if line and not line.startswith("#"))


def _parse(line: str) -> Jar:
    coordinates, file_name, sha256 = line.split()
    group, artifact, version = coordinates.split(":")
    return Jar(group=group, artifact=artifact, version=version, file_name=file_name, sha256=sha256)


def default_cache() -> Path:
    """`SLUICE_CACHE_DIR`, else `~/.cache/sluicegate`."""
    configured = os.environ.get("SLUICE_CACHE_DIR")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "sluicegate"


def default_mirror() -> str:
    """The Maven repository to fetch from: `SLUICE_MAVEN_MIRROR`, else Maven Central."""
    return (os.environ.get("SLUICE_MAVEN_MIRROR") or CENTRAL).rstrip("/")


def broker_jars(
    cache: Path | None = None,
    *,
    mirror: str | None = None,
    jars: tuple[Jar, ...] | None = None,
) -> list[Path]:
    """The paths of all jars, each verified now; what the cache lacks is fetched first.

    Raises JarMismatch for bytes that are not the pinned ones, wherever they came from, and
    JarsUnavailable if something is missing and cannot be fetched. Processes that fetch at the
    same time wait for one another.
    """
    wanted = pinned_jars() if jars is None else jars
    directory = (cache or default_cache()) / f"kafka-{KAFKA}"
    directory.mkdir(parents=True, exist_ok=True)
    if _missing(directory, wanted):
        with _exclusive(directory / ".lock"):
            missing = _missing(directory, wanted)  # another process may have fetched meanwhile
            if missing:
                _fetch_all(missing, directory, mirror or default_mirror())
    paths = [directory / jar.file_name for jar in wanted]
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        for _ in pool.map(_verify, paths, wanted):
            pass
    return paths


def _missing(directory: Path, jars: tuple[Jar, ...]) -> list[Jar]:
    return [jar for jar in jars if not (directory / jar.file_name).exists()]


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _verify(path: Path, jar: Jar) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != jar.sha256:
        raise JarMismatch(
            f"{path} is not the pinned {jar.artifact} {jar.version}: sha256 {found}, expected "
            f"{jar.sha256}. Delete the file to fetch it again; if the fresh one differs as well, "
            "the repository it comes from (SLUICE_MAVEN_MIRROR) is not to be trusted."
        )


def _fetch_all(missing: list[Jar], directory: Path, mirror: str) -> None:
    """Fetches into a directory of its own, verifies, then moves: the cache holds whole jars only."""
    scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=directory))
    download = _downloader(scratch, mirror)

    def fetch(jar: Jar) -> None:
        fetched = download(jar)
        _verify(fetched, jar)
        fetched.replace(directory / jar.file_name)

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        with (
            Progress(*columns, console=console) as progress,
            ThreadPoolExecutor(_DOWNLOADS) as pool,
        ):
            task = progress.add_task(f"Apache Kafka {KAFKA}, once", total=len(missing))
            if not console.is_terminal:
                console.print(f"Fetching Apache Kafka {KAFKA} ({len(missing)} jars) from {mirror}")
            try:
                for _ in pool.map(fetch, missing):
                    progress.advance(task)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _downloader(scratch: Path, mirror: str) -> Callable[[Jar], Path]:
    """A function that fetches one jar by its exact coordinates; nothing is resolved."""
    try:
        import requests
        from jgo.maven import MavenContext
    except ImportError as exc:
        raise BinariesMissing(
            "the embedded Kafka needs the extra `devstack`: pip install 'sluicegate[devstack]'"
        ) from exc
    # A cache of its own: neither ~/.m2 nor jgo's configuration has a say in what the broker runs.
    context = MavenContext(
        repo_cache=scratch, remote_repos={"repository": mirror}, timeout=_TIMEOUT_S
    )

    def download(jar: Jar) -> Path:
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        try:
            return Path(component.artifact().resolve())
        except (requests.RequestException, OSError, RuntimeError) as exc:
            raise JarsUnavailable(
                f"cannot fetch {jar.file_name} from {mirror}: {exc}. The embedded Kafka needs its "
                "jars once: connect to the network, set SLUICE_MAVEN_MIRROR to a Maven repository "
                "that can be reached, or copy a filled cache and set SLUICE_CACHE_DIR."
            ) from exc

    return download
