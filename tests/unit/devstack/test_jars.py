import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_devstack.errors import JarMismatch, JarsUnavailable
from sluice_devstack.jars import Jar, broker_jars, default_cache, default_mirror, pinned_jars

_BYTES = b"not really a jar"
_JAR = Jar(
    group="org.example",
    artifact="thing",
    version="1.0",
    file_name="thing-1.0.jar",
    sha256=hashlib.sha256(_BYTES).hexdigest(),
)


class _Repository(http.server.ThreadingHTTPServer):
    """A Maven repository on the loopback interface that counts what is asked of it."""

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=str(root)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        assert isinstance(self.server, _Repository)
        self.server.asked.append(self.path)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[_Repository]:
    place = tmp_path / "repository" / "org" / "example" / "thing" / "1.0"
    place.mkdir(parents=True)
    (place / _JAR.file_name).write_bytes(_BYTES)
    with _Repository(tmp_path / "repository") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_pinned_list_is_whole() -> None:
    jars = pinned_jars()
    assert len(jars) == len({jar.file_name for jar in jars}) == 92
    assert {"kafka_2.13-4.3.0.jar", "kafka-tools-4.3.0.jar", "slf4j-simple-1.7.36.jar"} <= {
        jar.file_name for jar in jars
    }
    assert all(len(jar.sha256) == 64 for jar in jars)


def test_a_mirror_fills_the_cache_once(repository: _Repository, tmp_path: Path) -> None:
    first = broker_jars(tmp_path / "cache", mirror=repository.url, jars=(_JAR,))
    assert [path.read_bytes() for path in first] == [_BYTES]
    repository.asked.clear()
    assert broker_jars(tmp_path / "cache", mirror=repository.url, jars=(_JAR,)) == first
    assert repository.asked == []
    assert not list(first[0].parent.glob(".fetch-*"))


def test_a_wrong_checksum_from_the_mirror_never_enters_the_cache(
    repository: _Repository, tmp_path: Path
) -> None:
    other = replace(_JAR, sha256="0" * 64)
    with pytest.raises(JarMismatch, match="not the pinned thing"):
        broker_jars(tmp_path / "cache", mirror=repository.url, jars=(other,))
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_a_jar_that_was_changed_in_the_cache_is_refused(
    repository: _Repository, tmp_path: Path
) -> None:
    (path,) = broker_jars(tmp_path / "cache", mirror=repository.url, jars=(_JAR,))
    path.write_bytes(_BYTES + b"!")
    with pytest.raises(JarMismatch, match="Delete the file"):
        broker_jars(tmp_path / "cache", mirror=repository.url, jars=(_JAR,))


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(JarsUnavailable, match="SLUICE_MAVEN_MIRROR"):
        broker_jars(tmp_path / "cache", mirror="http://127.0.0.1:9", jars=(_JAR,))


def test_a_jar_that_the_mirror_lacks_is_named(repository: _Repository, tmp_path: Path) -> None:
    absent = replace(_JAR, artifact="other", file_name="other-1.0.jar")
    with pytest.raises(JarsUnavailable, match="other-1.0.jar"):
        broker_jars(tmp_path / "cache", mirror=repository.url, jars=(absent,))


def test_first_fetches_at_the_same_time_fetch_once(repository: _Repository, tmp_path: Path) -> None:
    fetch = functools.partial(broker_jars, tmp_path / "cache", mirror=repository.url, jars=(_JAR,))
    with ThreadPoolExecutor(4) as pool:
        results = [future.result() for future in [pool.submit(fetch) for _ in range(4)]]
    assert all(result == results[0] for result in results)
    assert sum(path.endswith(".jar") for path in repository.asked) == 1


def test_the_environment_places_cache_and_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CACHE_DIR", "/somewhere/cache")
    monkeypatch.setenv("SLUICE_MAVEN_MIRROR", "https://mirror.example/maven/")
    assert default_cache() == Path("/somewhere/cache")
    assert default_mirror() == "https://mirror.example/maven"
