"""What the rows and tests of connecting share: dead ports, names, certificates, cancelling."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import trustme

import termai_http

from .harness import OVERRUN, Bench, Peer, RawServer, Seen, good_reply

__all__ = [
    "ESTABLISHED",
    "Authority",
    "blackhole_port",
    "must_cancel",
    "must_have_timed_out",
    "read_hello",
    "resolve",
    "secure",
    "tls_server",
    "trickle_handshake",
    "watch",
]

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
# A record and a message as long as they may be, so that the handshake goes on and on.
_LONG_HANDSHAKE = bytes.fromhex("16 0303 4000 02 003ffc 0303") + bytes(16_000)


def blackhole_port(bench: Bench) -> int:
    """Return a port whose connections are neither accepted nor refused: its queue is full."""
    listener = socket.socket()
    bench.cleanup(listener.close)
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = int(listener.getsockname()[1])
    for _ in range(4):
        filler = socket.socket()
        bench.cleanup(filler.close)
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
    return port


def resolve(bench: Bench, host: str, answer: Callable[[], list[int]]) -> list[str]:
    """Let a host's addresses be these ports of 127.0.0.1; returns its look-ups so far."""
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def look_up(name: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        found = name.decode() if isinstance(name, bytes) else name
        if found != host:
            return real(name, port, *args, **kwargs)
        looked_up.append(found)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", given))
            for given in answer()
        ]

    bench.enter(mock.patch.object(socket, "getaddrinfo", look_up))
    return looked_up


class Authority:
    """A CA of the row's own."""

    def __init__(self, bench: Bench) -> None:
        self._ca = trustme.CA()
        self.bundle: str = bench.enter(self._ca.cert_pem.tempfile())

    def context(self, name: str = "127.0.0.1", **fields: Any) -> ssl.SSLContext:
        """Return the context of a server with a certificate for the name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name, **fields).configure_cert(context)
        return context


def secure(peer: Peer, context: ssl.SSLContext) -> None:
    """Make the handshake, as the server."""
    peer.sock.settimeout(20)
    sock = context.wrap_socket(peer.sock, server_side=True, do_handshake_on_connect=False)
    peer.sock = sock
    try:
        sock.do_handshake()
    except ssl.SSLError:
        # A close with data unread is a reset, which can overtake the alert that says why.
        socket.socket.shutdown(sock, socket.SHUT_WR)
        while socket.socket.recv(sock, 65536):
            pass
        raise


def tls_server(
    bench: Bench, context: ssl.SSLContext, answer: bytes = b"", *, abrupt: bool = False
) -> RawServer:
    """Run a TLS server that gives each request the same answer.

    Args:
        bench: Whose it is.
        context: Its certificate.
        answer: What it answers; empty means a good reply.
        abrupt: Whether the connection ends after it, without TLS's own goodbye.
    """

    def handle(peer: Peer) -> None:
        secure(peer, context)
        while (request := peer.read_request()) is not None:
            server.requests.append(request)
            peer.send(answer or good_reply())
            if abrupt:
                socket.socket.shutdown(peer.sock, socket.SHUT_WR)
                return

    server = bench.serve(handle)
    return server


def read_hello(peer: Peer) -> bytes:
    """Read the ClientHello, as far as it came."""
    return peer.sock.recv(65536)


def trickle_handshake(peer: Peer) -> None:
    """Answer a ClientHello byte by byte, with a message that goes on and on."""
    read_hello(peer)
    peer.drip(_LONG_HANDSHAKE, 0.05)


def watch(handler: Callable[[Peer], None], begun: threading.Event) -> Callable[[Peer], None]:
    """Return a handler that also tells when the first bytes for it came."""

    def handle(peer: Peer) -> None:
        peer.sock.recv(1, socket.MSG_PEEK)
        begun.set()
        handler(peer)

    return handle


def must_cancel(
    bench: Bench, url: str, begun: threading.Event, client: Any, phase: str = "connect"
) -> None:
    """Cancel a call once ``begun`` is set, and check that it then ends at once."""
    token = termai_http.CancelToken()
    moments: list[float] = []

    def cancel() -> None:
        begun.wait(20)
        moments.append(time.monotonic())
        token.cancel()

    thread = threading.Thread(target=cancel, daemon=True)
    thread.start()
    seen = bench.chat(url, timeout=20, client=client, cancel=token).must_be("cancelled")
    ended = time.monotonic()
    thread.join(20)
    assert isinstance(seen.error, termai_http.CallCancelled)
    assert seen.error.phase == phase
    assert seen.error.attempts == 1
    took = ended - moments[0] - seen.late
    bench.must(took <= OVERRUN, f"cancelled only after {took:.1f} s")


def must_have_timed_out(seen: Seen, cls: type[Exception], attempts: int = 1) -> None:
    """Check how ours tells of a limit that ended connecting."""
    error = seen.error
    assert type(error) is cls
    assert isinstance(error, termai_http.APITimeoutError)
    assert error.phase == "connect"
    assert error.attempts == attempts
    assert not error.maybe_billed
