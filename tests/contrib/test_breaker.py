"""The circuit breaker: its states by themselves, and in front of real sockets."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import termai_http
from termai_http import Client, HttpClientConfig, RequestHandler, RetryConfig, errors, events
from termai_http._call import Clock
from termai_http.contrib._circuit import CLOSED, HALF_OPEN, OPEN, Circuit, Ticket, Verdict
from termai_http.contrib.breaker import CircuitBreaker, _Breaker, _verdict
from termai_http.layers import Outcome
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


class TestCircuit:
    """The states, without a thread and without a clock."""

    def test_failures_in_a_row_open_it(self) -> None:
        """A success between them begins the row anew."""
        circuit = Circuit(2, 10.0, 1)
        for verdict in (Verdict.FAILS, Verdict.LIVES, Verdict.FAILS, Verdict.NOTHING):
            assert not circuit.report(circuit.passing, verdict, 0.0)
        assert circuit.state == CLOSED
        assert circuit.report(circuit.passing, Verdict.FAILS, 5.0, "Some 503")
        assert (circuit.state, circuit.opened, circuit.last) == (OPEN, 1, "Some 503")
        assert circuit.admit(5.0, 99.0) is None
        assert (circuit.retry_in(7.0), circuit.refused) == (8.0, 1)

    def test_a_probe_decides(self) -> None:
        """One that succeeds closes the circuit, one that fails opens it for the whole time."""
        circuit = opened()
        probe = circuit.admit(10.0, 99.0)
        assert probe is not None
        assert circuit.state == HALF_OPEN
        assert circuit.admit(10.0, 99.0) is None
        assert circuit.report(probe, Verdict.FAILS, 11.0)
        assert (circuit.state, circuit.retry_in(11.0)) == (OPEN, 10.0)
        probe = circuit.admit(21.0, 99.0)
        assert probe is not None
        assert circuit.report(probe, Verdict.LIVES, 22.0)
        assert (circuit.state, circuit.failed) == (CLOSED, 0)

    def test_a_probe_that_says_nothing_lets_another_try(self) -> None:
        """The circuit stays half-open, and cannot be stuck there."""
        circuit = opened()
        probe = circuit.admit(10.0, 99.0)
        assert probe is not None
        assert not circuit.report(probe, Verdict.NOTHING, 11.0)
        assert circuit.admit(11.0, 99.0) is not None

    def test_a_probe_of_which_nobody_reports_is_given_up(self) -> None:
        """Its call is over then; what it reports later is too late."""
        circuit = opened()
        lost = circuit.admit(10.0, 15.0)
        assert lost is not None
        assert circuit.retry_in(10.0) == 5.0
        assert circuit.admit(14.9, 99.0) is None
        second = circuit.admit(15.0, 99.0)
        assert second is not None
        assert not circuit.report(lost, Verdict.LIVES, 16.0)
        assert circuit.state == HALF_OPEN
        assert circuit.report(second, Verdict.LIVES, 17.0)

    def test_what_began_before_a_change_is_too_late(self) -> None:
        """A call of the good days neither closes an open circuit nor opens it for longer."""
        circuit = Circuit(1, 10.0, 1)
        early = circuit.passing
        circuit.report(early, Verdict.FAILS, 0.0)
        for verdict in Verdict:
            assert not circuit.report(early, verdict, 5.0)
        assert (circuit.state, circuit.retry_in(5.0)) == (OPEN, 5.0)

    @given(
        st.integers(1, 3),
        st.lists(st.tuples(st.sampled_from(["admit", "report"]), st.sampled_from(list(Verdict)))),
    )
    def test_there_are_never_more_probes_than_allowed(
        self, probes: int, steps: list[tuple[str, Verdict]]
    ) -> None:
        """Whatever the order, and it comes back once the server lives and time passes."""
        circuit, now = opened(probes), 10.0
        out: list[Ticket] = []
        for step, verdict in steps:
            now += 1.0
            if step == "admit" and (ticket := circuit.admit(now, now + 50.0)):
                out.append(ticket)
            elif out:
                circuit.report(out.pop(0), verdict, now)
            assert len(circuit._probing) <= probes
            assert circuit.state == HALF_OPEN or not circuit._probing
        ticket = circuit.admit(now + 100.0, now + 200.0)
        assert ticket is not None
        circuit.report(ticket, Verdict.LIVES, now + 100.0)
        assert circuit.state == CLOSED


def opened(probes: int = 1) -> Circuit:
    """Return a circuit that opened at 0.0, for 10 seconds."""
    circuit = Circuit(1, 10.0, probes)
    circuit.report(circuit.passing, Verdict.FAILS, 0.0)
    return circuit


class TestVerdict:
    """What an error says of a server."""

    @pytest.mark.parametrize(
        ("error", "verdict"),
        [
            (errors.InternalServerError("", status_code=500), Verdict.FAILS),
            (errors.OverloadedError("", status_code=529), Verdict.FAILS),
            (errors.OverloadedError("", status_code=200), Verdict.FAILS),
            (errors.InternalServerError("", status_code=200), Verdict.FAILS),
            (errors.APIConnectionError(""), Verdict.FAILS),
            (errors.DNSError(""), Verdict.FAILS),
            (errors.ConnectTimeout(""), Verdict.FAILS),
            (errors.ReadTimeout(""), Verdict.FAILS),
            (errors.DeadlineExceeded("", phase="headers"), Verdict.FAILS),
            (errors.TruncatedResponse(""), Verdict.FAILS),
            (errors.ProtocolError(""), Verdict.FAILS),
            (errors.StreamInterrupted(""), Verdict.FAILS),
            (errors.RateLimitError("", status_code=429), Verdict.LIVES),
            (errors.QuotaExceededError("", status_code=402), Verdict.LIVES),
            (errors.BadRequestError("", status_code=400), Verdict.LIVES),
            (errors.ConflictError("", status_code=409), Verdict.LIVES),
            (errors.OutputError(""), Verdict.LIVES),
            (errors.ResponseTooLarge(""), Verdict.LIVES),
            (errors.ResourceError(""), Verdict.NOTHING),
            (errors.PoolTimeout(""), Verdict.NOTHING),
            (errors.DeadlineExceeded("", phase="slot"), Verdict.NOTHING),
            (errors.DeadlineExceeded("", phase="pacing"), Verdict.NOTHING),
            (errors.CallCancelled(""), Verdict.NOTHING),
            (errors.ClientClosed(""), Verdict.NOTHING),
            (errors.ConfigurationError(""), Verdict.NOTHING),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
    )
    def test_each_class_of_error_has_one(
        self, error: errors.TermaiHttpError, verdict: Verdict
    ) -> None:
        """A refusal is an answer; what is our own says nothing."""
        assert _verdict(Outcome(error=error))[0] is verdict

    def test_a_kept_connection_that_went_stale_says_nothing(self) -> None:
        """The server closed it while it was idle, as it may."""
        attempt: Any = mock.Mock(reused=True, received=0)
        stale: Outcome[Any] = Outcome(error=errors.APIConnectionError(""), attempt=attempt)
        assert _verdict(stale)[0] is Verdict.NOTHING


@pytest.mark.parametrize(
    ("name", "value"),
    [("failures", 0), ("failures", 1.5), ("probes", 0), ("reset_after", 0), ("reset_after", "5")],
)
def test_a_bad_value_is_refused_by_name(name: str, value: Any) -> None:
    """When the description is made."""
    with pytest.raises(termai_http.ConfigurationError, match=name):
        CircuitBreaker(**{name: value})


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
        with pytest.raises(termai_http.InternalServerError, match="not retried: The circuit of"):
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


def test_a_probe_whose_stream_is_left_lets_another_try(
    client: Client, server: Server, time: Time
) -> None:
    """Left or dropped it says nothing; its right goes back."""
    fail(client, server)
    time.ahead = 31.0
    with client.stream("hi", **options(server)):
        pass
    held: Any = client.stream("hi", **options(server))
    del held
    gc.collect()
    assert circuit_of(client).state == HALF_OPEN
    assert client.chat("hi", **options(server)).text == "You said: hi"
    assert circuit_of(client).state == CLOSED


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


def test_a_forked_child_keeps_what_is_known_and_no_probe() -> None:
    """Another lock, and the parent's probe is none of the child's."""
    layer = CircuitBreaker(failures=1)
    breaker = layer.build(HttpClientConfig(), Clock())
    assert isinstance(breaker, _Breaker)
    circuit = breaker._new_circuit("http://a")
    circuit.report(circuit.passing, Verdict.FAILS, -100.0)
    assert circuit.admit(0.0, 1e9) is not None
    (lock,) = breaker.locks()
    with lock:
        breaker.start_over()
    assert breaker.locks() != [lock]
    assert circuit.admit(0.0, 1e9) is not None


def test_few_circuits_are_kept(time: Time) -> None:
    """Base URLs without end do not pile up; those that are open stay."""
    breaker = CircuitBreaker(failures=1).build(HttpClientConfig(), time.clock())
    assert isinstance(breaker, _Breaker)
    bad = breaker._new_circuit("http://bad")
    bad.report(bad.passing, Verdict.FAILS, 0.0)
    for number in range(1500):
        breaker._new_circuit(f"http://{number}")
    assert len(breaker._circuits) <= 1000
    assert breaker._circuits["http://bad"] is bad


def test_a_short_deadline_while_the_server_is_silent_counts(client: Client, server: Server) -> None:
    """It was asked, and did not answer in the time that the caller has."""
    server.fail_when(lambda request: Silent())
    for _ in range(2):
        with pytest.raises(termai_http.DeadlineExceeded):
            client.chat("hi", timeout=0.05, **options(server))
    assert circuit_of(client).state == OPEN
    assert circuit_of(client).last_failure == "DeadlineExceeded"
