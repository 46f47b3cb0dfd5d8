"""One call: its deadline, its attempts, and the ways to end it from another thread."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

import attrs

from .errors import APIConnectionError, CallCancelled, TermaiHttpError

__all__ = [
    "Attempt",
    "AttemptLimits",
    "Call",
    "CallsInFlight",
    "CancelToken",
    "Clock",
    "Waker",
    "active",
]

_LONGEST_WAIT = 1e8
_LONGEST_NAP = 1.0


class Waker:
    """A flag to wait for, set once.

    A bare lock, not a ``threading.Event``: an interrupt inside an event's own lock leaves that
    locked, and whoever sets the event then hangs (bpo-29988). Setting one takes no lock,
    so a finalizer or a signal handler may do it.
    """

    __slots__ = ("_gate",)

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()

    def set(self) -> None:
        """Wake whoever waits, now or later."""
        # It was set already where this fails.
        with contextlib.suppress(RuntimeError):
            self._gate.release()

    def wait(self, seconds: float) -> bool:
        """Wait for ``set()``, at most so long; True where it came."""
        if not self._gate.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX)):
            return False
        self.set()
        return True


def _wait(waker: Waker, seconds: float) -> bool:
    return waker.wait(seconds)


@attrs.frozen(kw_only=True)
class Clock:
    """Time and chance, handed in so that tests need neither waiting nor luck."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    wait: Callable[[Waker, float], bool] = _wait
    uniform: Callable[[float, float], float] = random.uniform


_numbers = itertools.count(1)


class Call:
    """One call while it runs. Its own thread works on it; any thread may ``interrupt`` it.

    Each side first writes its own fact and then reads the other's, so neither can miss both, and
    no lock is needed: a signal handler may interrupt, too.

    Attributes:
        number: Its number in this process.
        started: Monotonic instant of its entry.
        end: Monotonic instant that nothing of it outlives.
        attempts: HTTP exchanges begun.
        causes: Why each retry was made.
        ambiguous: Repetitions of what may have been processed.
        maybe_billed: Whether the vendor may have processed an attempt that failed.
        retries_denied: Retries that the host's retry budget forbade.
    """

    __slots__ = (
        *("__weakref__", "_reason", "_socket", "_waker", "ambiguous", "attempts", "causes"),
        *("clock", "end", "maybe_billed", "model", "number", "provider", "retries_denied"),
        "started",
    )

    def __init__(
        self,
        timeout: float,
        clock: Clock,
        provider: str | None = None,
        model: str | None = None,
        started: float | None = None,
    ) -> None:
        self.number = next(_numbers)
        self.clock = clock
        self.provider = provider
        self.model = model
        self.started = clock.monotonic() if started is None else started
        self.end = self.started + min(timeout, _LONGEST_WAIT)
        self.attempts = 0
        self.causes: tuple[str, ...] = ()
        self.ambiguous = 0
        self.maybe_billed = False
        self.retries_denied = 0
        self._reason: type[TermaiHttpError] | None = None
        self._waker: Waker | None = None
        self._socket: socket.socket | None = None

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
        """End the call from any thread: wake its wait, break its socket."""
        if self._reason is None:
            self._reason = reason
        waker = self._waker
        if waker is not None:
            waker.set()
        self._break_off()

    def orphan(self) -> None:
        """End the call in a forked child, whose copy of the socket is the parent's to use."""
        self._socket = None
        if self._reason is None:
            self._reason = APIConnectionError

    def sleep(self, seconds: float) -> None:
        """Wait between attempts; ends early when the call is interrupted."""
        self.wait_on(Waker(), seconds)

    def wait_on(self, waker: Waker, seconds: float) -> None:
        """Wait for a waker; ends early, and sets it, when the call is interrupted."""
        self._waker = waker
        if self._reason is None:
            self.clock.wait(waker, seconds)
        self._waker = None

    def hold(self, sock: socket.socket) -> None:
        """Remember the socket in use, for an interrupt to break."""
        self._socket = sock
        if self._reason is not None:
            self._break_off()

    def let_go(self) -> bool:
        """Forget the socket before it is given back; False where an interrupt may break it."""
        self._socket = None
        return self._reason is None

    def _break_off(self) -> None:
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown: it drops the TLS layer under the reading thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def begin_attempt(self, *, fresh: bool, pooled: bool, limits: AttemptLimits) -> Attempt:
        """Begin the next attempt and count it."""
        self.attempts += 1
        return Attempt(self, fresh=fresh, pooled=pooled, limits=limits)


@attrs.frozen(kw_only=True)
class AttemptLimits:
    """What bounds one attempt beside the call's deadline.

    Attributes:
        connect_timeout: Seconds for DNS, TCP, proxy and TLS together.
        read_timeout: Seconds of silence between two reads; None for what the deadline leaves.
        headers: Bytes of the answer's header block.
    """

    connect_timeout: float
    read_timeout: float | None
    headers: int = 256 * 1024


class Attempt:
    """One HTTP exchange of a call: what the transport learns of it on the way.

    Attributes:
        fresh: Whether an idle connection must not be taken.
        pooled: Whether the shared pool is used.
        reused: Whether it took an idle connection.
        sent: Whether a byte of the request may have left.
        received: Bytes of the answer that came.
        spoiled: Whether its connection must not carry another request.
        phase: ``"slot"``, ``"connect"``, ``"send"``, ``"headers"`` or ``"body"``.
        until: Monotonic instant at which the present phase ends, at the latest.
    """

    __slots__ = (
        *("call", "fresh", "limits", "phase", "pooled", "received", "reused", "sent"),
        *("spoiled", "until"),
    )

    def __init__(self, call: Call, *, fresh: bool, pooled: bool, limits: AttemptLimits) -> None:
        self.call = call
        self.fresh = fresh
        self.pooled = pooled
        self.limits = limits
        self.reused = False
        self.sent = False
        self.received = 0
        self.spoiled = False
        self.phase = "slot"
        self.until = call.end

    def narrow(self, seconds: float) -> None:
        """Let the present phase end after ``seconds``, if the deadline does not come before."""
        self.until = min(self.call.clock.monotonic() + seconds, self.call.end)

    def widen(self) -> None:
        """Let nothing but the deadline end what follows."""
        self.until = self.call.end

    def budget(self) -> float:
        """Return the seconds that the next step may take.

        Raises:
            TimeoutError: The present phase's time is over.
            ConnectionAbortedError: The call was interrupted.
        """
        if self.call.interrupted is not None:
            raise ConnectionAbortedError("the call was interrupted")
        left = self.until - self.call.clock.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        return left

    def connect_budget(self) -> float:
        """Return the seconds that connecting may take; raises as ``budget``."""
        return min(self.limits.connect_timeout, self.budget())

    def read_budget(self) -> float:
        """Return the seconds that the next read may take; raises as ``budget``."""
        left = self.budget()
        limit = self.limits.read_timeout
        return left if limit is None else min(limit, left)


class _Active(threading.local):
    attempt: Attempt | None = None
    lease: Any = None


active = _Active()
"""The attempt that this thread is sending, and its lease; None inside a raw use of the session.

Requests and urllib3 pass no context through, and a patched layer between must not matter.
"""


class CallsInFlight:
    """The calls that run, by number. Without a lock: each step is one step of a dict.

    It holds them weakly, so that a call which an interrupt tore away before it could leave does
    not count for ever.
    """

    def __init__(self) -> None:
        self._calls: dict[int, weakref.ref[Call]] = {}
        self._drained: Waker | None = None

    def join(self, call: Call) -> None:
        """Take a call in."""
        self._calls[call.number] = weakref.ref(call)

    def leave(self, call: Call) -> None:
        """Forget a call that ended."""
        self._calls.pop(call.number, None)
        drained = self._drained
        if drained is not None and not len(self):
            drained.set()

    def all(self) -> list[Call]:
        """Return those that run."""
        calls = []
        for number, ref in list(self._calls.items()):
            call = ref()
            if call is None:
                self._calls.pop(number, None)
            else:
                calls.append(call)
        return calls

    def __len__(self) -> int:
        return len(self.all())

    def interrupt(self, reason: type[TermaiHttpError]) -> None:
        """End every one that runs."""
        for call in self.all():
            call.interrupt(reason)

    def drain(self, seconds: float, clock: Clock) -> bool:
        """Wait until none runs, at most so long; True where none does."""
        end = clock.monotonic() + seconds
        while True:
            self._drained = drained = Waker()
            left = end - clock.monotonic()
            if not len(self) or left <= 0:
                return not len(self)
            # A nap at a time: one that an interrupt tore away does not say that it left.
            clock.wait(drained, min(left, _LONGEST_NAP))


class CancelToken:
    """Ends calls from another thread.

    Give one to any number of calls as ``cancel=``; ``cancel()`` ends all that run, each with
    ``CallCancelled``, and every later one before it begins. As a context manager it cancels, on
    leaving, what still runs. Every method is safe from any thread.
    """

    def __init__(self) -> None:
        self._calls = CallsInFlight()
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel()`` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """End every call given this token; further calls of this method change nothing.

        Takes no lock, so that a signal handler may call it.
        """
        self._cancelled = True
        self._calls.interrupt(CallCancelled)

    def join(self, call: Call) -> None:
        """Take a call in; one that comes after ``cancel()`` is interrupted at once."""
        self._calls.join(call)
        if self._cancelled:
            call.interrupt(CallCancelled)

    def leave(self, call: Call) -> None:
        """Forget a call that ended."""
        self._calls.leave(call)

    def __enter__(self) -> CancelToken:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()
