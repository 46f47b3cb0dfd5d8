"""The circuit breaker without a server: what it makes of errors, races, tears and forks."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest

import termai_http
from termai_http import HttpClientConfig, errors
from termai_http._call import AttemptLimits, Call, Clock
from termai_http._job import Job
from termai_http.contrib import breaker as module
from termai_http.contrib._circuit import CLOSED, HALF_OPEN, OPEN, Verdict
from termai_http.contrib.breaker import CircuitBreaker, _Breaker, _origin, _verdict
from termai_http.layers import CallRequest, Outcome
from tests.concurrency.instants import Instant

URL = "http://server/v1"
TIMEOUT = 60.0
PATIENCE = 30.0
DOWN = errors.InternalServerError("", status_code=503)
# Those of the breaker's own code; nothing else that the tests run has functions of these names.
OWN = frozenset(
    (
        *("around_attempt", "_ask", "admit", "report", "_enter", "_phase", "_tell", "_verdict"),
        *("_new_circuit", "_read_notes", "retry_in", "left"),
    )
)


class Bed:
    """A breaker with a clock that stands, and calls whose attempts end as they are told.

    Args:
        fields: Those of ``CircuitBreaker``.
    """

    def __init__(self, **fields: Any) -> None:
        self.now = 1000.0
        self.clock = Clock(monotonic=lambda: self.now)
        layer = CircuitBreaker(**{"failures": 2, "reset_after": 10.0, **fields})
        built = layer.build(HttpClientConfig(), self.clock)
        assert isinstance(built, _Breaker)
        self.breaker = built
        self.heard: list[str] = []

    def request(self, *, streaming: bool = False, timeout: float = TIMEOUT) -> CallRequest:
        """Return a call that begins now."""
        job = Job(url=f"{URL}/x", base_url=URL, headers={}, streaming=streaming)
        call = Call(timeout, self.clock)
        call.tell = mock.Mock(side_effect=lambda event: self.heard.append(event.state))
        limits = AttemptLimits(connect_timeout=1.0, read_timeout=None)
        return CallRequest(job, call, limits, lambda answer, call: answer, pooled=True)

    def ask(
        self,
        error: errors.TermaiHttpError | None = None,
        do: Callable[[], object] | None = None,
        **fields: Any,
    ) -> Outcome[Any]:
        """Make an attempt that ends with ``error``, or well, after something was done."""

        def send(request: CallRequest) -> Outcome[Any]:
            request.call.attempts += 1
            if do is not None:
                do()
            return Outcome(value=None if error else "reply", error=error)

        return self.breaker.around_attempt(self.request(**fields), send)

    def open(self) -> None:
        """Let it fail until its circuit is open."""
        for _ in range(2):
            self.ask(DOWN)
        assert self.state == OPEN

    @property
    def circuit(self) -> Any:
        """The one circuit there is."""
        return self.breaker._circuits[URL]

    @property
    def state(self) -> str:
        """The state of its circuit."""
        return str(self.circuit.state)

    def must_come_back(self) -> None:
        """Whatever became of its probes: when their time is over, the circuit can be closed."""
        assert self.breaker._lock.acquire(blocking=False)
        self.breaker._lock.release()
        self.now += 2 * TIMEOUT
        assert self.ask().value == "reply"
        assert self.state == CLOSED
        self.open()
        self.now += 10.0
        assert self.ask().value == "reply"
        assert self.state == CLOSED


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
            (errors.InvalidResponseError(""), Verdict.FAILS),
            (errors.ProxyError(""), Verdict.FAILS),
            (errors.ProxyError("", status_code=502), Verdict.FAILS),
            (errors.StreamInterrupted("", status_code=200), Verdict.FAILS),
            (errors.StreamInterrupted("", code="server_error"), Verdict.FAILS),
            (errors.StreamInterrupted("", code="unheard_of"), Verdict.FAILS),
            (errors.RateLimitError("", status_code=429), Verdict.LIVES),
            (errors.QuotaExceededError("", status_code=402), Verdict.LIVES),
            (errors.BadRequestError("", status_code=400), Verdict.LIVES),
            (errors.ConflictError("", status_code=409), Verdict.LIVES),
            (errors.APIStatusError("", status_code=408), Verdict.LIVES),
            (errors.UnexpectedRedirect("", status_code=302), Verdict.LIVES),
            (errors.OutputError(""), Verdict.LIVES),
            (errors.StreamInterrupted("", code="rate_limit_exceeded"), Verdict.LIVES),
            (errors.InvalidResponseError("", code="invalid_api_key"), Verdict.LIVES),
            (errors.ResponseTooLarge(""), Verdict.LIVES),
            (errors.ResourceError(""), Verdict.NOTHING),
            (errors.PoolTimeout(""), Verdict.NOTHING),
            (errors.ProxyError("", status_code=407), Verdict.NOTHING),
            (errors.InvalidRequestError(""), Verdict.NOTHING),
            (errors.CircuitOpenError(""), Verdict.NOTHING),
            (errors.DeadlineExceeded(""), Verdict.NOTHING),
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


def interrupt() -> None:
    """Be a Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("error", [None, DOWN], ids=["lives", "fails"])
@pytest.mark.parametrize("before", [CLOSED, OPEN])
def test_an_interrupt_at_any_instant_leaves_a_whole_circuit(
    before: str, error: errors.TermaiHttpError | None, streaming: bool
) -> None:
    """No lock is held, no probe is lost for good, and the circuit opens and closes as ever."""
    for number in range(1, 1000):
        bed = Bed()
        bed.ask(DOWN)
        if before == OPEN:
            bed.ask(DOWN)
            bed.now += 10.0
        instant = Instant(number, interrupt, OWN)
        try:
            with instant:
                bed.ask(error, streaming=streaming)
        except KeyboardInterrupt:
            pass
        if not instant.reached:
            break
        bed.must_come_back()
    assert number > 2


@pytest.mark.parametrize("streaming", [False, True])
def test_a_circuit_that_opens_at_any_instant_of_another_call_stays_open(streaming: bool) -> None:
    """That call began before: it says nothing of the server as it is now."""
    for number in range(1, 1000):
        bed = Bed()
        bed.ask(DOWN)

        def others(bed: Bed = bed) -> None:
            before = bed.circuit.phase.passing
            assert before is not None
            for _ in range(2):
                bed.circuit.report(before, Verdict.FAILS, bed.now)

        instant = Instant(number, others, {"around_attempt"})
        with instant:
            outcome = bed.ask(streaming=streaming)
        if not instant.reached:
            break
        assert (bed.state, bed.circuit.opened) == (OPEN, 1), instant.place
        assert outcome.error is None or isinstance(outcome.error, errors.CircuitOpenError)
        bed.must_come_back()
    assert number > 2


@pytest.mark.parametrize("torn", [KeyboardInterrupt, GeneratorExit, ValueError])
def test_whatever_comes_out_of_an_attempt_gives_the_probe_back(torn: type[BaseException]) -> None:
    """It says nothing, and the next call is the probe."""
    bed = Bed()
    bed.open()
    bed.now += 10.0
    with pytest.raises(torn):
        bed.ask(do=mock.Mock(side_effect=torn))
    assert bed.state == HALF_OPEN
    assert bed.ask().value == "reply"
    assert bed.heard == [OPEN, HALF_OPEN, CLOSED]


def test_a_listener_that_is_interrupted_gives_the_probe_back() -> None:
    """The circuit was half-open when it was told so, and the probe not sent yet."""
    bed = Bed()
    bed.open()
    bed.now += 10.0
    request, send = bed.request(), mock.Mock()
    request.call.tell = mock.Mock(side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        bed.breaker.around_attempt(request, send)
    assert not send.called
    assert bed.ask().value == "reply"


def test_what_was_not_sent_says_nothing() -> None:
    """A layer inside that answers or refuses by itself is not the server."""
    bed = Bed()
    bed.open()
    bed.now += 10.0
    kept: Outcome[Any] = Outcome(value="kept")
    refused: Outcome[Any] = Outcome(error=DOWN)
    for outcome in (kept, refused):
        send = mock.Mock(return_value=outcome)
        assert bed.breaker.around_attempt(bed.request(streaming=True), send) is outcome
        assert bed.state == HALF_OPEN
        assert not bed.circuit.phase.leases


def test_a_probe_that_ends_at_its_deadline_is_heard_before_another_is_let_through() -> None:
    """A call ends a moment after its deadline: nobody takes its place until then."""
    bed = Bed(reset_after=100.0)
    bed.open()
    bed.now += 100.0
    refused: list[Any] = []

    def wait() -> None:
        bed.now += 5.1
        refused.append(bed.ask().error)

    bed.ask(errors.DeadlineExceeded("", phase="headers"), wait, timeout=5.0)
    assert isinstance(refused[0], errors.CircuitOpenError)
    assert 0 < refused[0].retry_in < 0.25
    assert (bed.state, bed.circuit.last) == (OPEN, "DeadlineExceeded")


def test_a_probe_that_hangs_does_not_hold_up_everybody_until_its_deadline() -> None:
    """Another one asks after the usual time, and closes the circuit while the first still hangs."""
    bed = Bed()
    bed.open()
    bed.now += 10.0
    ends: list[str] = []

    def hang() -> None:
        for _ in range(3):
            bed.now += 4.0
            ends.append(bed.ask().value or "refused")

    bed.ask(errors.ReadTimeout(""), hang)
    assert ends == ["refused", "refused", "reply"]
    assert (bed.state, bed.circuit.failed) == (CLOSED, 0)


def test_a_stream_that_its_reader_lets_run_into_the_deadline_says_nothing() -> None:
    """The deadline spans the reader's own time; a silence before it is the server's."""
    for spent, failed in ((TIMEOUT - 30.0, 2), (TIMEOUT, 1)):
        bed = Bed(failures=3)
        request = bed.request(streaming=True)
        bed.ask(DOWN)
        bed.breaker.around_attempt(request, _begin)
        bed.now += spent
        (ending,) = request.call.endings
        ending(Outcome(error=errors.StreamInterrupted("")))
        assert bed.circuit.failed == failed


def test_streams_that_are_left_end_a_row_of_failures() -> None:
    """As those that are read to their end do, and nothing piles up that nobody reads."""
    bed = Bed()
    for _ in range(5):
        bed.ask(DOWN)
        request = bed.request(streaming=True)
        bed.breaker.around_attempt(request, _begin)
        (ending,) = request.call.endings
        ending(None)
        assert bed.circuit.failed == 0
    assert (bed.state, len(bed.breaker._notes)) == (CLOSED, 0)


def test_a_stream_of_before_that_is_left_says_nothing() -> None:
    """It began before the circuit opened and closed again."""
    bed = Bed()
    request = bed.request(streaming=True)
    bed.breaker.around_attempt(request, _begin)
    bed.must_come_back()
    bed.ask(DOWN)
    (ending,) = request.call.endings
    ending(None)
    assert bed.circuit.failed == 1


def _begin(request: CallRequest) -> Outcome[Any]:
    request.call.attempts += 1
    return Outcome(value="stream")


def test_a_stream_that_ended_keeps_nothing_of_its_call() -> None:
    """Key and prompt go with the call, at once and not when the collector comes."""
    bed = Bed()
    request = bed.request(streaming=True)
    gc.collect()
    gc.disable()
    try:
        bed.breaker.around_attempt(request, _begin)
        gone = weakref.ref(request.call)
        for ending in request.call.endings:
            ending(Outcome(value="stream"))
        del ending, request
        assert gone() is None
    finally:
        gc.enable()


def test_a_change_that_is_over_is_not_told() -> None:
    """Where a thread is held up before it tells of one, the last word is how the circuit is."""
    bed = Bed()
    bed.open()
    bed.heard.clear()
    bed.breaker._tell(bed.circuit, HALF_OPEN, URL, bed.request().call)
    assert bed.heard == []
    bed.breaker._tell(bed.circuit, OPEN, URL, bed.request().call)
    assert bed.heard == [OPEN]


def test_nothing_is_told_or_sent_under_the_lock() -> None:
    """Whoever listens may ask for the figures, or call."""
    bed = Bed()
    seen: list[tuple[str, int]] = []

    def look(*_: Any) -> None:
        (circuit,) = bed.breaker.stats().circuits
        seen.append((circuit.state, circuit.failures))

    bed.heard = mock.Mock(append=look)
    bed.ask(DOWN, look)
    bed.ask(DOWN, look)
    bed.now += 10.0
    bed.ask(None, look)
    assert [state for state, _ in seen] == [CLOSED, CLOSED, OPEN, HALF_OPEN, HALF_OPEN, CLOSED]


@pytest.mark.parametrize("probes", [1, 4])
def test_threads_that_race_again_and_again_let_no_more_probes_through(probes: int) -> None:
    """Of 32 threads just so many pass in each round, and every other one is refused."""
    bed, rounds, threads = Bed(probes=probes), 10, 32
    gates: list[threading.Event] = []

    def prepare() -> None:
        bed.open()
        bed.now += 10.0
        gates.append(threading.Event())

    everybody = threading.Barrier(threads, action=prepare, timeout=PATIENCE)

    def hold() -> None:
        assert gates[-1].wait(PATIENCE)

    def work(_: int) -> list[str]:
        ends = []
        for turn in range(rounds):
            everybody.wait()
            outcome = bed.ask(do=hold)
            if bed.circuit.refused == (turn + 1) * (threads - probes):
                gates[-1].set()
            ends.append(type(outcome.error).__name__)
        return ends

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(threads) as pool:
            ends = list(pool.map(work, range(threads)))
    finally:
        sys.setswitchinterval(interval)
    for turn in zip(*ends, strict=True):
        assert turn.count("NoneType") == probes
        assert turn.count("CircuitOpenError") == threads - probes
    assert bed.circuit.refused == rounds * (threads - probes)
    assert (bed.state, bed.circuit.opened) == (CLOSED, rounds)


class TestBounds:
    """What is kept of servers."""

    def test_few_circuits_are_kept(self) -> None:
        """Base URLs without end do not pile up; those that are closed go first."""
        made = Bed(failures=1).breaker
        bad = [made._new_circuit(f"http://bad-{number}") for number in range(100)]
        for circuit in bad:
            assert circuit.phase.passing is not None
            circuit.report(circuit.phase.passing, Verdict.FAILS, 0.0)
        for number in range(3000):
            made._new_circuit(f"http://{number}")
        assert len(made._circuits) <= module._MOST_CIRCUITS
        assert all(made._circuits[f"http://bad-{n}"] is one for n, one in enumerate(bad))

    def test_not_even_open_ones_pile_up(self) -> None:
        """Servers without end that are all down are bounded, too; the latest are kept."""
        made = Bed(failures=1).breaker
        for number in range(1500):
            circuit = made._new_circuit(f"http://{number}")
            assert circuit.phase.passing is not None
            circuit.report(circuit.phase.passing, Verdict.FAILS, 0.0)
        assert len(made._circuits) <= module._MOST_CIRCUITS
        assert made._circuits["http://1499"].state == OPEN

    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("https://api.vendor.com/v1/models?key=secret#part", "https://api.vendor.com"),
            ("HTTPS://API.Vendor.com:8443/v1", "https://api.vendor.com:8443"),
            ("http://[::1]:80/", "http://[::1]:80"),
        ],
    )
    def test_a_request_of_its_own_belongs_to_its_origin(self, url: str, origin: str) -> None:
        """Path and query, which may hold anything, are not shown."""
        assert _origin(url) == origin


class TestForks:
    """What a child goes on with."""

    def test_a_child_keeps_what_is_known_and_no_probe(self) -> None:
        """Another lock, and the parent's probe is none of the child's."""
        bed = Bed()
        bed.open()
        bed.now += 10.0
        (lock,) = bed.breaker.locks()
        seen: list[Any] = []

        def fork() -> None:
            seen.append(bed.ask().error)
            with lock:
                bed.breaker.start_over()
            seen.append(bed.ask().value)

        bed.ask(errors.ReadTimeout(""), fork)
        assert isinstance(seen[0], errors.CircuitOpenError)
        assert seen[1] == "reply"
        assert bed.breaker.locks() != [lock]
        assert bed.state == CLOSED
