"""Idle connections when no call looks after them: the sweeper thread, and what it leaves."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from termai_http import Client, HttpClientConfig, _sweeper
from termai_http._call import Clock
from termai_http._sweeper import sweeper
from termai_http.testing import RecordedRequest, Server
from tests.faults.harness import Peer, RawServer, good_reply

_PATIENCE = 20.0
_CLOSE_WAIT = "08"


@pytest.fixture(autouse=True)
def no_sweeper() -> Iterator[None]:
    """Begin and end without the thread."""
    sweeper.stop()
    yield
    sweeper.stop()


@pytest.fixture
def short_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sweeper look often."""
    monkeypatch.setattr(_sweeper, "_LONGEST_NAP", 0.02)


def make_client(clock: Clock | None = None, **config: Any) -> Client:
    """Make a client that takes nothing from the environment."""
    return Client(HttpClientConfig(trust_env=False, **config), _clock=clock or Clock())


def call(client: Client, server: Server | RawServer) -> str:
    """Ask for a reply."""
    return client.chat("hi", model="m", base_url=server.url, api_key="k").text


def sweepers() -> list[threading.Thread]:
    """Return the sweeper threads of this process."""
    return [thread for thread in threading.enumerate() if "sweeper" in thread.name]


def evictions(client: Client, number: int) -> threading.Event:
    """Return an event for the moment when so many connections were closed while idle."""
    slots, happened, counted = client._core.transport()._slots, threading.Event(), [0]
    count: Callable[[int], None] = slots.leave_evictions

    def counting(closed: int) -> None:
        count(closed)
        counted[0] += closed
        if counted[0] >= number:
            happened.set()

    slots.leave_evictions = counting  # type: ignore[method-assign]
    return happened


def close_waiting(port: int) -> int:
    """Count the sockets whose peer, on that port, closed its side, and which are still open."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        fields[3] == _CLOSE_WAIT and int(fields[2].split(":")[1], 16) == port for fields in lines
    )


class ClosingServer:
    """Answers each first request, and closes that connection when told.

    Attributes:
        client_left: Set once the client closed a connection that was open.
    """

    def __init__(self) -> None:
        self._close = threading.Event()
        self._closed = threading.Event()
        self.client_left = threading.Event()
        self.raw = RawServer(self._serve)

    def _serve(self, peer: Peer) -> None:
        peer.read_request()
        peer.send(good_reply())
        if peer.number == 1 and not self._told(peer):
            return
        if peer.read_request() is None:
            self.client_left.set()

    def _told(self, peer: Peer) -> bool:
        self._close.wait(_PATIENCE)
        peer.sock.close()
        self._closed.set()
        return False

    def close_first(self) -> None:
        """Close the first connection, and return when it is closed."""
        self._close.set()
        assert self._closed.wait(_PATIENCE)


@pytest.fixture
def closing_server() -> Iterator[ClosingServer]:
    """A server that closes its first connection when told."""
    server = ClosingServer()
    yield server
    server.raw.close()


def test_an_idle_connection_is_closed_when_no_call_comes() -> None:
    """Past pool_idle_timeout the server sees the end of the connection, nobody having called."""
    client_left = threading.Event()

    def serve(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(good_reply())
        client_left.set()

    server = RawServer(serve)
    try:
        with make_client(pool_idle_timeout=0.3) as client:
            call(client, server)
            assert client_left.wait(_PATIENCE)
            # Joined, so that what it closed is counted.
            sweeper.stop()
            stats = client.stats()
            assert (stats.evicted, stats.idle_connections, stats.discarded) == (1, 0, 0)
    finally:
        server.close()


@pytest.mark.usefixtures("short_naps")
def test_a_young_connection_is_left_alone(server: Server) -> None:
    """However often the sweeper looks, a young connection stays and is reused."""
    with make_client() as client:
        call(client, server)
        transport, looked, looks = client._core.transport(), threading.Event(), [0]
        look = transport.sweep_dropped

        def counting() -> float | None:
            due = look()
            looks[0] += 1
            if looks[0] == 3:
                looked.set()
            return due

        transport.sweep_dropped = counting  # type: ignore[method-assign]
        assert looked.wait(_PATIENCE)
        call(client, server)
        assert (client.stats().opened, client.stats().reused) == (1, 1)


@pytest.mark.usefixtures("short_naps")
def test_the_sweeper_closes_what_the_server_closed(closing_server: ClosingServer) -> None:
    """A socket that the server closed does not stay, though no call comes and it is young."""
    with make_client() as client:
        evicted = evictions(client, 1)
        call(client, closing_server.raw)
        closing_server.close_first()
        assert evicted.wait(_PATIENCE)
        # What is counted as evicted is closed right after; joined, the sweeper did both.
        sweeper.stop()
        if sys.platform == "linux":
            assert close_waiting(closing_server.raw.port) == 0
        assert client.stats().idle_connections == 0


def test_stats_closes_what_the_server_closed(closing_server: ClosingServer) -> None:
    """A look at the figures closes such a socket, and does not count it as idle."""
    port = closing_server.raw.port
    with make_client() as client:
        call(client, closing_server.raw)
        sweeper.stop()
        closing_server.close_first()
        if sys.platform == "linux":
            assert close_waiting(port) == 1
        stats = client.stats()
        assert (stats.idle_connections, stats.evicted) == (0, 1)
        if sys.platform == "linux":
            assert close_waiting(port) == 0


def test_a_call_closes_what_the_server_closed(closing_server: ClosingServer) -> None:
    """The next call does not use such a socket: it closes it and opens another."""
    with make_client() as client:
        call(client, closing_server.raw)
        closing_server.close_first()
        call(client, closing_server.raw)
        stats = client.stats()
        assert (stats.opened, stats.reused, stats.evicted) == (2, 0, 1)
        assert stats.calls.total_retries == 0
    assert closing_server.client_left.wait(_PATIENCE)


@pytest.mark.usefixtures("short_naps")
def test_the_thread_begins_and_ends_with_the_idle_connections(server: Server) -> None:
    """None before a connection is idle, a daemon from then on, none after, and again one."""
    with make_client() as client:
        client.stats()
        assert sweepers() == []
        for _ in range(2):
            call(client, server)
            (thread,) = sweepers()
            assert thread.daemon
            client._core.transport().session.close()
            thread.join(_PATIENCE)
            assert sweepers() == []
            assert not sweeper.running


def test_many_clients_share_one_thread(server: Server) -> None:
    """Clients whose connections become idle in the same moment begin one thread."""
    number = 12
    clients, meet = [make_client() for _ in range(number)], threading.Barrier(number)

    def meet_and_call(client: Client) -> None:
        meet.wait(_PATIENCE)
        call(client, server)

    try:
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(meet_and_call, clients))
        assert [client.stats().idle_connections for client in clients] == [1] * number
        assert len(sweepers()) == 1
    finally:
        for client in clients:
            client.close()


@pytest.mark.usefixtures("short_naps")
def test_the_surplus_of_a_burst_is_closed_when_no_call_comes(server: Server) -> None:
    """Idle connections above the number are closed after 5 seconds, and no sooner."""
    ahead, meet = [0.0], threading.Barrier(4)
    clock = Clock(monotonic=lambda: time.monotonic() + ahead[0])

    def hold(request: RecordedRequest) -> None:
        meet.wait(_PATIENCE)

    server.fail_when(hold)
    with make_client(clock, pool_max_idle_per_host=1) as client:
        evicted = evictions(client, 3)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: call(client, server), range(4)))
        assert client.stats().idle_connections == 4
        ahead[0] = 5.5
        assert evicted.wait(_PATIENCE)
        stats = client.stats()
        assert (stats.idle_connections, stats.evicted) == (1, 3)


def test_two_bursts_of_64_open_64_connections(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A burst's connections are all kept for the next one; no pool is ever full."""
    number = 64
    meet = threading.Barrier(number)

    def hold(request: RecordedRequest) -> None:
        meet.wait(_PATIENCE)

    server.fail_when(hold)
    with caplog.at_level(logging.WARNING), make_client() as client:
        with ThreadPoolExecutor(number) as pool:
            for _ in range(2):
                list(pool.map(lambda _: call(client, server), range(number)))
        stats = client.stats()
        assert (stats.opened, stats.reused, stats.discarded) == (number, number, 0)
        assert stats.idle_connections == number
        assert len(server.connections) == number
    assert caplog.records == []


@pytest.mark.parametrize("failure", [ValueError("defect"), SystemExit(1)], ids=["error", "exit"])
def test_one_that_cannot_be_swept_does_not_keep_others_from_it(
    server: Server, caplog: pytest.LogCaptureFixture, failure: BaseException
) -> None:
    """A failure in one client, or in a listener of one, is logged, and the sweeper goes on."""

    class Failing:
        def sweep_dropped(self) -> float | None:
            raise failure

    failing = Failing()
    sweeper.add(failing)
    with make_client(pool_idle_timeout=0.05) as client:
        evicted = evictions(client, 1)
        call(client, server)
        assert evicted.wait(_PATIENCE)
    # Joined, so that the look which closed it is over.
    sweeper.stop()
    # What was raised has it in its traceback, and the tests after this one have the same sweeper.
    sweeper._watched.discard(failing)
    assert "could not be swept" in caplog.text


def test_calls_do_without_the_thread_where_none_can_be_had(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system gives no thread, calls work, and they and stats() sweep."""

    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    names = {name: getattr(threading, name) for name in ("Lock", "current_thread")}
    monkeypatch.setattr(_sweeper, "threading", SimpleNamespace(Thread=NoThread, **names))
    ahead = [0.0]
    clock = Clock(monotonic=lambda: time.monotonic() + ahead[0])
    with make_client(clock) as client:
        for ahead[0] in (0.0, 100.0, 200.0):
            call(client, server)
        assert not sweeper.running
        assert (client.stats().opened, client.stats().evicted) == (3, 2)


def run_python(code: str, *arguments: str) -> str:
    """Run code in a process of its own, which must end well and in time; return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_no_thread_before_the_first_call() -> None:
    """Importing the package, and making a client, begins no thread."""
    code = """
import threading
import termai_http
from termai_http import Client, HttpClientConfig
with Client(HttpClientConfig(trust_env=False)) as client:
    client.stats()
    print([thread.name for thread in threading.enumerate()])
"""
    assert run_python(code).strip() == "['MainThread']"


def test_the_thread_does_not_keep_the_interpreter(server: Server) -> None:
    """A process that never closes its client ends at once, and says nothing about it."""
    code = """
import sys, threading
import termai_http
from termai_http import HttpClientConfig
termai_http.initialize(HttpClientConfig(trust_env=False, pool_idle_timeout=3600))
print(termai_http.chat("hi", model="m", base_url=sys.argv[1], api_key="k").text)
print(len(threading.enumerate()))
"""
    assert run_python(code, server.url).split("\n") == ["You said: hi", "2", ""]
