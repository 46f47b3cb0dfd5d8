"""The pools: idle connections kept while they are young, each lent with a lease."""

from __future__ import annotations

import functools
import queue
import weakref
from typing import Any

from urllib3.connectionpool import (  # type: ignore[attr-defined]
    HTTPConnection,
    HTTPConnectionPool,
    HTTPSConnection,
    HTTPSConnectionPool,
)
from urllib3.exceptions import ClosedPoolError
from urllib3.util.connection import is_connection_dropped

from . import events
from ._call import Clock, active
from ._connection import Connection, PlainConnection, TLSConnection
from ._idle import IdleConnections, PoolRules
from ._lease import Lease, LeaseHolder
from ._openings import Openings
from ._slots import Slots
from ._target import is_loopback

__all__ = ["HTTPPool", "HTTPSPool", "pool_classes"]


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
        self.idle = IdleConnections(slots, rules, clock, self.openings.wake)
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
                    if attempt.call.tell is not None:
                        host, port = attempt.where
                        attempt.call.tell_of(events.ConnectionReused, host=host, port=port)
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
