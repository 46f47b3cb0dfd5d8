"""The extra ``socks``: a call goes through a SOCKS5 proxy, which resolves the name."""

from __future__ import annotations

import socket
import threading

from termai_http import Client, HttpClientConfig
from termai_http.testing import Server

HOST = "model.example"
asked: list[tuple[bytes, int]] = []


def take(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    taken = b""
    while len(taken) < size and (some := sock.recv(size - len(taken))):
        taken += some
    return taken


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, to its end."""
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def proxy(listener: socket.socket, port: int) -> None:
    """Serve one connection: SOCKS5 without a login, whatever its name is connected to the port."""
    near, _ = listener.accept()
    with near:
        take(near, take(near, 2)[1])
        near.sendall(b"\5\0")
        assert take(near, 4) == b"\5\1\0\3", "the name is not resolved by the proxy"
        name = take(near, take(near, 1)[0])
        asked.append((name, int.from_bytes(take(near, 2), "big")))
        near.sendall(b"\5\0\0\1\0\0\0\0\0\0")
        with socket.create_connection(("127.0.0.1", port)) as far:
            back = threading.Thread(target=pump, args=(far, near))
            back.start()
            pump(near, far)
            back.join()


with Server() as server, socket.create_server(("127.0.0.1", 0)) as listener:
    thread = threading.Thread(target=proxy, args=(listener, server.port))
    thread.start()
    given = {"http": f"socks5h://127.0.0.1:{listener.getsockname()[1]}"}
    with Client(HttpClientConfig(proxies=given, allow_http=True)) as client:
        there = f"http://{HOST}:8000/v1"
        reply = client.chat("hi", model="gpt-5.5", api_key="k", base_url=there)
        assert reply.text == "You said: hi"
    thread.join()
    assert asked == [(HOST.encode(), 8000)], asked
    assert len(server.requests) == 1
