"""The slots of a client, and the figures of its connections, under one short lock."""

from __future__ import annotations

import threading
from collections import deque

import attrs

from ._call import Attempt, Clock
from .errors import PoolTimeout

__all__ = ["Lease", "PoolFigures", "Slots"]


@attrs.frozen(kw_only=True)
class PoolFigures:
    """The connections of a client at one moment."""

    active: int
    idle: int
    opened: int
    reused: int
    evicted: int
    discarded: int
    waiting: int


class _Waiter:
    """One call in the queue for a slot."""

    __slots__ = ("granted", "woken")

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.granted = False


class Lease:
    """One slot in use: the right to have one connection out of the pool.

    Attributes:
        slots: Where it came from.
        pooled: Whether its connection may go back into the pool.
        connected: Whether it got an open connection.
    """

    __slots__ = ("_open", "connected", "pooled", "slots")

    def __init__(self, slots: Slots, *, pooled: bool) -> None:
        self.slots = slots
        self._open = True
        self.pooled = pooled
        self.connected = False

    def end(self, *, kept: bool) -> None:
        """Give the slot back; ``kept`` where the connection went back into the pool."""
        if self._open:
            self._open = False
            self.slots.release(discarded=self.connected and not kept)

    def __del__(self) -> None:
        # The collector may run this in a thread that holds the lock: only leave a note.
        if self._open:
            self.slots.lost.append(self.connected)


class Slots:
    """Hands out at most ``limit`` leases, in the order of asking.

    Args:
        limit: Connections in use at once.
        patience: Seconds that a raw use of the session waits at most; a call waits until its
            deadline.
        clock: Time.
    """

    def __init__(self, limit: int, patience: float, clock: Clock) -> None:
        self.lock = threading.Lock()
        self.lost: deque[bool] = deque()
        self.abandoned: deque[int] = deque()
        self._limit = limit
        self._patience = patience
        self._clock = clock
        self._queue: deque[_Waiter] = deque()
        self._in_use = 0
        self._opened = self._reused = self._evicted = self._discarded = 0
        self.idle = 0

    def acquire(self, attempt: Attempt | None) -> Lease:
        """Take a slot, waiting for one within the call's deadline.

        Raises:
            PoolTimeout: None became free in time.
        """
        with self.lock:
            self._take_back_lost()
            waiter = None
            if self._in_use < self._limit and not self._queue:
                self._in_use += 1
            else:
                waiter = _Waiter()
                self._queue.append(waiter)
        if waiter is not None:
            self._wait(waiter, attempt)
        return Lease(self, pooled=attempt is None or attempt.pooled)

    def _wait(self, waiter: _Waiter, attempt: Attempt | None) -> None:
        started = self._clock.monotonic()
        try:
            if attempt is None:
                self._clock.wait(waiter.woken, self._patience)
            else:
                attempt.call.wait_on(waiter.woken, max(attempt.call.left(), 0.0))
        except BaseException:
            self._leave_queue(waiter)
            raise
        if attempt is not None and attempt.call.interrupted is not None:
            self._leave_queue(waiter)
            raise attempt.call.interrupted("The call was ended while it waited for a slot.")
        if not waiter.granted and not self._left_granted(waiter):
            waited = self._clock.monotonic() - started
            figures = self.figures()
            raise PoolTimeout(
                f"No slot became free in {waited:.2f} s: {figures.active} connections in use "
                f"of at most {self._limit}, {figures.waiting} more calls waiting.",
                phase="slot",
            )

    def _left_granted(self, waiter: _Waiter) -> bool:
        """Leave the queue; True where the slot was granted at the last moment."""
        with self.lock:
            if waiter.granted:
                return True
            self._queue.remove(waiter)
            return False

    def _leave_queue(self, waiter: _Waiter) -> None:
        if self._left_granted(waiter):
            self.release(discarded=False)

    def release(self, *, discarded: bool) -> None:
        """Give a slot back, to the first in the queue where there is one."""
        with self.lock:
            self._take_back_lost()
            self._release(discarded)

    def _release(self, discarded: bool) -> None:
        self._discarded += discarded
        if self._queue:
            waiter = self._queue.popleft()
            waiter.granted = True
            waiter.woken.set()
        else:
            self._in_use -= 1

    def _take_back_lost(self) -> None:
        while self.lost:
            self._release(self.lost.popleft())
        while self.abandoned:
            number = self.abandoned.popleft()
            self.idle -= number
            self._evicted += number

    def count_opened(self) -> None:
        """Count a connection that was opened."""
        with self.lock:
            self._opened += 1

    def count_reused(self) -> None:
        """Count an idle connection that was taken."""
        with self.lock:
            self._reused += 1

    def count_evicted(self, number: int) -> None:
        """Count connections that were closed while idle."""
        with self.lock:
            self._evicted += number

    def figures(self) -> PoolFigures:
        """Return a consistent snapshot."""
        with self.lock:
            self._take_back_lost()
            return PoolFigures(
                active=self._in_use,
                idle=self.idle,
                opened=self._opened,
                reused=self._reused,
                evicted=self._evicted,
                discarded=self._discarded,
                waiting=len(self._queue),
            )
