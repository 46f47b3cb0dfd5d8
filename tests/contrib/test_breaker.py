"""The circuit breaker: its states by themselves, and in front of real sockets."""

from __future__ import annotations

import gc
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import attrs
import pytest

import termai_http
from termai_http import Client, HttpClientConfig, Limits, RequestHandler, RetryConfig, events
from termai_http._call import Clock
from termai_http.contrib._circuit import CLOSED, HALF_OPEN, OPEN
from termai_http.contrib.breaker import CircuitBreaker
from termai_http.testing import (
    CloseAfterRead,
    CutAfter,
    ErrorEvent,
    Html,
    RecordedRequest,
    Server,
    Silent,
    Status,
)
from tests.faults.rows_process import Child

ONCE = RetryConfig(max_attempts=1)
PATIENCE = 30.0


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._real = Clock()

    def clock(self) -> Clock:
        """Return it: the real one, and what it was moved by."""
        return Clock(monotonic=lambda: self._real.monotonic() + self.ahead)


@pytest.fixture
def time() -> Time:
    """A clock of the test's."""
    return Time()


def make(time: Time, **fields: Any) -> Client:
    """Return a client with a breaker."""
    layer = CircuitBreaker(**{"failures": 2, "reset_after": 30.0, **fields})
    config = HttpClientConfig(trust_env=False, retry=ONCE, layers=(layer,))
    return Client(config, _clock=time.clock())


@pytest.fixture
def client(time: Time) -> Iterator[Client]:
    """A client whose circuits open after two failures."""
    with make(time) as made:
        yield made


def options(server: Server) -> dict[str, Any]:
    """Return what a call to the server needs."""
    return {"model": "m", "base_url": server.url, "api_key": "k"}


def fail(client: Client, server: Server, times: int = 2, fault: Any = None) -> None:
    """Make calls that fail."""
    for _ in range(times):
        server.script(fault or Status(503))
        with pytest.raises(termai_http.TermaiHttpError):
            client.chat("hi", **options(server))


def circuit_of(client: Client) -> Any:
    """Return the figures of the one circuit there is."""
    (circuit,) = client.stats().layers["breaker"].circuits
    return circuit


def test_an_opened_circuit_is_warned_of_once(
    client: Client, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """With whose it is, what failed last and for how long; not of every call that is refused."""
    fail(client, server)
    for _ in range(2):
        with pytest.raises(termai_http.CircuitOpenError):
            client.chat("hi", **options(server))
    (record,) = (one for one in caplog.records if "circuit" in one.getMessage())
    assert record.levelname == "WARNING"
    assert record.getMessage().endswith(
        "is open after InternalServerError 503: for 30 s its calls are refused"
    )
    told = {name: value for name, value in vars(record).items() if name.startswith("termai_")}
    assert told.pop("termai_call_id") > 0
    assert told == {
        "termai_event": "CircuitChanged",
        "termai_provider": "openai",
        "termai_model": "m",
        "termai_host": "127.0.0.1",
        "termai_port": server.port,
        "termai_state": "open",
    }


def test_an_open_circuit_refuses_without_a_socket(
    client: Client, server: Server, time: Time
) -> None:
    """The error says for how long; after that a probe closes the circuit."""
    heard: list[Any] = []
    client.listen(lambda e: heard.append(e) if isinstance(e, events.CircuitChanged) else None)
    fail(client, server)
    sent = len(server.requests)
    with pytest.raises(termai_http.CircuitOpenError) as caught:
        client.chat("the prompt", **options(server))
    error = caught.value
    assert len(server.requests) == sent
    assert 29 < error.retry_in <= 30
    assert (error.attempts, error.provider, error.model) == (0, "openai", "m")
    assert "InternalServerError 503" in str(error)
    assert "fallback=" in str(error)
    assert pickle.loads(pickle.dumps(error)).retry_in == error.retry_in
    found = circuit_of(client)
    assert (found.state, found.opened, found.refused, found.failures) == (OPEN, 1, 1, 2)
    time.ahead = 31.0
    assert client.chat("hi", **options(server)).text == "You said: hi"
    assert [event.state for event in heard] == [OPEN, HALF_OPEN, CLOSED]
    assert {event.base_url for event in heard} == {f"{server.url}/v1"}
    assert circuit_of(client).state == CLOSED


def test_each_base_url_has_its_own_circuit(client: Client, server: Server) -> None:
    """One vendor's outage is no other's; a request of its own belongs to its origin."""
    with Server() as other:
        fail(client, server)
        assert client.chat("hi", **options(other)).text == "You said: hi"
        response = RequestHandler(client).get_json(
            f"{server.openai_url}/models", {"Authorization": "Bearer k"}
        )
        assert response.status_code == 200
        states = {one.base_url: one.state for one in client.stats().layers["breaker"].circuits}
    assert states == {f"{server.url}/v1": OPEN, f"{other.url}/v1": CLOSED, server.url: CLOSED}


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 422, 429])
def test_a_refusal_trips_nothing(client: Client, server: Server, status: int) -> None:
    """The server answers, so it lives."""
    fail(client, server, 4, Status(status))
    assert (circuit_of(client).state, circuit_of(client).failures) == (CLOSED, 0)


@pytest.mark.parametrize("fault", [Status(529), CloseAfterRead(), Html()], ids=repr)
def test_an_outage_has_many_faces(client: Client, server: Server, fault: Any) -> None:
    """An overload, a connection that is closed, a page in the place of a reply."""
    server.fail_when(lambda request: fault)
    for _ in range(2):
        with pytest.raises(termai_http.TermaiHttpError):
            # A kept connection that fails at once is replayed, and says nothing.
            client.chat(
                "hi",
                retry=RetryConfig(
                    max_attempts=2, ambiguous_retries=0, base_delay=0, retry_on_status=()
                ),
                **options(server),
            )
    assert circuit_of(client).state == OPEN


def test_retries_count_each_by_itself(time: Time, server: Server) -> None:
    """A call of three attempts can open the circuit, and ends with its attempt's own error."""
    retry = RetryConfig(max_attempts=3, base_delay=0)
    with make(time) as client:
        server.script(Status(503), Status(503))
        with pytest.raises(termai_http.InternalServerError, match="not retried: the circuit of"):
            client.chat("hi", retry=retry, **options(server))
        assert len(server.requests) == 2


def test_a_stream_reports_at_its_end(client: Client, server: Server, time: Time) -> None:
    """One that breaks is a failure, and until its end it is the probe that is under way."""
    server.script(CutAfter(2), ErrorEvent(after=3))
    for _ in range(2):
        with (
            client.stream("hello you there", **options(server)) as stream,
            pytest.raises(termai_http.StreamInterrupted),
        ):
            list(stream)
    assert circuit_of(client).state == OPEN
    time.ahead = 31.0
    with client.stream("hi", **options(server)) as stream:
        with pytest.raises(termai_http.CircuitOpenError, match="a probe is under way"):
            client.chat("hi", **options(server))
        assert circuit_of(client).state == HALF_OPEN
        list(stream)
    assert circuit_of(client).state == CLOSED


def test_a_refusal_within_a_stream_trips_nothing(client: Client, server: Server) -> None:
    """It is what the status would have been: too many tokens a minute, and the server lives."""
    for _ in range(4):
        server.script(ErrorEvent(after=3, code="rate_limit_exceeded"))
        with (
            client.stream("hello you there", **options(server)) as stream,
            pytest.raises(termai_http.StreamInterrupted),
        ):
            list(stream)
    assert (circuit_of(client).state, circuit_of(client).failures) == (CLOSED, 0)


def test_an_answer_that_is_handed_out_counts_by_its_status(client: Client, server: Server) -> None:
    """``RequestHandler`` returns a 503, and the circuit of its origin opens all the same."""
    handler, headers = RequestHandler(client), {"Authorization": "Bearer k"}
    url = f"{server.openai_url}/chat/completions"
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(2):
        server.script(Status(503))
        assert handler.post_json(url, headers, body).status_code == 503
    with pytest.raises(termai_http.CircuitOpenError):
        handler.post_json(url, headers, body)
    assert (circuit_of(client).base_url, circuit_of(client).state) == (server.url, OPEN)


def test_the_next_target_answers_while_the_circuit_of_the_first_is_open(
    client: Client, server: Server
) -> None:
    """The first one is not asked at all."""
    fail(client, server)
    with Server() as other:
        target = termai_http.Target("second", base_url=other.url, api_key="k")
        before = len(server.requests)
        reply = client.chat("hi", fallback=[target], **options(server))
        assert (reply.text, reply.attempts, len(other.requests)) == ("You said: hi", 1, 1)
        assert len(server.requests) == before


def test_nothing_shows_key_or_prompt(client: Client, server: Server) -> None:
    """Neither the refusal, nor the figures, nor the events."""
    heard: list[Any] = []
    client.listen(heard.append)
    asked = {**options(server), "api_key": "sk-canary-key", "max_tokens": 5}
    for _ in range(3):
        server.script(Status(503))
        with pytest.raises(termai_http.TermaiHttpError) as caught:
            client.chat("canary-prompt", **asked)
    error = caught.value
    assert isinstance(error, termai_http.CircuitOpenError)
    shown = [error, vars(error), pickle.dumps(error), client.stats(), heard]
    assert "CircuitChanged" in str(heard)
    assert "canary" not in "".join(map(repr, shown)) + str(error)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_leaves_a_server_alone_that_is_down(client: Client, server: Server) -> None:
    """It knows what its parent knew, and neither hears of the other's end."""
    fail(client, server)
    before = len(server.requests)

    def ask() -> str:
        with pytest.raises(termai_http.CircuitOpenError) as caught:
            client.chat("hi", **options(server))
        return type(caught.value).__name__

    assert Child(ask).result() == "CircuitOpenError"
    assert len(server.requests) == before
    assert circuit_of(client).refused == 0


@pytest.mark.parametrize("how", ["left", "dropped", "cancelled"])
def test_a_probe_whose_stream_is_left_closes_the_circuit(
    client: Client, server: Server, time: Time, how: str
) -> None:
    """It began, so the server lives; a program that reads no stream to its end goes on."""
    heard: list[str] = []
    client.listen(lambda e: heard.append(e.state) if isinstance(e, events.CircuitChanged) else None)
    fail(client, server)
    time.ahead = 31.0
    stream: Any = client.stream("hello you there", **options(server))
    assert circuit_of(client).state == HALF_OPEN
    if how == "left":
        stream.close()
    elif how == "cancelled":
        stream.cancel()
        with pytest.raises(termai_http.CallCancelled):
            list(stream)
    del stream
    gc.collect()
    assert client.chat("hi", **options(server)).text == "You said: hi"
    assert circuit_of(client).state == CLOSED
    assert heard == [OPEN, HALF_OPEN, CLOSED]


def test_an_interrupted_probe_lets_another_try(
    client: Client, server: Server, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C within it gives its right back."""
    fail(client, server)
    time.ahead = 31.0
    with monkeypatch.context() as patch:
        patch.setattr("termai_http._chat._read", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            client.chat("hi", **options(server))
    assert client.chat("hi", **options(server)).text == "You said: hi"


@pytest.mark.parametrize("probes", [1, 3])
def test_racing_threads_let_only_so_many_probes_through(
    time: Time, server: Server, probes: int
) -> None:
    """32 callers after the reset time: the server sees the probes, everybody else is refused."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with make(time, probes=probes) as client:
            fail(client, server)
            before = len(server.requests)
            time.ahead = 31.0
            everybody, gate = threading.Barrier(32), threading.Event()

            def hold(request: RecordedRequest) -> None:
                assert gate.wait(PATIENCE)

            server.fail_when(hold)
            next_refused = _counter()

            def call(_: int) -> str:
                everybody.wait(PATIENCE)
                try:
                    return client.chat("hi", **options(server)).text
                except termai_http.CircuitOpenError:
                    if next_refused() == 32 - probes:
                        gate.set()
                    return "refused"

            with ThreadPoolExecutor(32) as pool:
                ends = list(pool.map(call, range(32)))
            assert ends.count("refused") == 32 - probes
            assert ends.count("You said: hi") == probes
            assert len(server.requests) - before == probes
            assert circuit_of(client).state == CLOSED
    finally:
        sys.setswitchinterval(interval)


def _counter() -> Callable[[], int]:
    lock, counted = threading.Lock(), [0]

    def count() -> int:
        with lock:
            counted[0] += 1
            return counted[0]

    return count


def test_calls_are_not_made_one_after_the_other(time: Time, server: Server) -> None:
    """32 threads are all at the server at once, through one closed circuit."""
    everybody = threading.Barrier(32)

    def together(request: RecordedRequest) -> None:
        everybody.wait(PATIENCE)

    server.fail_when(together)
    with make(time) as client, ThreadPoolExecutor(32) as pool:
        texts = pool.map(lambda _: client.chat("hi", **options(server)).text, range(32))
        assert set(texts) == {"You said: hi"}
        assert circuit_of(client).state == CLOSED


def test_a_short_deadline_while_the_server_is_silent_counts(client: Client, server: Server) -> None:
    """It was asked, and did not answer in the time that the caller has."""
    server.fail_when(lambda request: Silent())
    for _ in range(2):
        with pytest.raises(termai_http.DeadlineExceeded):
            client.chat("hi", timeout=0.05, **options(server))
    assert circuit_of(client).state == OPEN
    assert circuit_of(client).last_failure == "DeadlineExceeded"


def test_the_call_that_opens_the_circuit_does_not_wait_for_its_retry(
    time: Time, server: Server
) -> None:
    """It would be refused after the wait; so the next target is asked at once."""
    waits: list[float] = []
    layer = CircuitBreaker(failures=1)
    clock = time.clock()
    spied = attrs.evolve(clock, wait=lambda waker, seconds: waits.append(seconds) or False)
    config = HttpClientConfig(trust_env=False, layers=(layer,))
    server.script(Status(503, headers={"Retry-After": "3"}))
    with Client(config, _clock=spied) as client, Server() as other:
        targets = [termai_http.Target("n", base_url=other.url, api_key="k")]
        reply = client.chat("hi", fallback=targets, **options(server))
        assert reply.model == "n"
    (failed,) = reply.fallbacks
    assert (failed.attempts, failed.error) == (1, "InternalServerError")
    assert len(server.requests) == 1
    assert waits == []


def test_a_stream_that_a_limit_of_ours_breaks_trips_nothing(time: Time, server: Server) -> None:
    """The server did its part, as with a reply in one piece that is too long."""
    layers = (CircuitBreaker(failures=1),)
    config = HttpClientConfig(trust_env=False, layers=layers, limits=Limits(body=700))
    with Client(config, _clock=time.clock()) as client:
        stream = client.stream("hello you there", **options(server))
        with stream, pytest.raises(termai_http.StreamInterrupted):
            list(stream)
        assert (circuit_of(client).state, circuit_of(client).failures) == (CLOSED, 0)
