"""What happens in a call, as frozen records, and the listeners that hear of it.

An event is built only while somebody listens. A listener can never break a call: what it raises
is logged, once a listener.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from ._importing import importing
from ._log import log

if TYPE_CHECKING:
    from ._events import (
        AttemptFailed,
        AttemptStarted,
        AttemptSucceeded,
        CacheAnswered,
        CacheMissed,
        CallFailed,
        CallStarted,
        CallSucceeded,
        CircuitChanged,
        ConnectionClosed,
        ConnectionOpened,
        ConnectionReused,
        Event,
        FirstToken,
        Listener,
        PacingWaited,
        RetryScheduled,
        SlotWaited,
    )

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "AttemptSucceeded",
    "Audience",
    "CacheAnswered",
    "CacheMissed",
    "CallFailed",
    "CallStarted",
    "CallSucceeded",
    "CircuitChanged",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionReused",
    "Event",
    "FirstToken",
    "Listener",
    "Listeners",
    "PacingWaited",
    "RetryScheduled",
    "SlotWaited",
]

_INFO = 20  # of logging, by whose name nothing else is needed here


def __getattr__(name: str) -> Any:
    # Most programs have no listener, and so need none of the events' classes.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with importing():
        from . import _events
    value = globals()[name] = getattr(_events, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def check_listener(listener: Any, name: str = "listener") -> None:
    """Refuse what cannot be one; a listener may say so itself, by a method ``check_listening``.

    Args:
        listener: What shall hear events.
        name: What it is called where it was given.

    Raises:
        ConfigurationError: It cannot.
    """
    # A class that was not called: each event would make an instance, or fail to.
    unmade = isinstance(listener, type) and any("__call__" in vars(x) for x in listener.__mro__)
    if not callable(listener) or unmade:
        with importing():
            from .errors import ConfigurationError
        given = f"the class {listener.__name__}; write {listener.__name__}()" if unmade else None
        raise ConfigurationError(
            f"{name} must be a function of one event, not {given or type(listener).__name__}."
        )
    check = getattr(listener, "check_listening", None)
    if check is not None:
        check()


class Listeners:
    """Those who listen to one client. Safe for use from any thread.

    Attributes:
        everybody: All of them, in the order in which they came.
        ears: Those of the client's own layers; they hear what is no call's, too.
        lines: Whether the log took lines of calls when the last one began.
    """

    _made: ClassVar[dict[int, weakref.ref[Listeners]]] = {}
    _of_all: ClassVar[tuple[Listener, ...]] = ()

    def __init__(self) -> None:
        self.renew_lock()
        self.everybody: tuple[Listener, ...] = ()
        self.ears: tuple[Listener, ...] = ()
        self.lines = False
        self._failed: set[int] = set()
        # First here and then the look at those who hear all; ``hear_all`` does both in the other
        # order, so neither misses the other, without a lock.
        number, made = id(self), Listeners._made
        made[number] = weakref.ref(self, lambda ref: made.pop(number, None))
        for listener in Listeners._of_all:
            self._add_once(listener)

    @staticmethod
    def hear_all(listener: Listener) -> None:
        """Let ``listener`` hear every event of every client, of later ones too."""
        Listeners._of_all = (*Listeners._of_all, listener)
        for ref in list(Listeners._made.values()):
            listeners = ref()
            if listeners is not None:
                listeners._add_once(listener)

    def _add_once(self, listener: Listener) -> None:
        with self._lock:
            if listener not in self.everybody:
                self.everybody = (*self.everybody, listener)

    def renew_lock(self) -> None:
        """Take a new lock; a forked child does, and keeps its listeners."""
        self._lock = threading.Lock()
        self._notes: deque[tuple[Audience | None, Event]] = deque()

    def locks(self) -> list[threading.Lock]:
        """Return the locks that a fork must not catch in other hands."""
        return [self._lock]

    def add(self, listener: Listener) -> None:
        """Let ``listener`` hear every event from now on."""
        check_listener(listener)
        with self._lock:
            self.everybody = (*self.everybody, listener)

    def remove(self, listener: Listener) -> None:
        """Undo one ``add``; nothing happens where there was none."""
        with self._lock:
            self._failed.discard(id(listener))
            left = list(self.everybody)
            for number, one in enumerate(left):
                # Of two equal ones each may have calls that it heard the begin of.
                if one is listener:
                    del left[number]
                    break
            self.everybody = tuple(left)

    @contextlib.contextmanager
    def hearing(self, listener: Listener) -> Iterator[None]:
        """Let ``listener`` hear every event inside a ``with`` block."""
        self.add(listener)
        try:
            yield
        finally:
            self.remove(listener)

    def audience(self, more: tuple[Listener, ...] = ()) -> Audience | None:
        """Return those who hear the events of one call, with ``more`` of its own; None for none.

        Who comes while the call runs hears nothing of it: no end without its begin. The log is one
        of them, where its level lets a line of a call through.
        """
        everybody = self.everybody
        self.lines = log.isEnabledFor(_INFO)
        if self.lines:
            more = (*more, _line_writer())
        return Audience(self, everybody, more) if everybody or more else None

    def emit(self, event: Event) -> None:
        """Hand an event that is no call's to every listener, with no lock held."""
        audience = self.audience(self.ears)
        if audience is not None:
            audience(event)

    def leave_note(self, event: Event, audience: Audience | None = None) -> None:
        """Let an event be told at the next ``deliver``; safe at any instant, in any thread.

        Args:
            event: The event.
            audience: Whose call it is; None for everybody.
        """
        self._notes.append((audience, event))

    def deliver(self) -> None:
        """Tell what notes were left of, with no lock held."""
        while self._notes:
            try:
                audience, event = self._notes.popleft()
            except IndexError:
                return
            (audience or self.emit)(event)

    def note_failure(self, listener: Listener) -> None:
        """Log that a listener of the client failed, once a listener."""
        if id(listener) not in self._failed:
            self._failed.add(id(listener))
            log_failure()


class Audience:
    """Those who hear the events of one call. Calling it tells them, in the calling thread."""

    __slots__ = ("_home", "_known", "_own", "_own_failed")

    def __init__(
        self, home: Listeners, known: tuple[Listener, ...], own: tuple[Listener, ...]
    ) -> None:
        self._home = home
        self._known = known
        self._own = own
        self._own_failed: tuple[int, ...] = ()

    def __call__(self, event: Event) -> None:
        """Hand ``event`` to everybody; what one raises is logged once, and breaks nothing."""
        still = self._home.everybody
        torn: BaseException | None = None
        for listener in self._known:
            if still is not self._known and listener not in still:
                continue
            try:
                listener(event)
            except Exception:
                self._home.note_failure(listener)
            except BaseException as error:
                # A Ctrl-C, which ends the call once everybody heard the event.
                torn = error
        for listener in self._own:
            try:
                listener(event)
            except Exception:
                if id(listener) not in self._own_failed:
                    self._own_failed += (id(listener),)
                    log_failure()
            except BaseException as error:
                torn = error
        if torn is not None:
            try:
                raise torn
            finally:
                # Its traceback has this frame.
                torn = None

    def leave_note(self, event: Event) -> None:
        """Let ``event`` be told at the next safe moment; safe at any instant, in any thread."""
        self._home.leave_note(event, self)


@functools.cache
def _line_writer() -> Listener:
    with importing():
        from ._log_events import tell
    return tell


def log_failure() -> None:
    """Log what a listener just raised."""
    log.exception("A listener failed; its later failures are not logged")
