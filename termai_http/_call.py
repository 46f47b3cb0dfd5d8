"""One call: its deadline, its attempts, and what an interrupt from another thread reaches."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from . import events
from ._values import Value
from .errors import APIConnectionError, TermaiHttpError

if TYPE_CHECKING:
    from .events import Audience

__all__ = [
    "Attempt",
    "AttemptLimits",
    "Call",
    "Clock",
    "Waker",
    "active",
]

_LONGEST_WAIT = 1e8


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


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Clock(Value):
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
        pooled: Whether it uses the shared pool.
        started: Monotonic instant of its entry.
        entered: That of the entry from which its timeout counts: of the first target's call.
        end: Monotonic instant that nothing of it outlives.
        limited: Whether a limit around the call, and not its own timeout, set ``end``.
        attempts: HTTP exchanges begun.
        causes: Why each retry was made.
        ambiguous: Repetitions of what may have been processed.
        maybe_billed: Whether the vendor may have processed an attempt that failed.
        retries_denied: Retries that the host's retry budget forbade.
        tell: Tells those who listen to it of an event; None where nobody does.
        endings: Who is to know how it ended.
        handed: Whether its caller has its stream, which ends the call when it is dropped.
        streams: Streams made of its answers that nobody dropped before; None where none was made.
        trying: Whether those who listen heard of an attempt, and of no end of it yet.
    """

    __slots__ = (
        *(
            "__weakref__",
            "_process",
            "_reason",
            "_socket",
            "_waker",
            "ambiguous",
            "attempts",
            "causes",
            "entered",
        ),
        *("clock", "end", "endings", "limited", "maybe_billed", "model", "number", "pooled"),
        *("handed", "provider", "retries_denied", "started", "streams", "tell", "trying"),
    )

    def __init__(
        self,
        timeout: float,
        clock: Clock,
        provider: str | None = None,
        model: str | None = None,
        started: float | None = None,
        process: int | None = None,
    ) -> None:
        self.number = next(_numbers)
        self.clock = clock
        self.provider = provider
        self.model = model
        self.started = clock.monotonic() if started is None else started
        self.entered = self.started
        self.end = self.started + min(timeout, _LONGEST_WAIT)
        self.limited = False
        self.pooled = True
        self.attempts = 0
        self.causes: tuple[str, ...] = ()
        self.ambiguous = 0
        self.maybe_billed = False
        self.retries_denied = 0
        self.tell: Audience | None = None
        self.endings: tuple[Callable[[Any], None], ...] = ()
        self.handed = self.trying = False
        self.streams: int | None = None
        self._process = os.getpid() if process is None else process
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

    def forbid(self, reason: type[TermaiHttpError]) -> None:
        """Let the call begin nothing more; what it does now goes on until ``interrupt``."""
        if self._reason is None:
            self._reason = reason

    def interrupt(self, reason: type[TermaiHttpError]) -> None:
        """End the call from any thread: wake its wait, break its socket."""
        self.forbid(reason)
        waker = self._waker
        if waker is not None:
            waker.set()
        self._break_off()

    def tell_of(self, make: Callable[..., Any], **fields: Any) -> None:
        """Tell those who listen of an event, which is made only where somebody does.

        Args:
            make: The event's class.
            fields: Its fields, beside those that say whose it is.
        """
        if self.tell is not None:
            self.tell(make(**self.who(), **fields))

    def who(self) -> dict[str, Any]:
        """Return the fields of an event that say whose it is."""
        return {"call_id": self.number, "provider": self.provider, "model": self.model}

    def orphan(self) -> None:
        """End the call in a forked child, whose copy of the socket is the parent's to use.

        Those who listen hear of its end in the parent, and of nothing of it here.
        """
        self._socket = self.tell = None
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
        # A forked child has a copy, and its parent goes on with the connection.
        if sock is not None and self._process == os.getpid():
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown: it drops the TLS layer under the reading thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def begin_attempt(self, *, fresh: bool, pooled: bool, limits: AttemptLimits) -> Attempt:
        """Begin the next attempt and count it."""
        self.attempts += 1
        return Attempt(self, fresh=fresh, pooled=pooled, limits=limits)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AttemptLimits(Value):
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
        where: Host and port that it goes to.
    """

    __slots__ = (
        *("__weakref__", "call", "fresh", "limits", "phase", "pooled", "received", "reused"),
        *("sent", "spoiled", "until", "where"),
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
        self.where: tuple[str, int | None] = ("", None)

    def closed_event(self) -> Any:
        """Return the event that its connection is closed."""
        host, port = self.where
        return events.ConnectionClosed(host=host, port=port, reason="discarded", **self.call.who())

    def note_closed(self) -> None:
        """Let that be told at the next safe moment; may be called at any instant."""
        if self.call.tell is not None:
            self.call.tell.leave_note(self.closed_event())

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
        call = self.call
        if call._reason is not None:
            raise ConnectionAbortedError("the call was interrupted")
        left = self.until - call.clock.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        return left

    def connect_budget(self) -> float:
        """Return the seconds that connecting may take; raises as ``budget``."""
        return min(self.limits.connect_timeout, self.budget())

    def read_budget(self, waited: float = 0.0) -> float:
        """Return the seconds that the next read may take; raises as ``budget``.

        Args:
            waited: Seconds that were waited for it already.
        """
        left = self.budget()
        limit = self.limits.read_timeout
        return left if limit is None else min(limit - waited, left)


class Bond(Protocol):
    """What ties a thread to the attempt that it is sending."""

    attempt: Attempt | None
    over: bool


class _Active(threading.local):
    """What this thread is sending; nothing inside a raw use of the session.

    Requests and urllib3 pass no context through, and a patched layer between must not matter. Held
    weakly: where an interrupt tears away the one who was to undo it, nothing stays bound.
    """

    _bond: weakref.ref[Bond] | None = None

    def bond(self) -> Any:
        """Return what binds this thread, None where nothing does any more."""
        bond = self._bond() if self._bond is not None else None
        return None if bond is None or bond.over else bond

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that this thread is sending."""
        bond = self._bond() if self._bond is not None else None
        return None if bond is None or bond.over else bond.attempt

    def bind(self, bond: Bond | None) -> weakref.ref[Bond] | None:
        """Bind this thread, with None to nothing; returns what ``restore`` takes."""
        outer, self._bond = self._bond, None if bond is None else weakref.ref(bond)
        return outer

    def restore(self, outer: weakref.ref[Bond] | None) -> None:
        """Undo ``bind``."""
        self._bond = outer


active = _Active()
