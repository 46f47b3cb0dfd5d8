"""The way to a server, tried step by step: name, TCP, proxy, TLS."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import functools
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from ._call import Clock
from ._doctor_advice import dns_advice, tcp_advice, tls_advice, tls_reason, tunnel_advice
from ._doctor_certificate import Certificate, certificates_shown, read_certificate
from ._doctor_values import Check
from ._tls import make_context

__all__ = ["Way"]

_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080}
_PORTS["socks5h"] = 1080
_MOST_ADDRESSES = 4
_ADDRESS_SECONDS = 3.0
_NOTICED_SECONDS = 0.3
_LONGEST_HEAD = 16384
# A server that speaks plain HTTP may wait for ever for the end of what TLS begins with.
_PATIENCE, _GLANCE = 1.0, 0.1
_SOON = dt.timedelta(days=14)

_Address = tuple[int, int, int, Any]


class _Refused(OSError):
    """A proxy that answered CONNECT with something else than a tunnel.

    Attributes:
        status: What it answered; 0 where that was no HTTP.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"it answered CONNECT with {status}" if status else "it speaks no HTTP")
        self.status = status


class Way:
    """The way to one server, tried step by step, each step on what the one before it made.

    Not by the package's own connections: those make all steps as one, and a failure there would
    not tell how long each took.

    Attributes:
        times: Seconds of each step that succeeded, by its name.
        broken: The name of the step that failed; None while none did.

    Args:
        part: The part that the checks belong to.
        url: Where the API lives.
        proxy: URL of the proxy; empty for none.
        proxy_setting: What names the proxy; empty for none.
        context: What TLS is made with.
        clock: Time.
        end: Monotonic instant that no step outlives.
    """

    def __init__(
        self,
        *,
        part: str,
        url: str,
        proxy: str,
        proxy_setting: str,
        context: ssl.SSLContext,
        clock: Clock,
        end: float,
    ) -> None:
        self.times: dict[str, float] = {}
        self.broken: str | None = None
        self._check = functools.partial(Check, part=part)
        self._to, self._proxy = urlsplit(url), urlsplit(proxy) if proxy else None
        self._first = self._proxy or self._to
        self._setting = proxy_setting
        self._context = context
        self._clock = clock
        self._end = end
        self._addresses: list[_Address] = []
        self._address: _Address | None = None
        self._sock: socket.socket | None = None

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._sock is not None:
            self._sock.close()

    def checks(self) -> Iterator[Check]:
        """Yield what each step found, as it is made; those after one that failed are skipped."""
        for name, step in self._steps():
            if self.broken is not None:
                yield self._check(name=name, state="skip", what=f"not tried: {self.broken} failed")
                continue
            begun = self._clock.monotonic()
            found = step()
            taken = self._clock.monotonic() - begun
            if found["state"] == "fail":
                self.broken = name
            else:
                taken = self.times.setdefault(name, taken)
            yield self._check(name=name, seconds=taken, **found)

    def _steps(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        yield "DNS", self._look_up
        yield "TCP", self._connect
        secure = self._to.scheme == "https"
        if self._proxy is not None and self._proxy.scheme not in ("http", "https"):
            # A SOCKS proxy: the call itself tells how the rest goes.
            return
        if self._proxy is not None and self._proxy.scheme == "https":
            yield "proxy TLS", self._secure_proxy
        if self._proxy is not None and secure:
            yield "tunnel", self._open_tunnel
        if secure and (self._proxy is None or self._proxy.scheme == "http"):
            yield "TLS", self._secure

    def _left(self) -> float:
        """Return the seconds that are left, and never none: a socket takes 0 for "do not wait"."""
        return max(self._end - self._clock.monotonic(), 0.001)

    def _look_up(self) -> dict[str, Any]:
        host, port = _place(self._first)
        outcome = _resolved(host, port, self._left())
        whom = "the proxy's name" if self._proxy is not None else "the name"
        if isinstance(outcome, OSError):
            why = outcome.strerror or str(outcome)
            what = f"{whom} {host} could not be resolved: {why}"
            return _fail(what, dns_advice(outcome, self._setting))
        self._addresses = list(dict.fromkeys(outcome))[:_MOST_ADDRESSES]
        shown = ", ".join(str(address[3][0]) for address in self._addresses)
        more = len(set(outcome)) - len(self._addresses)
        if shown == host:
            return _ok(f"{host}, an address")
        return _ok(f"{host}: {shown}" + (f" and {more} more" if more > 0 else ""))

    def _connect(self) -> dict[str, Any]:
        """Try every address, since a call may come to any of them."""
        failures: list[tuple[str, OSError, float]] = []
        for index, address in enumerate(self._addresses):
            share = min(self._left() / (len(self._addresses) - index), _ADDRESS_SECONDS)
            begun = self._clock.monotonic()
            try:
                sock = _connected(address, share)
            except OSError as error:
                failures.append((address[3][0], error, self._clock.monotonic() - begun))
                continue
            if self._sock is None:
                # What a call needs; the other addresses are tried for the report alone.
                self.times["TCP"] = self._clock.monotonic() - begun
                self._sock, self._address = sock, address
            else:
                sock.close()
        return self._judged(failures)

    def _judged(self, failures: list[tuple[str, OSError, float]]) -> dict[str, Any]:
        host, port = _place(self._first)
        told = "; ".join(f"{address}: {_reason(error)}" for address, error, _ in failures)
        if self._address is None:
            error = failures[-1][1] if failures else OSError("no address")
            what = f"no connection to {_at(host, port)} ({told})"
            return _fail(what, tcp_advice(error, _at(host, port), self._setting))
        what = f"connected to {self._address[3][0]}:{port}"
        lost = sum(seconds for _, _, seconds in failures)
        if lost > _NOTICED_SECONDS:
            advice = "Other addresses do not answer, and new connections may lose time with them."
            return {"state": "warn", "what": f"{what}, but {told}", "advice": advice}
        return _ok(f"{what} ({told})" if told else what)

    def _secure_proxy(self) -> dict[str, Any]:
        assert self._proxy is not None
        return self._handshake(self._proxy, "the proxy")

    def _open_tunnel(self) -> dict[str, Any]:
        assert self._proxy is not None
        assert self._sock is not None
        host, port = _place(self._to)
        try:
            _tunnel(self._sock, self._proxy, host, port, self._left)
        except OSError as error:
            status = getattr(error, "status", None)
            what = f"the proxy opened no tunnel to {host}:{port}: {_reason(error)}"
            return _fail(what, tunnel_advice(error, status, _at(host, port), self._setting))
        return _ok(f"the proxy opened one to {host}:{port}")

    def _secure(self) -> dict[str, Any]:
        return self._handshake(self._to, "the server")

    def _handshake(self, to: SplitResult, whom: str) -> dict[str, Any]:
        host, port = _place(to)
        with certificates_shown(self._context) as shown:
            try:
                tls = self._shake(host)
            except (OSError, ValueError) as error:
                seen = None
                if isinstance(error, ssl.SSLCertVerificationError):
                    # Who issued what was refused tells who stands in the way.
                    seen = read_certificate(next(iter(shown or self._look_again(host)), None))
                what = f"TLS with {whom} failed: {tls_reason(error)}"
                what += f"; its certificate is {_shown(seen)}" if seen is not None else ""
                setting = self._setting if to is self._proxy else ""
                system, where = _is_truststore(self._context), _at(host, port)
                return _fail(what, tls_advice(error, where, seen, setting, system=system))
        certificate = read_certificate(tls.getpeercert(binary_form=True))
        cipher = tls.cipher()
        what = f"{tls.version()}, {cipher[0] if cipher else 'no cipher'}"
        if certificate is None:
            return _ok(what)
        what += f", certificate {_shown(certificate)}"
        now = dt.datetime.fromtimestamp(self._clock.wall(), dt.timezone.utc)
        if certificate.ends - now < _SOON:
            advice = f"The certificate of {host} ends soon: have whoever runs {whom} renew it."
            return {"state": "warn", "what": what, "advice": advice}
        return _ok(what)

    def _shake(self, host: str) -> ssl.SSLSocket:
        """Make TLS on the connection that there is.

        Raises:
            OSError: It cannot be made.
            ValueError: The host cannot be a name.
        """
        assert self._sock is not None
        self._sock.settimeout(self._left())
        # truststore verifies as the socket is made, so its handshake cannot be put off.
        own = not _is_truststore(self._context)
        tls = self._context.wrap_socket(
            self._sock, server_hostname=host, do_handshake_on_connect=not own
        )
        self._sock = tls
        if not own:
            return tls
        tls.settimeout(min(self._left(), _PATIENCE))
        try:
            tls.do_handshake()
        except TimeoutError:
            plain = self._speaks_plain_http()
            tls.settimeout(_GLANCE if plain else self._left())
            try:
                tls.do_handshake()
            except TimeoutError:
                if plain:
                    raise OSError("it answers in plain HTTP") from None
                raise
        return tls

    def _speaks_plain_http(self) -> bool:
        """Tell, on a connection of its own, whether what leaves TLS unanswered answers HTTP."""
        request = "HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"
        to = self._to if "tunnel" in self.times else self._first
        try:
            with self._opened_again() as sock:
                sock.settimeout(min(self._left(), _ADDRESS_SECONDS))
                sock.sendall(request.format(_at(*_place(to))).encode("latin-1"))
                return sock.recv(5) == b"HTTP/"
        except OSError:
            return False

    def _look_again(self, host: str) -> list[bytes]:
        """Return the certificate of a server that truststore refused, which shows none.

        From a handshake that verifies as well, and most likely fails as well.
        """
        shown: list[bytes] = []
        if not _is_truststore(self._context):
            return shown
        context = make_context(None, None)
        with (
            certificates_shown(context) as shown,
            contextlib.suppress(OSError, ValueError),
            self._opened_again() as sock,
        ):
            sock.settimeout(self._left())
            context.wrap_socket(sock, server_hostname=host).close()
        return shown

    def _opened_again(self) -> socket.socket:
        """Open one more connection the same way, as far as the steps came.

        Raises:
            OSError: It cannot be opened.
        """
        assert self._address is not None
        sock = _connected(self._address, min(self._left(), _ADDRESS_SECONDS))
        if "tunnel" in self.times and self._proxy is not None:
            try:
                _tunnel(sock, self._proxy, *_place(self._to), self._left)
            except BaseException:
                sock.close()
                raise
        return sock


def _is_truststore(context: ssl.SSLContext) -> bool:
    return type(context) is not ssl.SSLContext


def _ok(what: str) -> dict[str, Any]:
    return {"state": "ok", "what": what}


def _fail(what: str, advice: str) -> dict[str, Any]:
    return {"state": "fail", "what": what, "advice": advice}


def _place(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolved(host: str, port: int, seconds: float) -> list[_Address] | OSError:
    """Resolve a name, in a thread of its own: nothing else ends the system's resolver in time."""
    found: list[list[_Address] | OSError] = []

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.append([(kin, kind, proto, to) for kin, kind, proto, _, to in infos])
        except OSError as error:
            found.append(error)
        except UnicodeError:
            found.append(OSError("it cannot be a name"))

    thread = threading.Thread(target=look_up, name="termai-doctor-dns", daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else TimeoutError("no answer in time")


def _connected(address: _Address, seconds: float) -> socket.socket:
    family, kind, proto, to = address
    sock = socket.socket(family, kind, proto)
    try:
        sock.settimeout(seconds)
        sock.connect(to)
    except BaseException:
        sock.close()
        raise
    return sock


def _tunnel(
    sock: socket.socket, proxy: SplitResult, host: str, port: int, left: Callable[[], float]
) -> None:
    """Have a proxy open a tunnel.

    Raises:
        OSError: It did not; ``_Refused`` where it said so.
    """
    where = _at(host, port)
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if proxy.username is not None:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode("latin-1")
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login).decode()}")
    sock.settimeout(left())
    sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    head = b""
    while b"\r\n\r\n" not in head:
        sock.settimeout(left())
        # Byte by byte: what comes after the head is the server's.
        data = sock.recv(1)
        if not data:
            raise ConnectionResetError("it closed the connection")
        head += data
        if len(head) > _LONGEST_HEAD:
            raise _Refused(0)
    answer = re.match(rb"HTTP/1\.[01] (\d{3})\b", head)
    status = int(answer[1]) if answer else 0
    if not 200 <= status <= 299:
        raise _Refused(status)


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return "no answer in time"
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _shown(certificate: Certificate) -> str:
    return (
        f"for {certificate.subject} by {certificate.issuer}, valid to {certificate.ends:%Y-%m-%d}"
    )
