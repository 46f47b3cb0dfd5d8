"""Connections and the pools that keep them: reused while young, counted, bound to a deadline."""

from __future__ import annotations

import functools
import http.client
import io
import socket
import weakref
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import attrs
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ClosedPoolError
from urllib3.util.connection import is_connection_dropped

from ._call import Attempt, Clock, active
from ._slots import Lease, Slots

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

__all__ = ["HTTPPool", "HTTPSPool", "PoolRules", "pool_classes", "socket_options"]

_SURPLUS_GRACE = 5.0
_LEAST_TIMEOUT = 0.001


def socket_options() -> list[tuple[int, int, int]]:
    """Return the options of every socket: no Nagle, and probes that notice a dead path.

    A NAT forgets an idle connection without a word; the probes (after 60 s, every 60 s, 5 times)
    keep it known, or end the wait for it.
    """
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return cast("list[tuple[int, int, int]]", options)


class _DeadlineReader(io.RawIOBase):
    """Reads a socket, giving each read no more time than its attempt has left."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, attempt: Attempt) -> None:
        self._raw = raw
        self._sock = sock
        self._attempt = attempt

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        attempt = self._attempt
        self._sock.settimeout(attempt.read_budget())
        size = self._raw.readinto(buffer)
        if size:
            attempt.received = True
        return cast("int | None", size)

    def close(self) -> None:
        if not self.closed:
            try:
                self._raw.close()
            finally:
                super().close()


class _Response(http.client.HTTPResponse):
    """A response whose every read keeps the deadline."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        attempt = active.attempt
        if attempt is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_DeadlineReader(raw, sock, attempt))


class _Tracked(HTTPConnection):
    """Tells the attempt how far it came, and ends its lease when it closes."""

    response_class = _Response
    lease: Lease | None = None
    _connecting = False
    _handing_over = False

    def connect(self) -> None:
        attempt = active.attempt
        if attempt is not None:
            attempt.phase = "connect"
        self._connecting = True
        try:
            super().connect()
        finally:
            self._connecting = False
            if attempt is not None:
                # What went to a proxy for its tunnel was not the request.
                attempt.received = False
        if self.lease is not None:
            self.lease.connected = True
            self.lease.slots.count_opened()

    def send(self, data: Any) -> None:
        attempt = active.attempt
        if attempt is not None and not self._connecting:
            if self.sock is None:
                self.connect()
            if not attempt.sent:
                attempt.sent = True
                attempt.phase = "send"
                attempt.hold(self.sock)
            # urllib3 left the connect timeout here, which a long body may well exceed.
            self.sock.settimeout(max(attempt.call.left(), _LEAST_TIMEOUT))
        super().send(data)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as urllib3 has it
        attempt = active.attempt
        if attempt is not None:
            attempt.phase = "headers"
        # With "Connection: close" http.client closes us in here while the body is still to come.
        self._handing_over = True
        try:
            response = super().getresponse()
        finally:
            self._handing_over = False
        if attempt is not None:
            attempt.phase = "body"
        return response

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self.lease is not None and not self._handing_over:
                lease, self.lease = self.lease, None
                lease.end(kept=False)


class PlainConnection(_Tracked):
    """A connection without TLS."""


class TLSConnection(_Tracked, HTTPSConnection):
    """A connection with TLS."""


@attrs.frozen(kw_only=True)
class PoolRules:
    """What a pool holds to, in seconds and numbers."""

    idle_timeout: float
    max_idle: int


class _IdleConnections:
    """The open connections of one pool that wait for a call; the newest is taken first."""

    def __init__(self, slots: Slots, rules: PoolRules, clock: Clock) -> None:
        self._slots = slots
        self._rules = rules
        self._clock = clock
        self._waiting: deque[tuple[HTTPConnection, float]] = deque()

    def put(self, conn: HTTPConnection) -> None:
        with self._slots.lock:
            self._waiting.append((conn, self._clock.monotonic()))
            self._slots.idle += 1

    def take(self) -> HTTPConnection | None:
        with self._slots.lock:
            if not self._waiting:
                return None
            self._slots.idle -= 1
            return self._waiting.pop()[0]

    def sweep(self) -> None:
        """Close those that are too old or too many."""
        self._close(self._remove_expired())

    def clear(self) -> None:
        """Close all."""
        with self._slots.lock:
            closing = [conn for conn, _ in self._waiting]
            self._waiting.clear()
            self._slots.idle -= len(closing)
        self._close(closing)

    def evict(self, conn: HTTPConnection) -> None:
        self._close([conn])

    def abandon(self) -> None:
        """Close all, from a finalizer: it may run in a thread that holds the lock."""
        closed = 0
        while self._waiting:
            self._waiting.pop()[0].close()
            closed += 1
        self._slots.abandoned.append(closed)

    def _remove_expired(self) -> list[HTTPConnection]:
        if not self._waiting:
            return []
        now = self._clock.monotonic()
        with self._slots.lock:
            expired = list(self._expired(now))
            self._slots.idle -= len(expired)
        return expired

    def _expired(self, now: float) -> Iterator[HTTPConnection]:
        while self._waiting:
            idle_for = now - self._waiting[0][1]
            surplus = len(self._waiting) > self._rules.max_idle and idle_for >= _SURPLUS_GRACE
            if idle_for <= self._rules.idle_timeout and not surplus:
                return
            yield self._waiting.popleft()[0]

    def _close(self, closing: list[HTTPConnection]) -> None:
        for conn in closing:
            conn.close()
        if closing:
            self._slots.count_evicted(len(closing))


def _abandon(conn: Any, lease: Lease) -> None:
    """Close a connection that is still out on its lease."""
    if conn.lease is lease:
        conn.close()
        lease.end(kept=False)


class _PoolMixin(HTTPConnectionPool):
    """Keeps idle connections by age, and lends each with a lease."""

    own_class: type[HTTPConnection]
    stock_class: type[Any]

    def __init__(
        self, *args: Any, slots: Slots, rules: PoolRules, clock: Clock, **kwargs: Any
    ) -> None:
        kwargs["maxsize"] = 1
        super().__init__(*args, **kwargs)
        self._slots = slots
        self.idle = _IdleConnections(slots, rules, clock)
        # A manager with too many pools drops the oldest without a word.
        weakref.finalize(self, self.idle.abandon)

    def _get_conn(self, timeout: float | None = None) -> Any:
        if self.pool is None:
            raise ClosedPoolError(self, "Pool is closed.")
        attempt = active.attempt
        lease = self._slots.acquire(attempt)
        try:
            conn = self._take_idle(attempt) if lease.pooled else None
            if conn is None:
                conn = cast("HTTPConnection", self._new_conn())
            else:
                lease.connected = True
                self._slots.count_reused()
                if attempt is not None:
                    attempt.reused = True
        except BaseException:
            lease.end(kept=False)
            raise
        conn.lease = lease  # type: ignore[attr-defined]
        if attempt is not None:
            attempt.abandon = functools.partial(_abandon, conn, lease)
        return conn

    def _take_idle(self, attempt: Attempt | None) -> HTTPConnection | None:
        self.idle.sweep()
        if attempt is not None and attempt.fresh:
            return None
        while (conn := self.idle.take()) is not None:
            # A tool that replaces the connection class must not be given one of before.
            if isinstance(conn, self.ConnectionCls) and not is_connection_dropped(conn):
                return conn
            self.idle.evict(conn)
        return None

    def _put_conn(self, conn: Any) -> None:
        if conn is None:
            return
        lease, conn.lease = getattr(conn, "lease", None), None
        keep = (
            self.pool is not None
            and getattr(conn, "sock", None) is not None
            and (lease is None or lease.pooled)
        )
        if keep:
            self.idle.put(conn)
        else:
            conn.close()
        if lease is not None:
            lease.end(kept=keep)
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
