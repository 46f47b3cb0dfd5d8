"""What happens in a call, as frozen records, and the listeners that hear of it.

An event is built only while somebody listens. A listener can never break a call: what it raises
is logged, once a listener.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

import attrs

from ._log import log

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "AttemptSucceeded",
    "CallFailed",
    "CallStarted",
    "CallSucceeded",
    "Event",
    "Listener",
    "Listeners",
    "RetryScheduled",
]


@attrs.frozen(kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        call_id: Number of the call within this process, the same in all its events.
        provider: ``"openai"``, ``"claude"``, or None for a request of ``RequestHandler``.
        model: The model asked for, None where unknown.
    """

    call_id: int
    provider: str | None
    model: str | None


@attrs.frozen(kw_only=True)
class CallStarted(Event):
    """A call entered."""


@attrs.frozen(kw_only=True)
class CallSucceeded(Event):
    """A call has its reply. ``elapsed`` in seconds."""

    status_code: int
    request_id: str | None
    attempts: int
    elapsed: float


@attrs.frozen(kw_only=True)
class CallFailed(Event):
    """A call ends with an error, whose class is named in ``error``. ``elapsed`` in seconds."""

    error: str
    status_code: int | None
    request_id: str | None
    attempts: int
    elapsed: float


@attrs.frozen(kw_only=True)
class AttemptStarted(Event):
    """An HTTP exchange begins; ``attempt`` counts from 1."""

    attempt: int


@attrs.frozen(kw_only=True)
class AttemptSucceeded(Event):
    """An HTTP exchange brought a success."""

    attempt: int
    status_code: int
    reused: bool


@attrs.frozen(kw_only=True)
class AttemptFailed(Event):
    """An HTTP exchange failed; ``cause`` is the word the metrics count it under."""

    attempt: int
    cause: str
    status_code: int | None
    request_id: str | None


@attrs.frozen(kw_only=True)
class RetryScheduled(Event):
    """Another attempt follows after ``wait`` seconds; ``attempt`` is the one that failed."""

    attempt: int
    cause: str
    wait: float
    status_code: int | None
    request_id: str | None


Listener: TypeAlias = Callable[[Event], object]


class Listeners:
    """Those who listen to one client. Safe for use from any thread."""

    def __init__(self) -> None:
        self.renew_lock()
        self._all: tuple[Listener, ...] = ()
        self._failed: set[int] = set()

    def renew_lock(self) -> None:
        """Take a new lock; a forked child does, and keeps its listeners."""
        self._lock = threading.Lock()

    def locks(self) -> list[threading.Lock]:
        """Return the locks that a fork must not catch in other hands."""
        return [self._lock]

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, listener: Listener) -> None:
        """Let ``listener`` hear every event from now on."""
        with self._lock:
            self._all = (*self._all, listener)

    def remove(self, listener: Listener) -> None:
        """Undo one ``add``; nothing happens where there was none."""
        with self._lock:
            self._failed.discard(id(listener))
            left = list(self._all)
            with contextlib.suppress(ValueError):
                left.remove(listener)
            self._all = tuple(left)

    @contextlib.contextmanager
    def hearing(self, listener: Listener) -> Iterator[None]:
        """Let ``listener`` hear every event inside a ``with`` block."""
        self.add(listener)
        try:
            yield
        finally:
            self.remove(listener)

    def emit(self, event: Event) -> None:
        """Hand ``event`` to every listener, in the calling thread, with no lock held."""
        for listener in self._all:
            try:
                listener(event)
            except Exception:
                if id(listener) not in self._failed:
                    self._failed.add(id(listener))
                    log.exception("A listener failed; its later failures are not logged")
