"""The slots of a client, and the figures of its connections, under one short lock."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import attrs

from . import events
from ._call import Clock, Waker
from ._lease import Lease, close_conn
from ._values import Value
from .errors import DeadlineExceeded, PoolTimeout

__all__ = ["PoolFigures", "Slots"]

_LONGEST_NAP = 1.0


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PoolFigures(Value):
    """The connections of a client at one moment."""

    active: int
    idle: int
    opened: int
    reused: int
    evicted: int
    discarded: int
    waiting: int


def _end_overdue(lease: Lease) -> None:
    """End a call that is past its deadline, in a thread that is not its own."""
    assert lease.attempt is not None
    # Its thread may be reading: then the connection is broken here, and closed there.
    lease.attempt.call.interrupt(DeadlineExceeded)
    if reader := lease.reader():
        reader.close_unless_reading()


class _Waiter:
    """One lease in the queue for a slot."""

    __slots__ = ("lease", "waker")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.waker = Waker()


class Slots:
    """Hands out at most ``limit`` slots, in the order of asking.

    Args:
        limit: Connections in use at once.
        patience: Seconds that a raw use of the session waits at most; a call waits until its
            deadline.
        clock: Time.

    Attributes:
        lock: Guards the state here and the idle connections of the pools.
        held: The leases that hold a slot, by number.
        out: The connections of calls, by their lease's number.
        stores: The idle connections of each pool, which count as ``idle``.
    """

    def __init__(self, limit: int, patience: float, clock: Clock) -> None:
        self._limit = limit
        self._patience = patience
        self._clock = clock
        self._notes: deque[tuple[int, bool]] = deque()
        self._evictions: deque[int] = deque()
        self._reuses: deque[int] = deque()
        self._orphans: deque[tuple[Any, Lease]] = deque()
        self.stores: list[Any] = []
        self.out: dict[int, Any] = {}
        self.start_over()

    def start_over(self) -> None:
        """Begin with nothing and a new lock, in a forked child too, where the old one may be held.

        The leases of before stay harmless: none of their numbers is held.
        """
        self.lock = threading.Lock()
        self.held: dict[int, Lease] = {}
        self._orphans.clear()
        self._next_search = 0.0
        while self.out:
            self.out.popitem()[1].disown()
        while self.stores:
            self.stores.pop().abandon()
        self._queue: deque[_Waiter] = deque()
        self._notes.clear()
        self._evictions.clear()
        self._reuses.clear()
        self._opened = self._reused = self._evicted = self._discarded = 0

    def acquire(self, lease: Lease, idle: deque[Any] | None = None) -> Any:
        """Take a slot, waiting for one within the call's deadline.

        Args:
            lease: Who takes it.
            idle: Of these connections the last is taken out in the same step, if there is one.

        Returns:
            That, or None.

        Raises:
            PoolTimeout: None became free in time.
        """
        with self.lock:
            self._read_notes()
            if len(self.held) < self._limit and not self._queue:
                self.held[lease.number] = lease
                return self._hand_out(lease, idle) if idle else None
            waiter = _Waiter(lease)
            self._queue.append(waiter)
        self._search()
        started, got = self._clock.monotonic(), False
        try:
            self._wait(waiter)
            got = True
        finally:
            if lease.attempt is not None and lease.attempt.call.tell is not None:
                seconds = self._clock.monotonic() - started
                lease.attempt.call.tell_of(events.SlotWaited, seconds=seconds, got=got)
        return None if idle is None else self.hand_out(lease, idle)

    def hand_out(self, lease: Lease, idle: deque[Any]) -> Any:
        """Hand out the last idle connection to who has a slot, None where there is none."""
        with self.lock:
            # Past the deadline it may have been taken back.
            return self._hand_out(lease, idle) if idle and lease.number in self.held else None

    def replace(self, lease: Lease, idle: deque[Any]) -> Any:
        """Count what was handed out as evicted, and hand out another, None where there is none."""
        with self.lock:
            # Whoever ends the lease does not tell a second time that it was closed.
            lease.connected = False
            if lease.number not in self.held:
                # Taken back meanwhile, past the deadline or in a fork, and counted then.
                return None
            self._evicted += 1
            return self._hand_out(lease, idle) if idle else None

    def _hand_out(self, lease: Lease, idle: deque[Any]) -> Any:
        # It is the lease's before it is no more idle: an interrupt, or a fork in another thread,
        # finds it in one place at least.
        conn = idle[-1][0]
        if lease.attempt is not None:
            self.out[lease.number] = conn
        conn.lease, lease.connected = lease, True
        idle.pop()
        return conn

    def _wait(self, waiter: _Waiter) -> None:
        lease, attempt = waiter.lease, waiter.lease.attempt
        started = self._clock.monotonic()
        end = started + self._patience if attempt is None else attempt.call.end
        try:
            while not lease.held:
                left = end - self._clock.monotonic()
                if left <= 0 or (attempt is not None and attempt.call.interrupted):
                    break
                # A nap at a time: an interrupt may tear away the thread that was to wake us.
                self._nap(waiter, min(left, _LONGEST_NAP))
                waiter.waker = Waker()
                self._search()
        except BaseException:
            self._leave_queue(waiter)
            self.release(lease, discarded=False)
            raise
        self._leave_queue(waiter)
        if attempt is not None and attempt.call.interrupted is not None:
            self.release(lease, discarded=False)
            raise attempt.call.interrupted("The call was ended while it waited for a slot.")
        if not lease.held:
            raise self._timeout(self._clock.monotonic() - started)

    def _nap(self, waiter: _Waiter, seconds: float) -> None:
        attempt = waiter.lease.attempt
        if attempt is None:
            self._clock.wait(waiter.waker, seconds)
        else:
            attempt.call.wait_on(waiter.waker, seconds)

    def _timeout(self, waited: float) -> PoolTimeout:
        figures = self.figures()
        return PoolTimeout(
            f"No slot became free in {waited:.2f} s: {figures.active} connections in use "
            f"of at most {self._limit}, {figures.waiting} more calls waiting.",
            phase="slot",
        )

    def _leave_queue(self, waiter: _Waiter) -> None:
        with self.lock:
            if waiter in self._queue:
                self._queue.remove(waiter)
            # After leaving: a note that comes now wakes whoever is first then.
            self._read_notes()

    def release(self, lease: Lease, *, discarded: bool) -> None:
        """Give a slot back, to the first in the queue where there is one; once a lease."""
        with self.lock:
            self._take_back(lease.number, discarded)
            self._read_notes()

    def store(self, conn: Any, idle: deque[Any], now: float, lease: Lease) -> None:
        """Give a slot back together with its connection, which becomes the newest idle one.

        Where the slot was taken back already, past the deadline, the connection is not kept.
        """
        with self.lock:
            if lease.number not in self.held:
                return
            # Before it is: from then on it may be in another call's hands at any moment.
            lease.kept = True
            idle.append((conn, now))
            self.out.pop(lease.number, None)
            self.held.pop(lease.number, None)
            if self._queue or self._notes:
                self._read_notes()

    def _take_back(self, number: int, discarded: bool) -> None:
        if number in self.held:
            self._discarded += discarded
            self.held.pop(number, None)

    def leave_note(self, lease: Lease) -> None:
        """Let the next who looks take the slot back; safe at any instant, in any thread."""
        self._notes.append((lease.number, lease.connected))
        try:
            self._queue[0].waker.set()
        except IndexError:
            return

    def leave_evictions(self, number: int) -> None:
        """Let the next who looks count idle connections that are closed; needs no lock."""
        self._evictions.append(number)

    def _read_notes(self) -> None:
        while self._notes:
            # Read before it goes, and harmless when it is read again.
            self._take_back(*self._notes[0])
            self._notes.popleft()
        while self._evictions:
            self._evicted += self._evictions.popleft()
        while self._reuses:
            self._reused += self._reuses.popleft()
        while self._queue and len(self.held) < self._limit:
            # Held before it leaves the queue: torn away in between, it is found by its nap.
            waiter = self._queue[0]
            self.held[waiter.lease.number] = waiter.lease
            if waiter.lease.over:
                # Its thread was torn away before it could leave the queue.
                self.held.pop(waiter.lease.number, None)
            waiter.waker.set()
            self._queue.popleft()

    def _search(self, *, at_once: bool = False) -> float | None:
        """Take back what nobody holds, or holds past its deadline and does not read.

        Only now and then, as each search looks at every lease.

        Returns:
            The seconds until the deadline of a body that is read piece by piece, at the earliest.
        """
        overdue: list[Lease] = []
        due: float | None = None
        with self.lock:
            now = self._clock.monotonic()
            if at_once or now >= self._next_search:
                self._next_search = now + _LONGEST_NAP
                for number, lease in list(self.held.items()):
                    left = lease.left()
                    if lease.holder() is None:
                        self._orphans.append((self.out.pop(number, None), lease))
                    elif left is not None and left <= 0:
                        overdue.append(lease)
                    else:
                        if left is not None and lease.reader() is not None:
                            due = left if due is None else min(due, left)
                        continue
                    self._take_back(number, lease.connected)
            self._read_notes()
        for lease in overdue:
            _end_overdue(lease)
        while self._orphans:
            conn, lease = self._orphans.popleft()
            if conn is not None:
                close_conn(conn, lease)
        return due

    def sweep_overdue(self) -> float | None:
        """Take back what nobody holds or reads in time; returns as the search for it does."""
        return self._search(at_once=True)

    def count_opened(self, lease: Lease) -> None:
        """Count a connection that was opened for a lease."""
        with self.lock:
            self._opened += 1
            lease.connected = True

    def count_reused(self) -> None:
        """Count an idle connection that was taken; needs no lock."""
        self._reuses.append(1)

    def figures(self) -> PoolFigures:
        """Return a consistent snapshot."""
        self._search(at_once=True)
        with self.lock:
            self._read_notes()
            return PoolFigures(
                active=len(self.held),
                idle=sum(len(store) for store in self.stores),
                opened=self._opened,
                reused=self._reused,
                evicted=self._evicted,
                discarded=self._discarded,
                waiting=len(self._queue),
            )
