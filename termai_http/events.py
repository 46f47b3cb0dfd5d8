"""What happens in a call, as frozen records, and the listeners that hear of it.

An event is built only while somebody listens. A listener can never break a call: what it raises
is logged, once a listener.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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

    def __init__(self) -> None:
        self.renew_lock()
        self.everybody: tuple[Listener, ...] = ()
        self._failed: set[int] = set()

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
