"""Runs the example project under a real gunicorn, before a loopback server and a raw upstream."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.gunicorn_process import gunicorn_process

PROJECT = Path(__file__).parents[3] / "examples" / "django_project"
PATIENCE = 30.0

SETTINGS = """
from chatsite.settings import *

TERMAI_HTTP = {**TERMAI_HTTP, "MAX_CONNECTIONS": 8, "HEARTBEAT": 0.05, "TRUST_ENV": False}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""
# With preload_app the parent calls a model, too, before it forks.
CONFIGURATION = """
bind = "127.0.0.1:0"
workers = {workers}
worker_class = {worker_class!r}
threads = {threads}
# A gthread worker takes no more requests than it has threads, so several workers share them.
worker_connections = {threads} if worker_class == "gthread" else 1000
preload_app = {preload}
control_socket_disable = True
graceful_timeout = 5


def when_ready(server):
    if server.cfg.preload_app:
        import termai_http

        assert termai_http.chat("preload", model="gpt-5.5").text == "You said: preload"
"""
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nrequest-id: req_1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
}
_BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}


def _chunk(event: dict[str, Any]) -> bytes:
    data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def _word(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return _chunk({"type": "content_block_delta", "index": 0, "delta": delta})


class EndlessModel:
    """A Claude that never ends its reply, and notices when its client goes.

    A prompt with ``talk`` in it gets a word every 20 ms, any other one word and then silence.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.gone = threading.Semaphore(0)
        self._over = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            asked = b""
            while b'"stream"' not in asked or b"}" not in asked:
                asked += sock.recv(65536)
            sock.sendall(_HEAD + _chunk(_START) + _chunk(_BLOCK) + _word("word "))
            sock.settimeout(0.02 if b"talk" in asked else None)
            while not self._over.is_set():
                try:
                    if not sock.recv(1):
                        break
                except TimeoutError:
                    sock.sendall(_word("word "))
        self.gone.release()

    def close(self) -> None:
        """Stop listening."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(PATIENCE)


class Site:
    """The project while gunicorn serves it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, not yet open."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def post(self, path: str, **asked: Any) -> http.client.HTTPResponse:
        """Post JSON on a connection of its own; the answer's body is not read yet."""
        connection = self.connect()
        connection.request("POST", path, json.dumps(asked), {"Connection": "close"})
        return connection.getresponse()

    def ask(self, path: str, prompt: str) -> Any:
        """Post a prompt and return the JSON of the answer."""
        with self.post(path, prompt=prompt) as answer:
            body = answer.read()
            assert answer.status == 200, body
            return json.loads(body)


@contextlib.contextmanager
def gunicorn(folder: Path, environ: dict[str, str], **configured: Any) -> Iterator[Site]:
    """Serve the project; what it logs as an error fails the test.

    Args:
        folder: For settings and configuration.
        environ: Variables to add.
        **configured: ``workers``, ``worker_class``, ``threads``, ``preload``.
    """
    (folder / "site_settings.py").write_text(SETTINGS)
    (folder / "gunicorn.conf.py").write_text(CONFIGURATION.format(**configured))
    paths = os.pathsep.join([str(folder), str(PROJECT), str(PROJECT.parents[1])])
    environ = {**os.environ, "PYTHONPATH": paths, **environ}
    environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
    arguments = ("-c", str(folder / "gunicorn.conf.py"), "chatsite.wsgi")
    with gunicorn_process(*arguments, folder=folder, environ=environ, patience=PATIENCE) as (
        port,
        _,
    ):
        yield Site(port)
