"""Connections through a SOCKS proxy, in pools of our own; loaded when one is used."""

from __future__ import annotations

import functools
import socket
import sys
from typing import Any

from urllib3.connectionpool import HTTPConnection  # type: ignore[attr-defined] # see _connection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError

from ._call import Attempt, active
from ._connection import Connection, TunnelFailed
from ._pool import _PoolMixin
from ._socket import open_socket
from .errors import ConfigurationError

try:
    import socks
except ImportError:
    raise ConfigurationError(
        'A SOCKS proxy needs the extra: pip install "termai-http[socks]". Check HTTPS_PROXY, or '
        "HttpClientConfig(proxies=...)."
    ) from None
from urllib3.contrib.socks import (
    SOCKSConnection,
    SOCKSHTTPConnectionPool,
    SOCKSHTTPSConnection,
    SOCKSHTTPSConnectionPool,
)

__all__ = ["SOCKSPool", "TLSSOCKSPool", "socks_pool_classes"]

_PORT = 1080
# PySocks writes a greater length as two bytes, and the proxy then reads something else.
_LONGEST = 127


class _Connected(socket.socket):
    """A socket that is connected already."""

    def connect(self, address: Any) -> None:
        """Leave it as it is."""


class _Negotiation(socks.socksocket, _Connected):  # type: ignore[misc] # it has no annotations
    """Asks a SOCKS proxy for a connection, each step in the time that the attempt has left.

    PySocks reads by ``recv_into`` and writes by ``send``, and would give each the whole time. It
    works on a copy of the descriptor: an interrupt breaks the original, which lives on.
    """

    def __init__(self, sock: socket.socket, attempt: Attempt) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=socket.dup(sock.fileno()))
        self._attempt = attempt

    def recv_into(self, *args: Any) -> int:
        socket.socket.settimeout(self, self._attempt.budget())
        return int(super().recv_into(*args))

    def send(self, *args: Any) -> int:
        socket.socket.settimeout(self, self._attempt.budget())
        return int(super().send(*args))


class _ThroughSOCKS(Connection, SOCKSConnection):
    """A connection through a SOCKS proxy, which has the time of connecting too."""

    def _new_conn(self) -> socket.socket:
        attempt = active.attempt
        if attempt is None:
            return super()._new_conn()
        self._check_lengths()
        try:
            sock = self._reach_proxy(attempt)
            try:
                self._negotiate(sock, attempt)
                sock.settimeout(attempt.budget())
            except BaseException:
                sock.close()
                raise
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError:
            raise LocationParseError("the host's name cannot be encoded") from None
        except TimeoutError as error:
            if error.errno is not None:
                raise TunnelFailed(_reason(error)) from None
            raise ConnectTimeoutError(self, "connecting took too long") from error
        except OSError as error:
            # The text is the whole reason: what PySocks says holds neither user nor password.
            raise TunnelFailed(_reason(error)) from None
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def _check_lengths(self) -> None:
        for name in ("username", "password"):
            if len(str(self._socks_options.get(name) or "").encode()) > _LONGEST:
                raise ConfigurationError(
                    f"The SOCKS proxy's {name} is longer than {_LONGEST} bytes. Check "
                    "HTTPS_PROXY, or HttpClientConfig(proxies=...)."
                )
        if len(self.host) > _LONGEST:
            raise ConfigurationError(
                f"A host's name behind a SOCKS proxy can have {_LONGEST} characters; check "
                "base_url."
            )

    def _reach_proxy(self, attempt: Attempt) -> socket.socket:
        proxy = HTTPConnection(
            self._socks_options["proxy_host"] or "",
            int(self._socks_options["proxy_port"] or _PORT),
            source_address=self.source_address,
            socket_options=self.socket_options,
        )
        try:
            return open_socket(proxy, attempt)
        except socket.gaierror:
            raise OSError("its name could not be resolved") from None

    def _negotiate(self, sock: socket.socket, attempt: Attempt) -> None:
        negotiation: Any = _Negotiation(sock, attempt)
        with negotiation:
            negotiation.set_proxy(
                self._socks_options["socks_version"],
                self._socks_options["proxy_host"],
                int(self._socks_options["proxy_port"] or _PORT),
                self._socks_options["rdns"],
                self._socks_options["username"],
                self._socks_options["password"],
            )
            negotiation.connect((self.host, self.port), catch_errors=True)


def _reason(error: OSError) -> str:
    if isinstance(error, (socks.SOCKS5Error, socks.SOCKS4Error)):
        return f"it answered {error}"
    if isinstance(error, socks.SOCKS5AuthError):
        return f"it refused the login ({error})"
    if isinstance(error, ConnectionResetError) or "closed" in str(error):
        return "it closed the connection"
    if isinstance(error, socks.ProxyError):
        return "what it answered is no SOCKS"
    reason = error.strerror or str(error)
    return reason[:1].lower() + reason[1:]


class PlainSOCKSConnection(_ThroughSOCKS):
    """A connection through a SOCKS proxy, without TLS."""


class TLSSOCKSConnection(_ThroughSOCKS, SOCKSHTTPSConnection):
    """A connection through a SOCKS proxy, with TLS to the server."""


class SOCKSPool(_PoolMixin, SOCKSHTTPConnectionPool):
    """The connections to one host through a SOCKS proxy, without TLS."""

    ConnectionCls = PlainSOCKSConnection


class TLSSOCKSPool(_PoolMixin, SOCKSHTTPSConnectionPool):
    """The connections to one host through a SOCKS proxy, with TLS."""

    ConnectionCls = TLSSOCKSConnection


def socks_pool_classes(direct: dict[str, functools.partial[Any]]) -> dict[str, Any]:
    """Return what a urllib3 ``SOCKSProxyManager`` makes its pools of.

    Args:
        direct: What ``pool_classes`` gave: whose slots, rules and clock the pools share.
    """
    return {
        "http": functools.partial(SOCKSPool, **direct["http"].keywords),
        "https": functools.partial(TLSSOCKSPool, **direct["https"].keywords),
    }
