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
from .._importing import importing
from .._log import log
from .._numbers import is_number, is_whole
from .._values import Value
from ..dialects._errors import payload_error
from ..errors import CircuitOpenError, ConfigurationError
from ..layers import BuiltLayer, Layer, Outcome
from ._circuit import CLOSED, HALF_OPEN, OPEN, Circuit, Ticket, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._call import Call, Clock
    from ..config import HttpClientConfig
    from ..layers import CallRequest

__all__ = ["BreakerStats", "CircuitBreaker", "CircuitStats"]

_MOST_CIRCUITS = 1000
# An attempt may end so much later than its call's deadline, and tell how it ended then.
_OVERRUN = 0.25
_TIMER_SLACK = 0.05
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
# What may hold an error of the server's own words, which has a status there.
_TOLD_WITHIN = (errors.StreamInterrupted, errors.InvalidResponseError)
_ASKING_PHASES = ("connect", "send", "headers", "body")
_REFUSED, _FAILED = 400, 500


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
    a kept connection that went stale, no file descriptors, a proxy that refuses us) says nothing.

    Args:
        failures: Failures in a row that open the circuit.
        reset_after: Seconds until an open circuit lets probes through.
        probes: Probes at once. The first one that succeeds closes the circuit, one that fails opens
            it again. A stream is a probe until its end. While nothing is heard of a probe for
            ``reset_after`` seconds, or after its call's deadline, another one is let through.

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

    def rows(self) -> list[tuple[str, str, str]]:
        """Return a row for each circuit that was opened, and one for all others."""
        calm = sum(1 for one in self.circuits if not one.opened)
        rows = [("circuits", f"{calm:,} closed", "never opened")] if calm else []
        for one in self.circuits:
            if one.opened:
                how = f"opened {one.opened:,} times, refused {one.refused:,}"
                if one.state != CLOSED:
                    how += f", after {one.last_failure}; a probe in {one.retry_in:.0f} s"
                rows.append((f"circuit: {urlsplit(one.base_url).netloc}", one.state, how))
        return rows


class _Breaker(BuiltLayer):
    """The circuits of one client."""

    def __init__(self, layer: CircuitBreaker, clock: Clock) -> None:
        self._layer = layer
        self._now = clock.monotonic
        self._circuits: dict[str, Circuit] = {}
        # Left by who may take no lock, a finalizer for one: probes whose streams were left.
        self._notes: deque[tuple[Circuit, Ticket, str, Call]] = deque()
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
        call = request.call
        # Read once and without the lock: a ticket while the circuit is closed, and only then.
        ticket = circuit.phase.passing
        if ticket is None:
            asked = self._ask(circuit, url, call)
            if isinstance(asked, CircuitOpenError):
                return Outcome(error=asked)
            ticket = asked
        verdict, word, later = Verdict.NOTHING, "", False
        try:
            if ticket.first:
                self._tell(circuit, HALF_OPEN, url, call)
            before = call.attempts
            outcome = send(request)
            if call.attempts > before:
                verdict, word = _verdict(outcome)
                if request.streaming and outcome.error is None:
                    request.at_end(_End(self, circuit, ticket, url, call))
                    later = True
        finally:
            if not later:
                self.report(circuit, ticket, verdict, word, url, call)
        if outcome.error is not None and circuit.phase.passing is None:
            # Not to wait for a retry that would be refused.
            outcome.why_not = f"the circuit of {urlsplit(url).netloc} is {circuit.state}"
        return outcome

    def _new_circuit(self, url: str) -> Circuit:
        layer = self._layer
        made = Circuit(layer.failures, layer.reset_after, layer.probes)
        with self._lock:
            if len(self._circuits) >= _MOST_CIRCUITS:
                self._forget_some()
            return self._circuits.setdefault(url, made)

    def _forget_some(self) -> None:
        # The oldest, and of those that are closed first.
        circuits = self._circuits
        for url in sorted(circuits, key=lambda one: circuits[one].state != CLOSED)[
            : _MOST_CIRCUITS // 2
        ]:
            del circuits[url]

    def _ask(self, circuit: Circuit, url: str, call: Call) -> Ticket | CircuitOpenError:
        with self._lock:
            now = self._now()
            closed = self._read_notes(now)
            ticket = circuit.admit(now, call.end + _OVERRUN)
            state, retry_in, last = circuit.state, circuit.retry_in(now), circuit.last
        for one in closed:
            self._tell(*one)
        return _refusal(url, state, retry_in, last) if ticket is None else ticket

    def report(
        self, circuit: Circuit, ticket: Ticket, verdict: Verdict, word: str, url: str, call: Call
    ) -> None:
        """Take the verdict of an attempt."""
        if not ticket.number and (
            verdict is Verdict.NOTHING or (verdict is Verdict.LIVES and not circuit.failed)
        ):
            # Nearly every one, and it changes nothing.
            return
        with self._lock:
            now = self._now()
            changes = self._read_notes(now)
            if circuit.report(ticket, verdict, now, word):
                changes.append((circuit, circuit.state, url, call))
        for one in changes:
            self._tell(*one)

    def _tell(self, circuit: Circuit, state: str, url: str, call: Call) -> None:
        # A thread that was held up says nothing that is over: the last word is how it is.
        if circuit.state != state:
            return
        if state == OPEN:
            who: dict[str, Any] = {
                "call_id": call.number,
                "provider": call.provider,
                "model": call.model,
            }
            with importing():
                from .._log_events import fields_of
            log.warning(
                "The circuit of %s is open after %s: for %g s its calls are refused",
                urlsplit(url).netloc,
                circuit.last,
                self._layer.reset_after,
                extra=fields_of(events.CircuitChanged(**who, base_url=url, state=state)),
            )
        call.tell_of(events.CircuitChanged, base_url=url, state=state)

    def left(self, circuit: Circuit, ticket: Ticket, url: str, call: Call) -> None:
        """Take note that a stream was left after it began; safe at any instant, without a lock."""
        if ticket.number:
            self._notes.append((circuit, ticket, url, call))
        elif ticket is circuit.phase.passing:
            circuit.failed = 0

    def _read_notes(self, now: float) -> list[tuple[Circuit, str, str, Call]]:
        closed = []
        while self._notes:
            circuit, ticket, url, call = self._notes.popleft()
            if circuit.report(ticket, Verdict.LIVES, now):
                closed.append((circuit, circuit.state, url, call))
        return closed


class _End:
    """What a stream says of its server at its end."""

    def __init__(
        self, breaker: _Breaker, circuit: Circuit, ticket: Ticket, url: str, call: Call
    ) -> None:
        self._breaker = breaker
        self._circuit = circuit
        self._ticket = ticket
        self._url = url
        self._call: Call | None = call

    def __call__(self, outcome: Outcome[Any] | None) -> None:
        """Report; with None, which may come from a finalizer, by a note."""
        call, self._call = self._call, None  # which has this: a circle would live on
        if call is None:
            return
        if outcome is None:
            self._breaker.left(self._circuit, self._ticket, self._url, call)
            return
        verdict, word = _verdict(outcome)
        if isinstance(outcome.error, errors.StreamInterrupted) and call.left() <= _TIMER_SLACK:
            # The deadline spans the reader's own time, too.
            verdict = Verdict.NOTHING
        elif verdict is Verdict.NOTHING:
            # Cancelled after it began: whoever does so with every stream must not wait for ever for
            # one that says that the server lives.
            verdict = Verdict.LIVES
        self._breaker.report(self._circuit, self._ticket, verdict, word, self._url, call)


def _verdict(outcome: Outcome[Any]) -> tuple[Verdict, str]:
    """Tell what an attempt, or a whole stream, says of the server, and what failed in a word."""
    error = outcome.error
    kind = getattr(error, "_source", None) or type(error)
    if error is None or issubclass(kind, _ANSWERED):
        # Within a stream, too, which a limit of ours may break.
        return Verdict.LIVES, ""
    status, word = _status_of(error), type(error).__name__
    if status >= _REFUSED:
        word = f"{word} {status}"
    if isinstance(error, errors.InternalServerError):
        # Within a success it may have the status of that.
        return Verdict.FAILS, word
    if isinstance(error, errors.APIStatusError) or (isinstance(error, _TOLD_WITHIN) and status):
        return (Verdict.FAILS if status >= _FAILED else Verdict.LIVES), word
    return (Verdict.NOTHING if _is_ours(error, outcome) else Verdict.FAILS), word


def _status_of(error: errors.TermaiHttpError) -> int:
    """Return the status that an error is, or would have been had it come before a success."""
    if not isinstance(error, _TOLD_WITHIN):
        return error.status_code or 0
    if error.code is None:
        return 0
    return payload_error({"type": error.code}, "", "", []).status_code or 0


def _is_ours(error: errors.TermaiHttpError, outcome: Outcome[Any]) -> bool:
    """Tell whether an error is of our own side, and says nothing of the server."""
    if isinstance(error, _OURS):
        return True
    if isinstance(error, errors.DeadlineExceeded):
        return error.phase not in _ASKING_PHASES
    if isinstance(error, errors.ProxyError) and _REFUSED <= (error.status_code or 0) < _FAILED:
        # It wants other credentials, or forbids the host.
        return True
    attempt = outcome.attempt
    stale = attempt is not None and attempt.reused and not attempt.received
    return stale and isinstance(error, errors.APIConnectionError)


def _refusal(url: str, state: str, retry_in: float, last: str) -> CircuitOpenError:
    host = urlsplit(url).netloc
    probe = f"is let through in {retry_in:.1f} s" if state == OPEN else "is under way"
    return CircuitOpenError(
        f"The circuit of {host} is {state}, after {last}: nothing was sent; a probe {probe}.",
        retry_in=retry_in,
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"
