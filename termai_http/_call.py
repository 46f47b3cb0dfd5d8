"""One call: its deadline, its attempts, and the ways to end it from another thread."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

import attrs

from .errors import CallCancelled, TermaiHttpError

__all__ = ["Attempt", "AttemptLimits", "Call", "CancelToken", "Clock", "active"]


def _wait(event: threading.Event, seconds: float) -> bool:
    return event.wait(seconds)


@attrs.frozen(kw_only=True)
class Clock:
    """Time and chance, handed in so that tests need neither waiting nor luck."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    wait: Callable[[threading.Event, float], bool] = _wait
    uniform: Callable[[float, float], float] = random.uniform


_numbers = itertools.count(1)


class Call:
    """One call while it runs. Its own thread works on it; any thread may ``interrupt`` it.

    Attributes:
        number: Its number in this process.
        started: Monotonic instant of its entry.
        end: Monotonic instant that nothing of it outlives.
        attempts: HTTP exchanges begun.
        causes: Why each retry was made.
        ambiguous: Repetitions of what may have been processed.
        maybe_billed: Whether the vendor may have processed an attempt that failed.
    """

    __slots__ = (
        *("_attempt", "_reason", "_waker", "ambiguous", "attempts", "causes", "clock", "end"),
        *("maybe_billed", "model", "number", "provider", "started"),
    )

    def __init__(
        self, timeout: float, clock: Clock, provider: str | None = None, model: str | None = None
    ) -> None:
        self.number = next(_numbers)
        self.clock = clock
        self.provider = provider
        self.model = model
        self.started = clock.monotonic()
        self.end = self.started + timeout
        self.attempts = 0
        self.causes: tuple[str, ...] = ()
        self.ambiguous = 0
        self.maybe_billed = False
        self._reason: type[TermaiHttpError] | None = None
        self._waker: threading.Event | None = None
        self._attempt: Attempt | None = None

    def left(self) -> float:
        """Return the seconds until the deadline; negative once it passed."""
        return self.end - self.clock.monotonic()

    def elapsed(self) -> float:
        """Return the seconds since the call's entry."""
        return self.clock.monotonic() - self.started

    @property
    def interrupted(self) -> type[TermaiHttpError] | None:
        """The class of error that another thread ended this call with; None while it may run."""
        return self._reason

    def interrupt(self, reason: type[TermaiHttpError]) -> None:
        """End the call from any thread: wake its wait, break its socket.

        Each side first writes its own fact and then reads the other's, so neither can miss both.
        """
        if self._reason is None:
            self._reason = reason
        waker, attempt = self._waker, self._attempt
        if waker is not None:
            waker.set()
        if attempt is not None:
            attempt.break_off()

    def sleep(self, seconds: float) -> None:
        """Wait between attempts; ends early when the call is interrupted."""
        self.wait_on(threading.Event(), seconds)

    def wait_on(self, event: threading.Event, seconds: float) -> None:
        """Wait for an event; ends early, and sets it, when the call is interrupted."""
        self._waker = event
        if self._reason is None:
            self.clock.wait(event, seconds)
        self._waker = None

    def begin_attempt(self, *, fresh: bool, pooled: bool, limits: AttemptLimits) -> Attempt:
        """Begin the next attempt and count it."""
        self.attempts += 1
        self._attempt = attempt = Attempt(self, fresh=fresh, pooled=pooled, limits=limits)
        return attempt

    def end_attempt(self) -> None:
        """Let go of the attempt, so that an interrupt cannot reach a connection given back."""
        self._attempt = None


@attrs.frozen(kw_only=True)
class AttemptLimits:
    """What bounds one attempt, in seconds, beside the call's deadline."""

    connect_timeout: float
    read_timeout: float | None


class Attempt:
    """One HTTP exchange of a call: what the transport learns of it on the way.

    Attributes:
        fresh: Whether an idle connection must not be taken.
        pooled: Whether the shared pool is used.
        reused: Whether it took an idle connection.
        sent: Whether a byte of the request may have left.
        received: Whether a byte of the answer came.
        phase: ``"slot"``, ``"connect"``, ``"send"``, ``"headers"`` or ``"body"``.
        abandon: Closes the connection, unless it was given back; None before there is one.
    """

    __slots__ = (
        *("_socket", "abandon", "call", "fresh", "limits", "phase", "pooled", "received"),
        *("reused", "sent"),
    )

    def __init__(self, call: Call, *, fresh: bool, pooled: bool, limits: AttemptLimits) -> None:
        self.call = call
        self.fresh = fresh
        self.pooled = pooled
        self.limits = limits
        self.reused = False
        self.sent = False
        self.received = False
        self.phase = "slot"
        self.abandon: Callable[[], None] | None = None
        self._socket: socket.socket | None = None

    def hold(self, sock: socket.socket) -> None:
        """Remember the socket in use, for an interrupt to break."""
        self._socket = sock
        if self.call.interrupted is not None:
            self.break_off()

    def break_off(self) -> None:
        """Shut the socket down; whoever reads or writes it wakes at once."""
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown: it drops the TLS layer under the reading thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def connect_budget(self) -> float:
        """Return the seconds that connecting may take, at least a hair so that it is tried."""
        return max(min(self.limits.connect_timeout, self.call.left()), 0.001)

    def read_budget(self) -> float:
        """Return the seconds that the next read may take.

        Raises:
            TimeoutError: The deadline passed.
        """
        left = self.call.left()
        if left <= 0:
            raise TimeoutError("the deadline passed")
        limit = self.limits.read_timeout
        return left if limit is None else min(limit, left)


class _Active(threading.local):
    attempt: Attempt | None = None


active = _Active()
"""The attempt that this thread is sending; None inside a raw use of the session.

Requests and urllib3 pass no context through, and a patched layer between must not matter.
"""


class CancelToken:
    """Ends calls from another thread.

    Give one to any number of calls as ``cancel=``; ``cancel()`` ends all that run, each with
    ``CallCancelled``, and every later one before it begins. As a context manager it cancels, on
    leaving, what still runs. Every method is safe from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel()`` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """End every call given this token; further calls of this method change nothing."""
        with self._lock:
            self._cancelled = True
            calls = list(self._calls)
        for call in calls:
            call.interrupt(CallCancelled)

    def join(self, call: Call) -> None:
        """Take a call in; one that comes after ``cancel()`` is interrupted at once."""
        with self._lock:
            self._calls.add(call)
            cancelled = self._cancelled
        if cancelled:
            call.interrupt(CallCancelled)

    def leave(self, call: Call) -> None:
        """Forget a call that ended."""
        with self._lock:
            self._calls.discard(call)

    def __enter__(self) -> CancelToken:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()
