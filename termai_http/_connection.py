"""Connections: every step of one bound to its attempt, every answer's framing checked."""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import os
import re
import socket
import sys
from typing import TYPE_CHECKING, Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)
from urllib3.util import connection as urllib3_connection
from urllib3.util.wait import wait_for_write

from ._call import Attempt, active
from ._slots import Lease, LeaseHolder

if TYPE_CHECKING:
    import ssl

    from urllib3.response import HTTPResponse

__all__ = [
    "BadFraming",
    "Connection",
    "PlainConnection",
    "TLSConnection",
    "TooLong",
    "TunnelFailed",
    "socket_options",
]

_MOST_INTERIM = 10
_LOOK_UP = 0.1
_LEAST_ADDRESS_SECONDS = 2.0
_UNACKNOWLEDGED_MS = 30_000
_LENGTH = re.compile(r"[0-9]{1,18}")
_PROTOCOL = b"HTTP/1."
# A whole head, interim answers included. Stricter than http.client, to which "+2_00" is a status,
# and than the parser of e-mails behind it, which loses all lines after one that is none and ends
# one at a bare CR. No two alternatives begin alike, so it takes one pass.
_HEAD = re.compile(
    rb"(?:HTTP/1\.[0-9] [0-9]{3}(?: [^\0\r\n]*)?\r?\n"
    rb"(?:[!-9;-~]+:[^\0\r\n]*\r?\n(?:[ \t][^\0\r\n]*\r?\n)*)*\r?\n)+"
)
_UNDER_WAY = {
    getattr(errno, name)
    for name in ("EINPROGRESS", "EWOULDBLOCK", "EALREADY", "WSAEWOULDBLOCK")
    if hasattr(errno, name)
}


class BadFraming(http.client.HTTPException):
    """An answer whose status or length cannot be relied on; the text is ours alone."""


class TooLong(http.client.HTTPException):
    """A header block larger than the client's limits; the text is ours alone."""


class TunnelFailed(OSError):
    """A proxy that did not open the tunnel; its cause says why."""


def socket_options() -> list[tuple[int, int, int]]:
    """Return the options of every socket: no Nagle, and probes that notice a dead path.

    A NAT forgets an idle connection without a word. Probes (after 60 s, every 60 s, 5 times) keep
    it known, or end the wait for it; where the system can, a request that nobody acknowledges for
    30 s ends too, early enough for another attempt.
    """
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    values = (
        *(("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)),
        ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED_MS),
    )
    for name, value in values:
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return cast("list[tuple[int, int, int]]", options)


class _BoundReader(io.RawIOBase):
    """Reads a socket, giving each read no more time than its attempt has left."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, attempt: Attempt) -> None:
        self._raw = raw
        self._sock = sock
        self._attempt = attempt
        self.head = bytearray()
        self.dry = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.dry:
            return 0
        attempt = self._attempt
        in_head = attempt.phase != "body"
        if in_head and len(self.head) > attempt.limits.headers:
            raise _too_long(attempt)
        self._sock.settimeout(attempt.read_budget())
        size = self._raw.readinto(buffer)
        if size:
            attempt.received += size
            if in_head:
                self.head += memoryview(buffer)[:size]
        return cast("int | None", size)

    def close(self) -> None:
        if not self.closed:
            try:
                self._raw.close()
            finally:
                super().close()


def _too_long(attempt: Attempt) -> TooLong:
    return TooLong(f"its header block is larger than {attempt.limits.headers} bytes")


class _Response(http.client.HTTPResponse):
    """A response whose every read keeps the deadline, and whose framing leaves no doubt."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._interim = 0
        self._attempt = attempt = active.attempt
        if attempt is not None:
            self._bound = _BoundReader(self.fp.detach(), sock, attempt)
            self.fp = io.BufferedReader(self._bound)

    def _read_status(self) -> tuple[str, int, str]:
        try:
            version, status, reason = super()._read_status()  # type: ignore[misc]
        except http.client.BadStatusLine:
            if self._attempt is not None and b"\n" not in self._bound.head:
                self._check_cut(self._bound.head)
            raise
        if 100 <= status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self._interim += 1
            if self._attempt is not None and self._interim > _MOST_INTERIM:
                raise BadFraming(f"more than {_MOST_INTERIM} interim answers came")
            # RFC 9110, section 15.2: any interim answer is skipped, and http.client skips this one.
            status = http.HTTPStatus.CONTINUE
        return version, status, reason

    def begin(self) -> None:
        super().begin()
        if self._attempt is not None:
            self._check_head(self._attempt)

    def _check_head(self, attempt: Attempt) -> None:
        head = self._bound.head
        if buffered := self._buffered():
            del head[-buffered:]
        if len(head) > attempt.limits.headers:
            raise _too_long(attempt)
        if not _HEAD.fullmatch(head):
            self._check_cut(head)
            raise BadFraming("a line of its head is none")
        if not 200 <= self.status <= 599:
            raise BadFraming(f"its status, {self.status}, is none of a final answer")

    def _check_cut(self, head: bytearray) -> None:
        """Tell an answer that ended within its head from one that is no HTTP."""
        begun = head.startswith(_PROTOCOL) or _PROTOCOL.startswith(head)
        if begun and not head.endswith((b"\n\r\n", b"\n\n")):
            raise http.client.RemoteDisconnected("the answer ended within its head")

    def _buffered(self) -> int:
        """Return the bytes that came and were not read, without reading the socket."""
        self._bound.dry = True
        try:
            return len(self.fp.peek())
        finally:
            self._bound.dry = False

    def _close_conn(self) -> None:
        if self._attempt is not None and not self._attempt.spoiled and self._buffered():
            # What came beside the answer must not become the answer to the next request.
            self._attempt.spoiled = True
        super()._close_conn()  # type: ignore[misc]


class Connection(HTTPConnection):
    """A connection whose every step keeps its attempt's time, and that ends its lease."""

    response_class = _Response
    lease: Lease | None = None
    holder: LeaseHolder | None = None
    _connecting = False
    _handing_over = False
    _process = 0

    def _new_conn(self) -> socket.socket:
        attempt = active.attempt
        if attempt is None:
            return super()._new_conn()
        try:
            sock = _open_socket(self, attempt)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError:
            raise LocationParseError("the host's name cannot be encoded") from None
        except TimeoutError as error:
            if error.errno is not None:
                raise NewConnectionError(self, str(error)) from error
            raise ConnectTimeoutError(self, "connecting took too long") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def connect(self) -> None:
        attempt = active.attempt
        self._process = os.getpid()
        if attempt is not None:
            attempt.phase = "connect"
            attempt.narrow(attempt.limits.connect_timeout)
        self._connecting = True
        try:
            super().connect()
        finally:
            self._connecting = False
            if attempt is not None:
                attempt.widen()
                # What went to a proxy for its tunnel was not the request.
                attempt.received = 0
        if self.lease is not None:
            self.lease.connected = True
            self.lease.slots.count_opened()

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except (OSError, http.client.HTTPException) as error:
            raise TunnelFailed(str(error)) from error
        attempt = active.attempt
        if attempt is not None and self.sock is not None:
            self.sock.settimeout(attempt.budget())

    def send(self, data: Any) -> None:
        attempt = active.attempt
        if attempt is not None and not self._connecting:
            if self.sock is None:
                self.connect()
            if not attempt.sent:
                attempt.sent = True
                attempt.phase = "send"
                # TLS within TLS is no socket that can be shut down, but has one.
                attempt.call.hold(getattr(self.sock, "socket", self.sock))
            self.sock.settimeout(attempt.budget())
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
            _check_length(response, attempt)
        return response

    def close(self) -> None:
        try:
            if self.sock is not None and not self._handing_over:
                self._hang_up(self.sock)
            super().close()
        finally:
            if self.lease is not None and not self._handing_over:
                lease, self.lease = self.lease, None
                lease.end(kept=False)

    def disown(self) -> None:
        """Close a forked child's copy of the descriptor, and touch nothing else.

        A thread of the parent's may have been reading, and its reader's lock stays locked here.
        """
        sock, self.sock, self.lease = self.sock, None, None
        if sock is not None:
            with contextlib.suppress(OSError, AttributeError):
                os.close(getattr(sock, "socket", sock).detach())

    def _hang_up(self, sock: Any) -> None:
        # A forked child may hold a copy of the descriptor: without this its peer hears nothing of
        # our close. In that child it would end the parent's connection.
        if self._process == os.getpid():
            with contextlib.suppress(OSError, ValueError, AttributeError):
                socket.socket.shutdown(getattr(sock, "socket", sock), socket.SHUT_RDWR)


class PlainConnection(Connection):
    """A connection without TLS."""


class TLSConnection(Connection, HTTPSConnection):
    """A connection with TLS."""

    def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> ssl.SSLSocket:
        # urllib3's own context has other CAs, obeys SSLKEYLOGFILE, and keeps no deadline.
        config = cast("Any", self.proxy_config)
        self.proxy_config = config._replace(ssl_context=config.ssl_context or self.ssl_context)
        return super()._connect_tls_proxy(hostname, sock)


def _check_length(response: HTTPResponse, attempt: Attempt) -> None:
    """Refuse an answer whose length is in doubt (RFC 9112, section 6.3)."""
    length = response.headers.get("content-length")
    # Several fields come joined, and are none then, equal ones too.
    if length is not None and not _LENGTH.fullmatch(length.strip(" \t")):
        response.close()
        raise BadFraming("its Content-Length is none")
    coding = response.headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            response.close()
            raise BadFraming("its Transfer-Encoding is not chunked")
        # Both at once may be an attempt at smuggling, and HTTP/1.0 knows no chunks.
        if length is not None or response.version < 11:
            attempt.spoiled = True


def _open_socket(conn: Connection, attempt: Attempt) -> socket.socket:
    """Connect to the first address that answers, all of them within one budget."""
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
            return _connected(conn, attempt, (kin, kind, proto), address, min(share, left))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            failure = error
    attempt.budget()
    raise failure or OSError("the name has no address")


def _connected(
    conn: Connection, attempt: Attempt, kind: tuple[int, int, int], address: Any, seconds: float
) -> socket.socket:
    sock = socket.socket(*kind)
    try:
        # urllib3 gives a connection through a proxy none, which leaves Nagle on.
        for option in conn.socket_options or socket_options():
            sock.setsockopt(*option)
        if conn.source_address:
            sock.bind(conn.source_address)
        attempt.call.hold(sock)
        _wait_connected(sock, attempt, address, seconds)
        sock.settimeout(attempt.budget())
    except BaseException:
        sock.close()
        raise
    return sock


def _wait_connected(sock: socket.socket, attempt: Attempt, address: Any, seconds: float) -> None:
    clock = attempt.call.clock
    end = clock.monotonic() + seconds
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
