"""The idle connections of one pool: the newest is lent first, and none when it is too old."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from urllib3.connectionpool import HTTPConnection  # type: ignore[attr-defined]

from ._call import Clock
from ._lease import Lease
from ._slots import Slots
from ._socket import has_come
from ._values import Value

__all__ = ["IdleConnections", "PoolRules"]

_SURPLUS_GRACE = 5.0


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PoolRules(Value):
    """What a pool holds to, in seconds and numbers.

    Attributes:
        idle_timeout: Idle connections older than this are closed.
        max_idle: Those above this number are closed after a grace.
        on_idle: Called when a connection becomes idle.
        on_evicted: Called with each that was closed while it was idle, at any instant.
    """

    idle_timeout: float
    max_idle: int
    on_idle: Callable[[], None] = lambda: None
    on_evicted: Callable[[Any], None] = lambda conn: None


class IdleConnections:
    """The open connections of one pool that wait for a call; the newest is taken first."""

    def __init__(
        self, slots: Slots, rules: PoolRules, clock: Clock, on_idle: Callable[[], None]
    ) -> None:
        self._on_idle = on_idle
        self._slots = slots
        self._rules = rules
        self._clock = clock
        self._waiting: deque[tuple[HTTPConnection, float]] = deque()
        self._gone = False
        with slots.lock:
            slots.stores[:] = [store for store in slots.stores if not store._gone]
            slots.stores.append(self)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, conn: Any, lease: Lease | None) -> None:
        with self._slots.lock:
            since = self._clock.monotonic()
            # Before it is: from then on it may be in another call's hands at any moment.
            conn.given_back = True
            if lease is not None:
                lease.kept = True
            self._waiting.append((conn, since))

    def lend(self, lease: Lease) -> Any:
        """Take a slot and, in the same step, the newest idle one that the lease may have."""
        return self._slots.acquire(lease, self._waiting if _may_reuse(lease) else None)

    def hand_out(self, lease: Lease) -> Any:
        """Return the newest idle one that a lease with a slot may have, if there is any."""
        return self._slots.hand_out(lease, self._waiting) if _may_reuse(lease) else None

    def replace(self, conn: Any, lease: Lease) -> Any:
        """Close one that was lent and is of no use, and return the next one, if there is any."""
        conn.lease = None
        conn.close()
        self._rules.on_evicted(conn)
        return self._slots.replace(lease, self._waiting)

    def store(self, conn: HTTPConnection, lease: Lease) -> None:
        """Give a slot back and, in the same step, its connection."""
        self._slots.store(conn, self._waiting, self._clock.monotonic(), lease)

    def tell(self) -> None:
        """Let it be known that one became idle."""
        self._rules.on_idle()
        self._on_idle()

    def sweep(self) -> None:
        """Close those that are too old or too many."""
        try:
            idle_for = self._clock.monotonic() - self._waiting[0][1]
        except IndexError:
            return
        # Asked twice a call, and mostly there are none.
        if self._is_past(idle_for):
            self._close(self._remove_expired())

    def _is_past(self, idle_for: float) -> bool:
        """Tell of the one that idles for the longest, since it is the first to be of no use."""
        surplus = len(self._waiting) > self._rules.max_idle and idle_for >= _SURPLUS_GRACE
        return surplus or idle_for > self._rules.idle_timeout

    def sweep_dropped(self) -> None:
        """Close those that are too old or too many, and those that the server closed."""
        self.sweep()
        # Copied and looked at without the lock; one that was taken meanwhile is left alone.
        dropped = [item for item in list(self._waiting) if _is_dropped(item[0])]
        self._close(self._remove(dropped))

    def next_expiry(self) -> float | None:
        """Return the seconds until one is too old or too many; None where there is none."""
        with self._slots.lock:
            if not self._waiting:
                return None
            idle_for = self._clock.monotonic() - self._waiting[0][1]
            limit = self._rules.idle_timeout
            if len(self._waiting) > self._rules.max_idle:
                limit = min(limit, _SURPLUS_GRACE)
            return max(limit - idle_for, 0.0)

    def clear(self) -> None:
        """Close all."""
        with self._slots.lock:
            closing = [conn for conn, _ in self._waiting]
            self._waiting.clear()
            self._slots.leave_evictions(len(closing))
        self._close(closing)

    def abandon(self) -> None:
        """Close all, from a finalizer or in a forked child: the lock may be held."""
        closed = 0
        self._gone = True
        while self._waiting:
            conn = self._waiting.pop()[0]
            conn.close()
            self._rules.on_evicted(conn)
            closed += 1
        self._slots.leave_evictions(closed)

    def _remove_expired(self) -> list[HTTPConnection]:
        now = self._clock.monotonic()
        with self._slots.lock:
            expired = list(self._expired(now))
            self._slots.leave_evictions(len(expired))
        return expired

    def _expired(self, now: float) -> Iterator[HTTPConnection]:
        while self._waiting and self._is_past(now - self._waiting[0][1]):
            yield self._waiting.popleft()[0]

    def _remove(self, items: list[tuple[HTTPConnection, float]]) -> list[HTTPConnection]:
        removed = []
        if items:
            with self._slots.lock:
                for item in items:
                    if item in self._waiting:
                        self._waiting.remove(item)
                        removed.append(item[0])
                self._slots.leave_evictions(len(removed))
        return removed

    def _close(self, closing: list[HTTPConnection]) -> None:
        try:
            while closing:
                conn = closing.pop()
                conn.close()
                self._rules.on_evicted(conn)
        finally:
            # An interrupt must not leave the others to the collector.
            for conn in closing:
                conn.close()


def _may_reuse(lease: Lease) -> bool:
    """Tell whether a lease may have a connection that was used before; a raw use always may."""
    attempt = lease.attempt
    return attempt is None or (attempt.pooled and not attempt.fresh)


def _is_dropped(conn: HTTPConnection) -> bool:
    """Tell whether an idle connection was closed by its peer, also in another thread's hands."""
    sock = conn.sock
    try:
        return sock is None or has_come(sock)
    except (OSError, ValueError):
        # Taken and closed by its new user in between: no longer ours to close.
        return False
