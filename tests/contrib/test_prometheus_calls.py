"""``contrib.prometheus`` on real calls: each way in, streams, failures, many threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from termai_http import (
    Client,
    HttpClientConfig,
    InternalServerError,
    RetryConfig,
    TermaiHttpError,
)
from termai_http.contrib import _prometheus_instruments
from termai_http.contrib.breaker import CircuitBreaker
from termai_http.contrib.prometheus import Prometheus
from termai_http.events import CallSucceeded, Listeners
from termai_http.testing import NoEnd, Server, Status

OPENAI = {"provider": "openai", "model": "gpt-5.5"}


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def options(server: Server) -> dict[str, Any]:
    """What every call needs."""
    return {"model": "gpt-5.5", "api_key": "sk-loopback", "base_url": server.openai_url}


@pytest.fixture
def host(server: Server) -> dict[str, str]:
    """The label of the loopback server."""
    return {"host": f"127.0.0.1:{server.port}"}


@pytest.fixture(params=["layer", "listener", "all", "twice"])
def client(
    request: pytest.FixtureRequest, registry: CollectorRegistry, fast: RetryConfig
) -> Iterator[Client]:
    """A client whose calls are counted, in each way there is."""
    counts = Prometheus(registry=registry)
    way = request.param
    if way in ("all", "twice"):
        counts.hear_all()
    layers = (counts,) if way in ("layer", "twice") else ()
    with Client(HttpClientConfig(retry=fast, trust_env=False, layers=layers)) as made:
        if way in ("listener", "twice"):
            made.listen(Prometheus(registry=registry))
        yield made
    Listeners._of_all = ()


def test_calls_are_counted_whichever_way_they_are_heard(
    client: Client,
    server: Server,
    registry: CollectorRegistry,
    options: dict[str, Any],
    host: dict[str, str],
) -> None:
    """A retry, a failure, a stream that is read and one that is left: what a scrape then shows."""
    value = registry.get_sample_value
    in_flight, in_use = "termai_http_requests_in_flight", "termai_http_pool_in_use"
    server.script(Status(503, retry_after=0.001))
    client.chat("hi", **options)
    server.script(Status(401))
    with pytest.raises(TermaiHttpError):
        client.chat("hi", **options)
    assert "".join(client.stream("hi", **options))
    left = client.stream("some more words", **options)
    next(iter(left))
    assert value(in_flight, OPENAI) == value(in_use, host) == 1
    left.close()
    assert value(in_flight, OPENAI) == value(in_use, host) == 0

    def total(name: str, **labels: str) -> float | None:
        return value(f"termai_http_{name}", labels)

    outcomes = {
        name: total("requests_total", **OPENAI, outcome=name)
        for name in ("success", "left", "AuthenticationError", "Interrupted")
    }
    assert outcomes == {"success": 2, "left": 1, "AuthenticationError": 1, "Interrupted": None}
    assert total("request_duration_seconds_count", **OPENAI, outcome="success") == 2
    assert total("time_to_first_token_seconds_count", **OPENAI) == 2
    assert total("attempts_total", **OPENAI, outcome="503") == 1
    assert total("attempts_total", **OPENAI, outcome="401") == 1
    assert total("attempts_total", **OPENAI, outcome="success") == 3
    assert total("retries_total", **OPENAI, cause="503") == 1
    figures = client.stats()
    assert total("tokens_total", **OPENAI, direction="output") == figures.calls.output_tokens > 0
    assert total("connections_opened_total", **host) == figures.opened
    assert total("connections_reused_total", **host) == figures.reused
    assert total("connect_duration_seconds_count", **host) == figures.opened
    closed = [total("connections_closed_total", **host, reason=why) for why in ("discarded",)]
    assert closed == [figures.discarded or None]


def test_a_stream_that_breaks_gives_its_connection_back(
    server: Server, registry: CollectorRegistry, options: dict[str, Any], host: dict[str, str]
) -> None:
    """It is counted by its error, and so is what is thrown into the reader."""
    counts = Prometheus(registry=registry)
    with Client(HttpClientConfig(layers=(counts,), trust_env=False)) as client:
        server.script(NoEnd())
        with suppress(TermaiHttpError):
            "".join(client.stream("one two three four", **options))
        stream = client.stream("one two three four", **options)
        del stream
        client.chat("hi", **options)
    value = registry.get_sample_value
    assert value("termai_http_requests_in_flight", OPENAI) == 0
    assert value("termai_http_pool_in_use", host) == 0
    labels = {**OPENAI, "outcome": "StreamInterrupted"}
    assert value("termai_http_requests_total", labels) == 1


def test_a_wait_for_a_slot_is_seen(
    server: Server, registry: CollectorRegistry, options: dict[str, Any]
) -> None:
    """A call that waits in vain, since another one has the only slot."""
    config = HttpClientConfig(max_connections=1, trust_env=False)
    with Client(config) as client, client.listening(Prometheus(registry=registry)):
        stream = client.stream("one two three", **options)
        next(iter(stream))
        with pytest.raises(TermaiHttpError):
            client.chat("hi", **{**options, "timeout": 0.05})
        stream.close()
    waits = {"outcome": "gave_up"}
    assert registry.get_sample_value("termai_http_pool_wait_seconds_count", waits) == 1


def test_a_retry_that_is_not_made_is_none(
    registry: CollectorRegistry, server: Server, options: dict[str, Any], fast: RetryConfig
) -> None:
    """Where a circuit refuses the attempt that was scheduled, as ``stats()`` counts."""
    layers = (CircuitBreaker(failures=2), Prometheus(registry=registry))
    server.script(*[Status(503)] * 2)
    with (
        Client(HttpClientConfig(retry=fast, trust_env=False, layers=layers)) as client,
        pytest.raises(InternalServerError),
    ):
        client.chat("Hello", **options)
    assert client.stats().calls.total_retries == 1
    labels = {**OPENAI, "cause": "503"}
    assert registry.get_sample_value("termai_http_retries_total", labels) == 1
    (instruments,) = _prometheus_instruments._shared.of[registry].values()
    assert instruments._counting._waiting == {}


def test_a_call_made_by_a_listener_between_changes_no_count(
    registry: CollectorRegistry, options: dict[str, Any]
) -> None:
    """An event counts once also where a listener between two of ours makes calls itself."""
    counts = Prometheus(registry=registry)
    with Client(HttpClientConfig(trust_env=False, layers=(counts,))) as client:

        def ask_again(event: Any) -> None:
            if isinstance(event, CallSucceeded) and event.model == "gpt-5.5":
                for _ in range(5):
                    client.chat("And?", **{**options, "model": "inner"})

        client.listen(counts)
        client.listen(ask_again)
        client.chat("Hello", **options)
    for model, calls in (("gpt-5.5", 1), ("inner", 5)):
        labels = {"provider": "openai", "model": model, "outcome": "success"}
        assert registry.get_sample_value("termai_http_requests_total", labels) == calls
        assert registry.get_sample_value("termai_http_attempts_total", labels) == calls


def test_32_threads_are_counted_right(
    server: Server, registry: CollectorRegistry, options: dict[str, Any], host: dict[str, str]
) -> None:
    """On real sockets, with threads switched all the time, the sums are those of the client."""
    width, rounds = 32, 3
    counts = Prometheus(registry=registry)
    interval = sys.getswitchinterval()
    with Client(HttpClientConfig(layers=(counts,), trust_env=False)) as client:

        def work() -> None:
            for _ in range(rounds):
                client.chat("hi", **options)

        threads = [threading.Thread(target=work) for _ in range(width)]
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        figures = client.stats()
    value = registry.get_sample_value
    done = {**OPENAI, "outcome": "success"}
    assert value("termai_http_requests_total", done) == width * rounds
    assert value("termai_http_connections_opened_total", host) == figures.opened
    assert value("termai_http_connections_reused_total", host) == figures.reused
    tokens = {**OPENAI, "direction": "output"}
    assert value("termai_http_tokens_total", tokens) == figures.calls.output_tokens
    assert value("termai_http_requests_in_flight", OPENAI) == 0
    assert value("termai_http_pool_in_use", host) == 0
