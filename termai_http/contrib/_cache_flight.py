"""Equal calls at the same time: the first one is made, the others wait for its reply."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .._call import Waker
from ._cache_stream import ended

if TYPE_CHECKING:
    from .._call import Call
    from ..errors import TermaiHttpError
    from ._cache_entry import Entry

__all__ = ["Flight", "Flights"]

# Above it, calls are made without a look at each other.
_MOST = 10_000
# Where an interrupt tore the leader away before it could say so, this late it is noticed.
_LONGEST_NAP = 0.5


class Flight:
    """One call that others wait for.

    Attributes:
        entry: Its reply; None where it has none to share, or not yet.
        kept: Whether the reply was in the store before.
        over: Whether nobody has to wait any more.
    """

    __slots__ = ("entry", "kept", "over", "thread", "wakers")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.kept = False
        self.over = False
        self.thread = threading.get_ident()
        self.wakers: list[Waker] = []


class Flights:
    """The calls that are under way, by key. Without a lock: each step is one step of a dict.

    Leader and followers each write their own fact first and read the other's then, so neither
    misses both; ``leave`` may be called by a finalizer.
    """

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def enter(self, key: str, flight: Flight) -> Flight:
        """Return the flight that leads, which is ``flight`` where none was under way."""
        if len(self._flights) >= _MOST:
            return flight
        return self._flights.setdefault(key, flight)

    def leave(self, key: str, flight: Flight) -> None:
        """Let nobody wait for a flight any more; nothing happens a second time."""
        flight.over = True
        if self._flights.get(key) is flight:
            self._flights.pop(key, None)
        for waker in tuple(flight.wakers):
            waker.set()

    def follow(self, key: str, flight: Flight, call: Call) -> TermaiHttpError | None:
        """Wait for the end of a flight.

        Returns:
            None where it ended, or the error that ended the waiting call.
        """
        if flight.thread == threading.get_ident():
            # A listener that asks the same again would wait for itself.
            return None
        waker = Waker()
        flight.wakers.append(waker)
        while True:
            if flight.over or self._flights.get(key) is not flight:
                return None
            call.wait_on(waker, min(max(call.left(), 0.0), _LONGEST_NAP))
            if (early := ended(call, _WHERE, "wait")) is not None:
                return early


_WHERE = "while an equal call was under way, whose reply it would have shared"
