"""Idle connections: kept while young, closed when old or too many; limits of the system."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from termai_http import Client, HttpClientConfig
from termai_http._call import Clock
from termai_http.testing import RecordedRequest, Server


class Later:
    """A monotonic clock that can be moved on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def clock(self) -> Clock:
        """Return it as a client takes it."""
        return Clock(monotonic=lambda: time.monotonic() + self.ahead)


def call(client: Client, server: Server) -> str:
    """Ask for a reply."""
    return client.chat("hi", model="m", base_url=server.url, api_key="k").text


def test_an_idle_connection_past_its_time_is_closed_and_not_reused(server: Server) -> None:
    """After pool_idle_timeout the next look closes it, and the next call opens another."""
    later = Later()
    config = HttpClientConfig(pool_idle_timeout=90, trust_env=False)
    with Client(config, _clock=later.clock()) as client:
        call(client, server)
        later.ahead = 80
        call(client, server)
        assert len(server.connections) == 1
        later.ahead = 180
        call(client, server)
        assert len(server.connections) == 2
        assert client.stats().evicted == 1
        later.ahead = 280
        stats = client.stats()
        assert (stats.evicted, stats.idle_connections) == (2, 0)


def test_idle_connections_above_the_number_are_closed_after_a_grace(server: Server) -> None:
    """A burst's connections are kept for 5 seconds, and then only as many as configured."""
    later, meet = Later(), threading.Barrier(4)

    def hold(request: RecordedRequest) -> None:
        meet.wait(30)

    server.fail_when(hold)
    config = HttpClientConfig(pool_max_idle_per_host=1, trust_env=False)
    with Client(config, _clock=later.clock()) as client:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: call(client, server), range(4)))
        assert client.stats().idle_connections == 4
        later.ahead = 6
        stats = client.stats()
        assert (stats.idle_connections, stats.evicted) == (1, 3)


def test_more_hosts_than_pools_leak_nothing() -> None:
    """A pool that is dropped for newer ones closes its idle connections."""
    servers = [Server().start() for _ in range(70)]
    try:
        with Client(HttpClientConfig(trust_env=False)) as client:
            for server in servers:
                call(client, server)
            stats = client.stats()
            assert stats.opened == 70
            assert stats.idle_connections == 70 - stats.evicted == 64
    finally:
        for server in servers:
            server.close()


def test_connections_stay_within_the_descriptor_limit(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """max_connections is lowered to what the limit leaves, and one warning names both."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    config = HttpClientConfig(trust_env=False)
    with caplog.at_level(logging.WARNING, "termai_http"), Client(config) as client:
        call(client, server)
        call(client, server)
    assert len(caplog.records) == 1
    assert "max_connections=1000 is lowered to 36" in caplog.text
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, -1))
    with Client(config) as client:
        call(client, server)
    assert len(caplog.records) == 1
