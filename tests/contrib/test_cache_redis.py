"""The cache in Redis: a real server, one that is slow, and one that goes away."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from termai_http import Client, ConfigurationError, HttpClientConfig, RetryConfig
from termai_http.contrib._cache_redis import redis_store
from termai_http.contrib._cache_store import Packed
from termai_http.contrib.cache import Cache, CacheStats
from termai_http.testing import Server, Text
from tests.contrib.cache_bed import KEY, TestCall, Upstream, ask, build, in_child

# Each test hides such variables.
GIVEN = os.environ.get("TERMAI_HTTP_REDIS")
BINARY = shutil.which("redis-server")


def start(path: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server of the tests' own, at a socket that nobody else can take."""
    place = path / "redis.sock"
    assert BINARY is not None
    arguments = ["--port", "0", "--unixsocket", str(place), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        [BINARY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=path
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b"ready to accept" in line.lower():
            break
    else:
        raise AssertionError("redis-server did not start")
    return process, f"unix://{place}"


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it."""
    process.kill()
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis."""
    if GIVEN:
        yield GIVEN
        return
    if BINARY is None:
        pytest.skip("there is no redis-server, and TERMAI_HTTP_REDIS names none")
    process, place = start(tmp_path_factory.mktemp("redis"))
    yield place
    stop(process)


@pytest.fixture
def cache(url: str) -> Iterator[Cache]:
    """A cache in it, empty."""
    made = Cache(store=url, namespace="tests_of_termai_http", store_timeout=20.0)
    made.clear()
    yield made
    made.clear()


def stored(cache: Cache) -> dict[str, tuple[bytes, int]]:
    """Return what stands in the server, and for how long."""
    import redis

    with redis.Redis.from_url(cache.store) as connection:
        names = connection.scan_iter(f"{cache.namespace}:*")
        return {name.decode(): (connection.get(name), connection.ttl(name)) for name in names}


def options(server: Server) -> dict[str, Any]:
    """Return what a call to the server needs."""
    return {"model": "claude-opus-5-5", "base_url": server.claude_url, "api_key": KEY}


def test_clients_share_it(cache: Cache, server: Server) -> None:
    """What one asked the other knows, replies and streams; it is JSON there, for a time."""
    server.script(Text("An answer."), Text("An answer."))
    config = HttpClientConfig(layers=(cache,))
    with Client(config) as one, Client(config) as two:
        assert one.chat("my secret plan", **options(server)).attempts == 1
        assert two.chat("my secret plan", **options(server)).attempts == 0
        assert "".join(one.stream("my secret plan", **options(server))) == "An answer."
        assert "".join(two.stream("my secret plan", **options(server))) == "An answer."
        assert two.stats().layers == {"cache": CacheStats(hits=2)}
    found = stored(cache)
    assert len(found) == len(server.requests) == 2
    for name, (value, ttl) in found.items():
        assert set(json.loads(value)) == {"v", "at", "status", "headers", "body", "seal"}
        assert 86000 < ttl <= 86401
        assert b"secret plan" not in value + name.encode()
        assert KEY.encode() not in value + name.encode()


def test_it_is_cleared_by_namespace(cache: Cache, url: str) -> None:
    """Replies of another namespace stay, and one without an end has none there either."""
    other = Cache(store=url, namespace="tests_of_others", store_timeout=20.0, ttl=None)
    caches = [
        build(store=url, namespace=one.namespace, ttl=one.ttl, store_timeout=20.0)
        for one in (cache, other)
    ]
    for built in caches:
        ask(built, Upstream())
    cache.clear()
    assert stored(cache) == {}
    assert [ttl for _, ttl in stored(other).values()] == [-1]
    other.clear()
    assert stored(other) == {}
    for built in caches:
        built.close()


def test_an_entry_that_others_wrote_is_not_believed(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever may write there cannot make up an answer: the seal needs API key and prompt."""
    import redis

    built = build(store=cache.store, namespace=cache.namespace, store_timeout=20.0)
    ask(built, Upstream())
    ((name, (value, _)),) = stored(cache).items()
    with redis.Redis.from_url(cache.store) as connection:
        connection.set(name, value.replace(b"answer 1", b"forged 1"))
    assert ask(built, Upstream())["attempts"] == 1
    assert ask(built, Upstream())["attempts"] == 0
    assert built.stats().errors == 1
    assert "not as it was written" in caplog.text
    built.close()


def test_a_forked_child_connects_itself(cache: Cache) -> None:
    """The parent's connection is not used there, and both go on."""
    built = build(store=cache.store, namespace=cache.namespace, store_timeout=20.0)
    upstream = Upstream()
    ask(built, upstream)

    def check() -> None:
        built.start_over()
        seen = [ask(built, upstream, said)["attempts"] for said in ("Why?", "Child", "Child")]
        assert seen == [0, 1, 0]

    assert in_child(check)() == 0
    assert [ask(built, upstream, said)["attempts"] for said in ("Why?", "Child")] == [0, 0]
    assert built.stats().errors == 0
    built.close()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def connections(listener: socket.socket) -> int:
    """Return how often somebody connected."""
    listener.setblocking(False)
    for count in itertools.count():
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError("endless")


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was warned of."""
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


def test_a_slow_server_costs_a_warning_and_no_more(
    silent: socket.socket, server: Server, fast: RetryConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """The calls are made in their time; the store is left alone then, and its password unsaid."""
    url = f"redis://me:hunter2@127.0.0.1:{silent.getsockname()[1]}/0"
    layer = Cache(store=url, store_timeout=0.2)
    with Client(HttpClientConfig(layers=(layer,), retry=fast)) as client:
        for _ in range(3):
            assert client.chat("Hello", timeout=20, **options(server)).attempts == 1
        # One with less time than the store may take does not ask it at all.
        assert client.chat("Hello", timeout=20, layers=(), **options(server)).attempts == 1
        assert client.stats().layers["cache"] == CacheStats(misses=3, errors=1)
    # Redis' own client would try again, and wait between.
    assert connections(silent) == 1
    (warning,) = warned(caplog)
    assert "Redis at 127.0.0.1:" in warning
    assert "imeout" in warning or "timed out" in warning.lower()
    assert "hunter2" not in caplog.text


def test_a_server_that_is_not_there_costs_a_warning(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused at once, and told once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    layer = Cache(store=f"redis://127.0.0.1:{port}")
    with Client(HttpClientConfig(layers=(layer,))) as client:
        for _ in range(3):
            assert client.chat("Hello", **options(server)).attempts == 1
        assert client.stats().layers["cache"] == CacheStats(misses=3, errors=1)
    assert len(warned(caplog)) == 1
    with pytest.raises(ConfigurationError, match="cannot be cleared: Redis at 127"):
        layer.clear()


@pytest.mark.skipif(BINARY is None, reason="there is no redis-server to end")
def test_a_server_that_goes_away_is_noticed(tmp_path: Path, server: Server) -> None:
    """In the middle of its use: the next call is made, and the one after it, too."""
    process, place = start(tmp_path)
    try:
        layer = Cache(store=place, store_timeout=20.0)
        with Client(HttpClientConfig(layers=(layer,))) as client:
            seen = [client.chat("Hello", **options(server)).attempts for _ in range(2)]
            stop(process)
            seen += [client.chat("Hello", **options(server)).attempts for _ in range(2)]
            assert seen == [1, 0, 1, 1]
            assert client.stats().layers["cache"].errors == 1
    finally:
        stop(process)


def test_threads_share_it(cache: Cache) -> None:
    """16 threads, two clients: each question is asked once by each at the most."""
    clients = [
        build(store=cache.store, namespace=cache.namespace, store_timeout=60.0) for _ in range(2)
    ]
    upstream = Upstream()

    def work(built: Any) -> None:
        for number in range(4):
            ask(built, upstream, f"question {number}", call=TestCall(600.0))

    threads = [threading.Thread(target=work, args=(clients[n % 2],)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 4 <= len(upstream.asked) <= 8
    assert [built.stats().errors for built in clients] == [0, 0]
    for built in clients:
        built.close()


def test_a_long_reply_comes_in_pieces_and_in_time(url: str) -> None:
    """Whole where it comes in time; one that trickles is given up, however lively the socket."""
    times = [0.0]
    store = redis_store(url, "tests_of_termai_http", 20.0, lambda: times[0])
    for size in (65536, 200_000):
        store.put("long", Packed.until("x" * size, 60.0, 0.0), 0.0)
        assert store.get("long") == b"x" * size
    assert store.get("none") is None
    ticking = itertools.count(step=10)
    slow = redis_store(url, "tests_of_termai_http", 20.0, lambda: next(ticking))
    with pytest.raises(TimeoutError):
        slow.get("long")
    for one in (store, slow):
        one.clear()
        one.reopen()


def test_each_wait_for_it_is_bounded() -> None:
    """To connect, and for each answer, as long as the description says together."""
    made: Any = redis_store("redis://host", "n", 1.0)._mapping()
    given = made.connection.get_connection_kwargs()
    assert given["socket_timeout"] + given["socket_connect_timeout"] == 1.0
    assert given["retry"]._retries == 0


def test_the_place_is_named_without_its_password() -> None:
    """A socket by its path, a server by host and port."""
    assert redis_store("unix:///run/r.sock?password=x", "n", 1.0).where == "Redis at /run/r.sock"
    assert redis_store("rediss://u:x@host/1", "n", 1.0).where == "Redis at host:6379"
