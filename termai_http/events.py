"""What happens in a call, as frozen records, and the listeners that hear of it.

An event is built only while somebody listens. A listener can never break a call: what it raises
is logged, once a listener.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from ._importing import importing
from ._log import log

if TYPE_CHECKING:
    from ._events import (
        AttemptFailed,
        AttemptStarted,
        AttemptSucceeded,
        CallFailed,
        CallStarted,
        CallSucceeded,
        Event,
        Listener,
        RetryScheduled,
    )

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


class Listeners:
    """Those who listen to one client. Safe for use from any thread.

    Attributes:
        everybody: All of them, in the order in which they came.
    """

    _made: ClassVar[dict[int, weakref.ref[Listeners]]] = {}
    _of_all: ClassVar[tuple[Listener, ...]] = ()

    def __init__(self) -> None:
        self.renew_lock()
        self.everybody: tuple[Listener, ...] = ()
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

    def locks(self) -> list[threading.Lock]:
        """Return the locks that a fork must not catch in other hands."""
        return [self._lock]

    def add(self, listener: Listener) -> None:
        """Let ``listener`` hear every event from now on."""
        with self._lock:
            self.everybody = (*self.everybody, listener)

    def remove(self, listener: Listener) -> None:
        """Undo one ``add``; nothing happens where there was none."""
        with self._lock:
            self._failed.discard(id(listener))
            left = list(self.everybody)
            with contextlib.suppress(ValueError):
                left.remove(listener)
            self.everybody = tuple(left)

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
        for listener in self.everybody:
            try:
                listener(event)
            except Exception:
                if id(listener) not in self._failed:
                    self._failed.add(id(listener))
                    log.exception("A listener failed; its later failures are not logged")
