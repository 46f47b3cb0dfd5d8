"""A server in a process of its own that answers every request at once; no bottleneck."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import selectors
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trustme

__all__ = ["Upstream", "upstream"]

_REPLY = {
    "id": "chatcmpl-0123456789",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "gpt-5.5",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "word " * 60, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 80,
        "completion_tokens": 60,
        "total_tokens": 140,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}


def _answer() -> bytes:
    body = json.dumps(_REPLY).encode()
    # As many headers as come from behind a content delivery network, two cookies among them.
    headers = [f"x-header-{number}: a value of usual length {number}" for number in range(20)]
    headers += ["Content-Type: application/json", "x-request-id: req_0123456789abcdef"]
    headers += ["Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; Path=/"]
    headers += [f"Content-Length: {len(body)}"]
    return ("HTTP/1.1 200 OK\r\n" + "\r\n".join(headers) + "\r\n\r\n").encode() + body


class Upstream:
    """Where the server is, and how many connections it accepted."""

    def __init__(
        self, url: str, bundle: str | None, pipe: multiprocessing.connection.Connection
    ) -> None:
        self.url = url
        self.bundle = bundle
        self._pipe = pipe

    def connections(self) -> int:
        """Return the number of connections accepted so far."""
        self._pipe.send("connections")
        number: int = self._pipe.recv()
        return number


class _Peer:
    """One accepted connection, its TLS handshake perhaps still to be done."""

    def __init__(self, sock: Any, *, shaking_hands: bool) -> None:
        self.sock = sock
        self.shaking_hands = shaking_hands
        self.buffer = b""


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


def _serve(
    listener: socket.socket, pipe: multiprocessing.connection.Connection, chain: bytes | None
) -> None:
    context = None
    if chain is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with trustme.Blob(chain).tempfile() as path:
            context.load_cert_chain(path)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(pipe, selectors.EVENT_READ)
    answer, accepted = _answer(), 0
    while True:
        for key, _ in selector.select():
            if key.fileobj is pipe:
                if not _asked(pipe):
                    return
                pipe.send(accepted)
            elif key.fileobj is listener:
                accepted += 1
                _accept(listener, selector, context)
            else:
                _advance(key.data, selector, answer)


def _asked(pipe: multiprocessing.connection.Connection) -> bool:
    """Take a question; False where the asking process is done."""
    try:
        return bool(pipe.recv() == "connections")
    except EOFError:
        return False


def _accept(
    listener: socket.socket, selector: selectors.BaseSelector, context: ssl.SSLContext | None
) -> None:
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    if context is not None:
        sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
    peer = _Peer(sock, shaking_hands=context is not None)
    selector.register(sock, selectors.EVENT_READ, peer)


def _advance(peer: _Peer, selector: selectors.BaseSelector, answer: bytes) -> None:
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
        selector.unregister(peer.sock)
        peer.sock.close()
        return
    peer.buffer += received
    while size := _complete(peer.buffer):
        peer.buffer = peer.buffer[size:]
        with contextlib.suppress(OSError):
            peer.sock.sendall(answer)


@contextlib.contextmanager
def upstream(folder: Path, *, tls: bool) -> Iterator[Upstream]:
    """Run the server while the block runs.

    Args:
        folder: Where the test CA's certificate is written.
        tls: Whether TLS is spoken.
    """
    bundle = chain = None
    if tls:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        chain = certificate.private_key_and_cert_chain_pem.bytes()
        bundle = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(bundle)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(listener, theirs, chain), daemon=True)
    process.start()
    port = listener.getsockname()[1]
    listener.close()
    theirs.close()
    try:
        yield Upstream(f"{'https' if tls else 'http'}://127.0.0.1:{port}", bundle, ours)
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.terminate()
            process.join(5)
