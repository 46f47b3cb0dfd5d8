"""A circuit breaker: while a server is down, calls to it fail at once and leave it alone.

``HttpClientConfig(layers=(CircuitBreaker(),))`` has one circuit for each base URL. It opens after
some failures in a row, and every call is refused with ``CircuitOpenError``, without a socket. After
a time a probe is let through: it closes the circuit, or opens it again.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import attrs

from .. import errors, events
from .._numbers import is_number, is_whole
from .._values import Value
from ..errors import CircuitOpenError, ConfigurationError
from ..layers import BuiltLayer, Layer, Outcome
from ._circuit import CLOSED, OPEN, Circuit, Ticket, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._call import Clock
    from ..config import HttpClientConfig
    from ..layers import CallRequest

__all__ = ["BreakerStats", "CircuitBreaker", "CircuitStats"]

_MOST_CIRCUITS = 1000
# Of our own side, and nothing of the server's.
_OURS = (
    errors.ConfigurationError,
    errors.InvalidRequestError,
    errors.ResourceError,
    errors.PoolTimeout,
    errors.CallCancelled,
    errors.ClientClosed,
    errors.CircuitOpenError,
)
# The server did its part: the reply is too long for our limits, or not what was asked for.
_ANSWERED = (errors.ResponseTooLarge, errors.OutputError)
_DOWN = (errors.InternalServerError, errors.OverloadedError)
_WAITING_PHASES = ("slot", "pacing", "layer", "wait", None)


def _check_count(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not is_whole(value, 1):
        raise ConfigurationError(
            f"{attribute.name} must be a whole number of at least 1, not {value!r}."
        )


def _check_seconds(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not is_number(value) or value <= 0:
        raise ConfigurationError(
            f"{attribute.name} must be a number of seconds above 0, not {value!r}."
        )


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CircuitBreaker(Value, Layer):
    """Refuses calls to a server that is down; one circuit for each base URL.

    What counts as a failure, each attempt by itself, retries included: a status of 500 and above
    (529 too), a failed connection, a timeout of connecting or reading, the deadline while the
    server is waited for, an answer that is cut or no HTTP, a stream that breaks. Any status below
    500, a 429 for one, says that the server lives. What is our own (a full pool, a cancelled call,
    a kept connection that went stale, no file descriptors) says nothing.

    Args:
        failures: Failures in a row that open the circuit.
        reset_after: Seconds until an open circuit lets probes through.
        probes: Probes at once. The first one that succeeds closes the circuit, one that fails opens
            it again. A stream is a probe until its end. One of which nobody says how it ended is
            given up at its call's deadline.

    Raises:
        ConfigurationError: A value is out of range.
    """

    name: ClassVar[str] = "breaker"

    failures: int = attrs.field(default=5, validator=_check_count)
    reset_after: float = attrs.field(default=30.0, validator=_check_seconds)
    probes: int = attrs.field(default=1, validator=_check_count)

    def build(self, config: HttpClientConfig, clock: Clock) -> BuiltLayer:
        """Make a client's own breaker."""
        return _Breaker(self, clock)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CircuitStats(Value):
    """One circuit at one moment.

    Attributes:
        base_url: Whose it is.
        state: ``"closed"``, ``"open"`` or ``"half-open"``.
        failures: Failures in a row.
        retry_in: Seconds until a probe is let through; 0.0 where an attempt is now.
        opened: How often it opened.
        refused: Attempts that it refused.
        last_failure: What failed last, a class of error and a status; ``""`` before the first.
    """

    base_url: str
    state: str
    failures: int
    retry_in: float
    opened: int
    refused: int
    last_failure: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class BreakerStats(Value):
    """The circuits of a client.

    Attributes:
        circuits: One for each base URL.
    """

    circuits: tuple[CircuitStats, ...] = ()


class _Breaker(BuiltLayer):
    """The circuits of one client."""

    def __init__(self, layer: CircuitBreaker, clock: Clock) -> None:
        self._layer = layer
        self._now = clock.monotonic
        self._circuits: dict[str, Circuit] = {}
        # Left by who may take no lock, a finalizer for one.
        self._notes: deque[tuple[Circuit, Ticket]] = deque()
        self._lock = threading.Lock()

    def locks(self) -> list[Any]:
        """Return its lock."""
        return [self._lock]

    def start_over(self) -> None:
        """Keep what is known of the servers, and forget the parent's probes."""
        self._lock = threading.Lock()
        self._notes.clear()
        for circuit in self._circuits.values():
            circuit.forget_probes()

    def stats(self) -> BreakerStats:
        """Return the circuits at one moment."""
        with self._lock:
            self._read_notes()
            now = self._now()
            return BreakerStats(
                circuits=tuple(
                    CircuitStats(
                        base_url=url,
                        state=one.state,
                        failures=one.failed,
                        retry_in=one.retry_in(now),
                        opened=one.opened,
                        refused=one.refused,
                        last_failure=one.last,
                    )
                    for url, one in self._circuits.items()
                )
            )

    def around_attempt(
        self, request: CallRequest, send: Callable[[CallRequest], Outcome[Any]]
    ) -> Outcome[Any]:
        """Make an attempt where the circuit lets it through."""
        url = request.job.base_url or _origin(request.job.url)
        circuit = self._circuits.get(url)
        if circuit is None:
            circuit = self._new_circuit(url)
        ticket: Ticket | None = circuit.passing if circuit.state == CLOSED else None
        if ticket is None:
            ticket, refusal = self._ask(circuit, url, request)
            if ticket is None:
                return Outcome(error=refusal)
        verdict, word, later = Verdict.NOTHING, "", False
        try:
            outcome = send(request)
            verdict, word = _verdict(outcome)
            if request.streaming and outcome.error is None:
                later = True
                request.at_end(_End(self, circuit, ticket, url, request))
        finally:
            if not later:
                self.report(circuit, ticket, verdict, word, url, request)
        return outcome

    def _new_circuit(self, url: str) -> Circuit:
        layer = self._layer
        made = Circuit(layer.failures, layer.reset_after, layer.probes)
        with self._lock:
            if len(self._circuits) >= _MOST_CIRCUITS:
                calm = [one for one, circuit in self._circuits.items() if circuit.state == CLOSED]
                for old in calm[: _MOST_CIRCUITS // 2]:
                    del self._circuits[old]
            return self._circuits.setdefault(url, made)

    def _ask(
        self, circuit: Circuit, url: str, request: CallRequest
    ) -> tuple[Ticket | None, CircuitOpenError | None]:
        with self._lock:
            self._read_notes()
            before, now = circuit.state, self._now()
            ticket = circuit.admit(now, request.call.end)
            after, retry_in, last = circuit.state, circuit.retry_in(now), circuit.last
        if after != before:
            request.tell(events.CircuitChanged, base_url=url, state=after)
        if ticket is not None:
            return ticket, None
        return None, _refusal(url, after, retry_in, last)

    def report(
        self,
        circuit: Circuit,
        ticket: Ticket,
        verdict: Verdict,
        word: str,
        url: str,
        request: CallRequest,
    ) -> None:
        """Take the verdict of an attempt."""
        if not ticket.number and (
            verdict is Verdict.NOTHING or (verdict is Verdict.LIVES and not circuit.failed)
        ):
            # Nearly every one, and it changes nothing.
            return
        with self._lock:
            self._read_notes()
            changed = circuit.report(ticket, verdict, self._now(), word)
            state = circuit.state
        if changed:
            request.tell(events.CircuitChanged, base_url=url, state=state)

    def leave_note(self, circuit: Circuit, ticket: Ticket) -> None:
        """Let a ticket be given back by the next who looks; safe at any instant."""
        if ticket.number:
            self._notes.append((circuit, ticket))

    def _read_notes(self) -> None:
        while self._notes:
            circuit, ticket = self._notes.popleft()
            circuit.report(ticket, Verdict.NOTHING, 0.0)


class _End:
    """What a stream says of its server at its end."""

    def __init__(
        self, breaker: _Breaker, circuit: Circuit, ticket: Ticket, url: str, request: CallRequest
    ) -> None:
        self._breaker = breaker
        self._circuit = circuit
        self._ticket = ticket
        self._url = url
        self._request = request

    def __call__(self, outcome: Outcome[Any] | None) -> None:
        """Report; with None, which may come from a finalizer, by a note."""
        if outcome is None:
            self._breaker.leave_note(self._circuit, self._ticket)
            return
        verdict, word = _verdict(outcome)
        if isinstance(outcome.error, errors.StreamInterrupted) and self._request.call.left() <= 0:
            # The deadline spans the reader's own time, too.
            verdict = Verdict.NOTHING
        self._breaker.report(self._circuit, self._ticket, verdict, word, self._url, self._request)


def _verdict(outcome: Outcome[Any]) -> tuple[Verdict, str]:
    """Tell what an attempt, or a whole stream, says of the server, and what failed in a word."""
    error = outcome.error
    if error is None or isinstance(error, _ANSWERED):
        return Verdict.LIVES, ""
    word = type(error).__name__
    if isinstance(error, errors.APIStatusError):
        status = error.status_code or 0
        # A stream may say so within a success.
        down = status >= 500 or isinstance(error, _DOWN)
        word = f"{word} {status}" if status else word
        return (Verdict.FAILS if down else Verdict.LIVES), word
    if isinstance(error, _OURS):
        return Verdict.NOTHING, word
    if isinstance(error, errors.DeadlineExceeded) and error.phase in _WAITING_PHASES:
        return Verdict.NOTHING, word
    attempt = outcome.attempt
    stale = attempt is not None and attempt.reused and not attempt.received
    if stale and isinstance(error, errors.APIConnectionError):
        return Verdict.NOTHING, word
    return Verdict.FAILS, word


def _refusal(url: str, state: str, retry_in: float, last: str) -> CircuitOpenError:
    host = urlsplit(url).netloc
    probe = f"is let through in {retry_in:.1f} s" if state == OPEN else "is under way"
    return CircuitOpenError(
        f"The circuit of {host} is {state}, after {last}: nothing was sent; a probe {probe}.",
        retry_in=retry_in,
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
