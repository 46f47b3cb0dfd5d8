"""Connections: every step of one keeps its attempt's time, and each ends its lease."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import socket
import ssl
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

# Not from urllib3.connection: vcrpy puts stand-ins there, for good where this is imported while one
# of its cassettes is in.
from urllib3.connectionpool import (  # type: ignore[attr-defined]
    HTTPConnection,
    HTTPSConnection,
)
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)

from . import events
from ._answer import Answer, BadFraming, check_length
from ._call import active
from ._lease import Lease, LeaseHolder
from ._openings import Openings
from ._socket import open_socket, poll_of

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

    from ._call import Attempt

__all__ = [
    "Connection",
    "PlainConnection",
    "TLSConnection",
    "TunnelFailed",
]


class TunnelFailed(OSError):
    """A proxy that did not open the tunnel; its cause says why."""


class Connection(HTTPConnection):
    """A connection whose every step keeps its attempt's time, and that ends its lease."""

    response_class = Answer
    lease: Lease | None = None
    holder: LeaseHolder | None = None
    given_back = False
    openings: Openings | None = None
    _poll: Callable[[float], object]
    _polled: Any = None
    _connecting = False
    _handing_over = False
    _handed: Any = None
    _process = 0

    def _new_conn(self) -> socket.socket:
        attempt = active.attempt
        if attempt is None:
            return super()._new_conn()
        try:
            return self._announced(open_socket(self, attempt), attempt)
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

    def _announced(self, sock: socket.socket, attempt: Attempt) -> socket.socket:
        try:
            if self.proxy is not None or isinstance(self, HTTPSConnection):
                sock.settimeout(attempt.budget())
            sys.audit("http.client.connect", self, self.host, self.port)
        except BaseException:
            sock.close()
            raise
        return sock

    def connect(self) -> None:
        attempt = active.attempt
        self._process = os.getpid()
        if attempt is not None:
            attempt.phase = "connect"
            attempt.narrow(attempt.limits.connect_timeout)
        begun = 0.0 if attempt is None else attempt.call.clock.monotonic()
        self._connecting = True
        try:
            super().connect()
        finally:
            self._connecting = False
            self.end_opening()
            if attempt is not None:
                attempt.widen()
                # What went to a proxy for its tunnel was not the request.
                attempt.received = 0
        if self.lease is not None:
            self.lease.slots.count_opened(self.lease)
        if attempt is not None and attempt.call.tell is not None:
            call, (host, port) = attempt.call, attempt.where
            seconds = call.clock.monotonic() - begun
            call.tell_of(events.ConnectionOpened, host=host, port=port, seconds=seconds)

    def end_opening(self) -> None:
        """Let another be opened: this one is, or never will be."""
        openings, self.openings = self.openings, None
        if openings is not None and self.lease is not None:
            openings.end(self.lease)

    def wait_to_read(self, seconds: float) -> bool:
        """Wait until bytes came, or the end of what the peer sends; False where none did.

        For the thread that has the connection.

        Raises:
            ConnectionAbortedError: It has no socket: in a forked child, it is the parent's.
        """
        sock = self.sock
        if sock is None:
            raise ConnectionAbortedError("this process has no such connection")
        if self._polled is not sock:
            self._poll, self._polled = poll_of(sock), sock
        return bool(self._poll(seconds))

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
        try:
            super().send(data)
        except ssl.SSLEOFError as error:
            # As without TLS: a server may answer and close before it has read all of a body, and
            # urllib3 then reads that answer.
            raise BrokenPipeError(errno.EPIPE, "the server reads no more") from error

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
            try:
                check_length(response.headers, response.version, attempt)
            except BadFraming:
                response.close()
                raise
        return response

    def close(self) -> None:
        try:
            try:
                if self._handing_over:
                    self._handed = self.sock
                else:
                    sock, self._handed = self.sock or self._handed, None
                    self._hang_up(sock)
            finally:
                # The system may report what the peer did, which is no matter any more.
                with contextlib.suppress(OSError):
                    super().close()
        finally:
            # Where an interrupt tore this away, it is closed at the end of its lease.
            if self.sock is None and self.lease is not None and not self._handing_over:
                lease, self.lease = self.lease, None
                # Without the lock: an answer that the collector finds closes us, in any thread.
                lease.drop()

    def moved(self) -> Connection:
        """Move what it is to an object that only the pool knows.

        Whoever had this one, an answer that the collector finds late above all, may still close it,
        and must not close it for the next call.
        """
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, lease=None, holder=None)
        self.sock = self._polled = None
        return other

    def disown(self) -> None:
        """Close a forked child's copy of the descriptor, and touch nothing else.

        A thread of the parent's may have been reading, and its reader's lock stays locked here.
        """
        sock, self.sock, self.lease = self.sock or self._handed, None, None
        if sock is not None:
            with contextlib.suppress(OSError, AttributeError):
                os.close(getattr(sock, "socket", sock).detach())

    def _hang_up(self, sock: Any) -> None:
        # A forked child may hold a copy of the descriptor: without this its peer hears nothing of
        # our close. In that child it would end the parent's connection.
        if sock is not None and self._process == os.getpid():
            with contextlib.suppress(OSError, ValueError, AttributeError):
                socket.socket.shutdown(getattr(sock, "socket", sock), socket.SHUT_RDWR)


class PlainConnection(Connection):
    """A connection without TLS."""


class TLSConnection(Connection, HTTPSConnection):
    """A connection with TLS."""
