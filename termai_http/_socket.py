"""Sockets: opened to the first address that answers, within one budget, with probes set."""

from __future__ import annotations

import errno
import functools
import os
import select
import socket
from collections.abc import Callable
from typing import Any, cast

from urllib3.connectionpool import HTTPConnection  # type: ignore[attr-defined] # see _connection
from urllib3.util import connection as urllib3_connection
from urllib3.util.wait import wait_for_read, wait_for_write

from ._call import Attempt

__all__ = [
    "bind_time",
    "has_come",
    "open_socket",
    "poll_of",
    "socket_options",
    "unread",
    "wait_to_read",
]

_LOOK_UP = 0.1
# Without it, it takes a call of the system more, in which other threads run.
_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)
_LEAST_ADDRESS_SECONDS = 2.0
_UNACKNOWLEDGED_MS = 30_000
_LONG = 5.0
_SLACK = 0.05
_LONGEST_POLL = 2**31 - 1
_UNDER_WAY = {
    getattr(errno, name)
    for name in ("EINPROGRESS", "EWOULDBLOCK", "EALREADY", "WSAEWOULDBLOCK")
    if hasattr(errno, name)
}


def socket_options() -> list[tuple[int, int, int]]:
    """Return the options of every socket: no Nagle, and probes that notice a dead path.

    A NAT forgets an idle connection without a word. Probes (after 60 s, every 60 s, 5 times) keep
    it known, or end the wait for it; where the system can, a request that nobody acknowledges for
    30 s ends too, early enough for another attempt.
    """
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    values = (
        # macOS has its own name for the first.
        ("TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE", 60),
        *(("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)),
        ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED_MS),
    )
    for name, value in values:
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return cast("list[tuple[int, int, int]]", options)


def bind_time(sock: Any, seconds: float) -> None:
    """Let each of a socket's next steps take so long; a long time may become 50 ms longer.

    To set it is a call of the system, in which Python lets other threads run; and most calls have
    the same time, or nearly so.
    """
    set_to = sock.gettimeout()
    if set_to == seconds:
        return
    if seconds < _LONG:
        sock.settimeout(seconds)
    elif set_to is None or not seconds <= set_to <= seconds + _SLACK:
        sock.settimeout(seconds + _SLACK / 2)


def has_come(sock: Any) -> bool:
    """Tell, without waiting, whether bytes came, or the end of what the peer sends."""
    return bool(poll_of(sock)(0.0))


def wait_to_read(sock: Any, seconds: float) -> bool:
    """Wait so long at most until bytes come, or their end; tell whether they did."""
    return bool(poll_of(sock)(seconds))


def unread(sock: Any) -> bool:
    """Tell whether TLS keeps bytes that came, of which the system's socket knows nothing more."""
    # Within a proxy's own TLS it is urllib3's, with a buffer before its TLS.
    inner = getattr(sock, "sslobj", sock)
    pending, before = getattr(inner, "pending", None), getattr(sock, "incoming", None)
    return bool((pending is not None and pending()) or (before is not None and before.pending))


def poll_of(sock: Any) -> Callable[[float], Any]:
    """Return what waits so many seconds at most until a socket can be read, and tells whether."""
    if not hasattr(select, "poll"):
        return functools.partial(wait_for_read, sock)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return lambda seconds: poll.poll(min(seconds * 1000, _LONGEST_POLL))


def open_socket(conn: HTTPConnection, attempt: Attempt) -> socket.socket:
    """Connect to the first address that answers, all of them within one budget.

    No step of the socket waits; whoever needs that sets its time.
    """
    attempt.budget()
    host = conn._dns_host.strip("[]")
    family = urllib3_connection.allowed_gai_family()
    try:
        found = socket.getaddrinfo(host, conn.port, family, socket.SOCK_STREAM)
    except socket.gaierror:
        # Without a descriptor left the resolver knows no host; the cause shall be named.
        socket.socket().close()
        raise
    failure: OSError | None = None
    for index, (kin, kind, proto, _, address) in enumerate(found):
        left = attempt.budget()
        share = max(left / (len(found) - index), _LEAST_ADDRESS_SECONDS)
        try:
            sock = _new_socket(conn, (kin, kind, proto))
            return _connected(sock, attempt, address, min(share, left))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            failure = error
    attempt.budget()
    raise failure or OSError("the name has no address")


def _new_socket(conn: HTTPConnection, kind: tuple[int, int, int]) -> socket.socket:
    family, stream, proto = kind
    sock = socket.socket(family, stream | _NONBLOCK, proto)
    try:
        # urllib3 gives a connection through a proxy none, which leaves Nagle on.
        for option in conn.socket_options or socket_options():
            try:
                sock.setsockopt(*option)
            except OSError:
                continue  # a system that refuses one still connects
        if conn.source_address:
            sock.bind(conn.source_address)
    except BaseException:
        sock.close()
        raise
    return sock


def _connected(
    sock: socket.socket, attempt: Attempt, address: Any, seconds: float
) -> socket.socket:
    try:
        attempt.call.hold(sock)
        _wait_connected(sock, attempt, address, seconds)
    except BaseException:
        sock.close()
        raise
    return sock


def _wait_connected(sock: socket.socket, attempt: Attempt, address: Any, seconds: float) -> None:
    clock = attempt.call.clock
    end = clock.monotonic() + seconds
    if sock.gettimeout() != 0:
        sock.setblocking(False)
    code = sock.connect_ex(address)
    while code in _UNDER_WAY:
        left = min(attempt.budget(), end - clock.monotonic())
        if left <= 0:
            raise TimeoutError("the address did not answer")
        # Looked up from now and then: not every system wakes a connecting socket on its shutdown.
        if wait_for_write(sock, min(left, _LOOK_UP)):
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
