"""The pools: idle connections kept while they are young, each lent with a lease."""

from __future__ import annotations

import functools
import queue
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from urllib3.connectionpool import (  # type: ignore[attr-defined]
    HTTPConnection,
    HTTPConnectionPool,
    HTTPSConnection,
    HTTPSConnectionPool,
)
from urllib3.exceptions import ClosedPoolError
from urllib3.util.connection import is_connection_dropped

from ._call import Clock, active
from ._connection import Connection, PlainConnection, TLSConnection
from ._lease import Lease, LeaseHolder
from ._openings import Openings
from ._slots import Slots
from ._socket import has_come
from ._target import is_loopback
from ._values import Value

__all__ = ["HTTPPool", "HTTPSPool", "PoolRules", "pool_classes"]

_SURPLUS_GRACE = 5.0


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PoolRules(Value):
    """What a pool holds to, in seconds and numbers.

    Attributes:
        idle_timeout: Idle connections older than this are closed.
        max_idle: Those above this number are closed after a grace.
        on_idle: Called when a connection becomes idle.
    """

    idle_timeout: float
    max_idle: int
    on_idle: Callable[[], None] = lambda: None


class _IdleConnections:
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
            self._waiting.pop()[0].close()
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
                closing.pop().close()
        finally:
            # An interrupt must not leave the others to the collector.
            for conn in closing:
                conn.close()


def _may_reuse(lease: Lease) -> bool:
    """Tell whether a lease may have a connection that was used before; a raw use always may."""
    attempt = lease.attempt
    return attempt is None or (attempt.pooled and not attempt.fresh)


def _has_gone(conn: Any) -> bool:
    """Tell whether a connection that was taken out was closed by its peer, or has bytes to read."""
    if isinstance(conn, Connection):
        return conn.sock is None or conn.wait_to_read(0.0)
    return is_connection_dropped(conn)


def _has_unread(sock: Any) -> bool:
    """Tell whether TLS keeps decrypted bytes back, which no look at the socket itself finds.

    They came beside the answer, and must not become the answer to the next request.
    """
    pending = getattr(sock, "pending", None)
    return pending is not None and pending() > 0


def _is_dropped(conn: HTTPConnection) -> bool:
    """Tell whether an idle connection was closed by its peer, also in another thread's hands."""
    sock = conn.sock
    try:
        return sock is None or has_come(sock)
    except (OSError, ValueError):
        # Taken and closed by its new user in between: no longer ours to close.
        return False


class _NoQueue:
    """In the place of urllib3's queue, whose lock a fork could catch in another thread's hands."""

    def get(self, block: bool = False) -> Any:
        raise queue.Empty

    def qsize(self) -> int:
        return 0


class _PoolMixin(HTTPConnectionPool):
    """Keeps idle connections by age, and lends each with a lease."""

    own_class: type[HTTPConnection]
    stock_class: type[Any]

    def __init__(
        self, *args: Any, slots: Slots, rules: PoolRules, clock: Clock, **kwargs: Any
    ) -> None:
        kwargs["maxsize"] = 1
        super().__init__(*args, **kwargs)
        self.pool = _NoQueue()  # type: ignore[assignment]
        self._slots = slots
        self.openings = Openings(clock)
        self.idle = _IdleConnections(slots, rules, clock, self.openings.wake)
        # A manager with too many pools drops the oldest without a word.
        weakref.finalize(self, self.idle.abandon)
        # Elsewhere the names and the peers are waited for, and turns would add to it.
        self._near = self.proxy is None and is_loopback(self.host)
        self._size = 0
        self._size = len(vars(self))

    def _goes_by_turns(self) -> bool:
        # One of a tool's does not tell when it is open.
        made_by: Any = self.ConnectionCls
        return self._near and isinstance(made_by, type) and issubclass(made_by, Connection)

    def was_changed(self) -> bool:
        """Tell whether somebody put a method of his own on this one pool."""
        return len(vars(self)) != self._size

    def _get_conn(self, timeout: float | None = None) -> Any:
        if self.pool is None:
            raise ClosedPoolError(self, "Pool is closed.")
        lease, holder = active.bond(), None
        # Held, and with nothing out on it, it was given back by a note that nobody read yet.
        taken = lease is not None and lease.held and lease.number in self._slots.out
        if lease is None or taken or lease.slots is not self._slots:
            lease = Lease(self._slots, None)
            holder = LeaseHolder(lease)
        return self.lend(lease, holder)

    def lend(self, lease: Lease, holder: LeaseHolder | None = None) -> Any:
        """Take a slot, and an idle connection or else a new one that is not open yet.

        Args:
            lease: The lease that the connection goes out on.
            holder: Its holder, where nobody but the connection keeps it.

        Raises:
            PoolTimeout: No slot became free in time.
        """
        attempt = lease.attempt
        # A tool may send twice in one attempt.
        lease.kept = False
        self.idle.sweep()
        conn: Any = self.idle.lend(lease)
        try:
            conn = self._usable(conn, lease)
            if conn is None and attempt is not None and self._goes_by_turns():
                conn = self.openings.await_turn(
                    lease, lambda: self._usable(self.idle.hand_out(lease), lease)
                )
            if conn is None:
                conn = self._new_conn()
                conn.openings = self.openings
                conn.lease = lease
                if attempt is not None:
                    self._slots.out[lease.number] = conn
            else:
                self._slots.count_reused()
                if attempt is not None:
                    attempt.reused = True
            conn.holder = holder
        except BaseException:
            conn = self._slots.out.get(lease.number, conn)
            if conn is not None:
                conn.lease = None
                conn.close()
            lease.end(kept=False)
            raise
        return conn

    def _usable(self, conn: Any, lease: Lease) -> Any:
        """Return an idle connection that can be used, of this one and those behind it."""
        while conn is not None:
            # A tool that replaces the connection class must not be given one of before.
            if isinstance(conn, self.ConnectionCls) and not _has_gone(conn):
                return conn
            conn = self.idle.replace(conn, lease)
        return None

    def take_back(self, conn: Connection, lease: Lease) -> None:
        """Put an open connection, which nobody else has, back where it may be; else close it."""
        attempt = lease.attempt
        assert attempt is not None
        conn.lease = None
        sound = self.pool is not None and conn.sock is not None and not attempt.spoiled
        try:
            if attempt.call.let_go() and sound and not _has_unread(conn.sock):
                self.idle.store(conn, lease)
        finally:
            # Not asked of the connection: by now another call may have it.
            if not lease.kept:
                conn.close()
            if lease.number in self._slots.held:
                lease.end(kept=lease.kept)
        if lease.kept:
            self.idle.tell()
        self.idle.sweep()

    def _put_conn(self, conn: Any) -> None:
        if conn is None:
            return
        lease, conn.lease = getattr(conn, "lease", None), None
        sock = getattr(conn, "sock", None)
        keep = self.pool is not None and sock is not None and not _has_unread(sock)
        if keep and lease is not None:
            attempt = lease.attempt
            keep = lease.pooled and (
                attempt is None or (attempt.call.let_go() and not attempt.spoiled)
            )
        going: Any = conn.moved() if keep and isinstance(conn, Connection) else conn
        going.given_back = False
        try:
            if keep:
                self.idle.put(going, lease)
        finally:
            if not going.given_back:
                going.close()
            if lease is not None:
                lease.end(kept=going.given_back)
        if keep:
            self.idle.tell()
        self.idle.sweep()

    def close(self) -> None:
        super().close()
        self.idle.clear()


def _connection_class(pool: _PoolMixin) -> type[Any]:
    # Looked up each time: vcrpy and others replace the stock attribute while they record.
    stock_pool = HTTPSConnectionPool if pool.scheme == "https" else HTTPConnectionPool
    patched: type[Any] = stock_pool.ConnectionCls
    return pool.own_class if patched is pool.stock_class else patched


class HTTPPool(_PoolMixin):
    """The connections to one host, without TLS."""

    own_class = PlainConnection
    stock_class = HTTPConnection
    ConnectionCls = property(_connection_class)


class HTTPSPool(_PoolMixin, HTTPSConnectionPool):
    """The connections to one host, with TLS."""

    own_class = TLSConnection
    stock_class = HTTPSConnection
    ConnectionCls = property(_connection_class)


def pool_classes(slots: Slots, rules: PoolRules, clock: Clock) -> dict[str, Any]:
    """Return what a urllib3 ``PoolManager`` makes its pools of."""
    given: dict[str, Any] = {"slots": slots, "rules": rules, "clock": clock}
    return {
        "http": functools.partial(HTTPPool, **given),
        "https": functools.partial(HTTPSPool, **given),
    }
