"""Connections to this machine, opened few at a time, so that a burst does not hold up all of it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from ._call import Clock, Waker
from ._lease import Lease

__all__ = ["Openings"]

_AT_ONCE = 4
_STALL = 1.0
_PATIENCE = 3.0


class Openings:
    """The openings of one pool that are under way. Safe from any thread, without a lock.

    Where a thousand threads begin at once, each would get a thousandth of the processor: all of
    their connections would be open at the end of the burst, and all answers come at once. In turn,
    most are open long before, and what is given back meanwhile serves who still waits.

    That is so where an opening takes nothing but the processor: to a gateway on loopback, its TLS
    included. It is a courtesy, and no promise: who sees nothing move for a second goes on, and so
    does who waited for three.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._under_way: dict[int, Lease] = {}
        self._waiting: deque[Waker] = deque()
        self._moved = 0.0

    def await_turn(self, lease: Lease, take_idle: Callable[[], Any]) -> Any:
        """Wait until one more may be opened, or until an idle connection is there.

        Args:
            lease: What it would be opened for, with an attempt.
            take_idle: Takes an idle connection, None where there is none.

        Returns:
            The idle connection; None where one may be opened, which ``end`` has to end.
        """
        assert lease.attempt is not None
        call = lease.attempt.call
        now = self._clock.monotonic
        begun = now()
        end = min(begun + _PATIENCE, call.end)
        while self._full() and call.interrupted is None:
            left = min(end, max(self._moved, begun) + _STALL) - now()
            if left <= 0:
                break
            if (conn := self._wait(lease, left, take_idle)) is not None:
                # Perhaps it was woken for a turn, which is another's then.
                self.wake()
                return conn
        self._under_way[lease.number] = lease
        return None

    def _wait(self, lease: Lease, seconds: float, take_idle: Callable[[], Any]) -> Any:
        assert lease.attempt is not None
        waker = Waker()
        self._waiting.append(waker)
        try:
            # What came before it stood in the queue woke nobody.
            conn = take_idle()
            if conn is None and self._full():
                lease.attempt.call.wait_on(waker, seconds)
                conn = take_idle()
            return conn
        finally:
            # Who woke it took it out.
            with contextlib.suppress(ValueError):
                self._waiting.remove(waker)

    def _full(self) -> bool:
        if len(self._under_way) < _AT_ONCE:
            return False
        for number, lease in list(self._under_way.items()):
            # Torn away before it could end.
            if not lease.held:
                self._under_way.pop(number, None)
        return len(self._under_way) >= _AT_ONCE

    def end(self, lease: Lease) -> None:
        """Let the next begin: this opening is over."""
        if self._under_way.pop(lease.number, None) is not None:
            self.wake()

    def wake(self) -> None:
        """Wake who waits first: a turn, or an idle connection, can be had."""
        try:
            waker = self._waiting.popleft()
        except IndexError:
            return
        self._moved = self._clock.monotonic()
        waker.set()
