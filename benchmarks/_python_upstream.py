"""A stand-in for nginx, in Python: it answers at once, or late, and is a bottleneck."""

from __future__ import annotations

import contextlib
import heapq
import multiprocessing
import selectors
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._replies import BODIES, DELAY, HEADERS, SLOW
from ._started import Started

__all__ = ["serving"]


def _answer(body: str) -> bytes:
    data = body.encode()
    headers = [("Server", "python"), ("Date", "Wed, 25 Nov 2026 00:00:00 GMT")]
    headers += [("Content-Type", "application/json"), ("Content-Length", f"{len(data)}")]
    headers += [("Connection", "keep-alive"), *HEADERS]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + data


class _Peer:
    """One accepted connection, its TLS handshake perhaps still to be done."""

    def __init__(self, sock: Any, *, shaking_hands: bool) -> None:
        self.sock = sock
        self.shaking_hands = shaking_hands
        self.buffer = b""

    def send(self, answer: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(answer)


def _complete(buffer: bytes) -> int:
    """Return the length of the first whole request in ``buffer``, 0 where there is none."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = buffer[:end].lower()
    at = head.find(b"content-length:")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    whole = end + 4 + length
    return whole if len(buffer) >= whole else 0


class _Server:
    """One thread that serves all connections."""

    def __init__(self, listeners: list[socket.socket], pipe: Any, certificate: str) -> None:
        self._listeners = dict(zip(listeners, (None, _context(certificate)), strict=True))
        self._pipe: Any = pipe
        self._accepted = 0
        self._late: list[tuple[float, int, _Peer, bytes]] = []
        self._answers = {path.encode(): _answer(body) for path, body in BODIES.items()}
        self._selector = selectors.DefaultSelector()
        for source in (*listeners, pipe):
            self._selector.register(source, selectors.EVENT_READ, source)

    def serve(self) -> None:
        """Serve until the asking process is done."""
        while True:
            for key, _ in self._selector.select(self._send_what_is_due()):
                if key.data is self._pipe:
                    if not _asked(self._pipe):
                        return
                    self._pipe.send(self._accepted)
                elif key.data in self._listeners:
                    self._accept(key.data)
                else:
                    self._advance(key.data)

    def _send_what_is_due(self) -> float | None:
        """Send the late answers whose time has come; returns the seconds until the next."""
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, peer, answer = heapq.heappop(self._late)
            peer.send(answer)
        return max(self._late[0][0] - time.monotonic(), 0) if self._late else None

    def _accept(self, listener: Any) -> None:
        sock, _ = listener.accept()
        self._accepted += 1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        context = self._listeners[listener]
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        peer = _Peer(sock, shaking_hands=context is not None)
        self._selector.register(sock, selectors.EVENT_READ, peer)

    def _advance(self, peer: _Peer) -> None:
        try:
            if peer.shaking_hands:
                peer.sock.do_handshake()
                peer.shaking_hands = False
            received = peer.sock.recv(65536)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError:
            received = b""
        if not received:
            self._selector.unregister(peer.sock)
            peer.sock.close()
            return
        peer.buffer += received
        while size := _complete(peer.buffer):
            path = peer.buffer.split(b" ", 2)[1]
            peer.buffer = peer.buffer[size:]
            self._reply(peer, path)

    def _reply(self, peer: _Peer, path: bytes) -> None:
        prefix = SLOW.encode()
        if path.startswith(prefix):
            answer = self._answers[path.removeprefix(prefix)]
            due = time.monotonic() + DELAY
            heapq.heappush(self._late, (due, id(peer), peer, answer))
        else:
            peer.send(self._answers[path])


def _context(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _asked(pipe: Any) -> bool:
    """Take a question; False where the asking process is done."""
    try:
        return bool(pipe.recv() == "connections")
    except EOFError:
        return False


def _serve(listeners: list[socket.socket], pipe: Any, certificate: str) -> None:
    _Server(listeners, pipe, certificate).serve()


@contextlib.contextmanager
def serving(certificate: Path) -> Iterator[Started]:
    """Run the server while the block runs.

    Args:
        certificate: A certificate with its key.
    """
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=2048) for _ in range(2)]
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    arguments = (listeners, theirs, str(certificate))
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    plain, tls = (listener.getsockname()[1] for listener in listeners)
    for listener in listeners:
        listener.close()
    theirs.close()

    def connections() -> int:
        ours.send("connections")
        number: int = ours.recv()
        return number

    try:
        yield Started(plain, tls, connections)
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.terminate()
            process.join(5)
