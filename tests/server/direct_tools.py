"""What the tests of the direct way share: clients on either way, servers, and how a call ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import attrs

import termai_http
from termai_http import Client, HttpClientConfig, RetryConfig, _transport
from termai_http._direct import DirectAnswer, send_direct
from tests.faults.harness import KEY, PROMPT, Peer, RawServer

__all__ = [
    "ONCE",
    "SHORT",
    "WAYS",
    "Ended",
    "Playing",
    "answer",
    "ask",
    "chunks",
    "client_on",
    "end_of",
    "must_be_given_back",
    "quiet",
    "short_body",
    "watch_ways",
]

WAYS = ("direct", "ordinary")
ONCE = RetryConfig(max_attempts=1)
SHORT: dict[str, Any] = {"model": "gpt-5.5", "api_key": KEY}


def short_body(text: str = "fine") -> bytes:
    """Return a body that a reply can be read from, and no byte more."""
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def answer(
    body: bytes | None = None, headers: bytes = b"", status: bytes = b"200 OK", length: bool = True
) -> bytes:
    """Return a whole answer; ``headers`` are more lines, each with its CRLF."""
    body = short_body() if body is None else body
    head = b"HTTP/1.1 %b\r\n%b" % (status, headers)
    return head + (b"Content-Length: %d\r\n" % len(body) if length else b"") + b"\r\n" + body


def chunks(body: bytes, size: int = 7) -> bytes:
    """Return a body in chunks, the last one included."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@contextlib.contextmanager
def client_on(way: str, **config: Any) -> Iterator[Client]:
    """Make a client whose calls go one way or the other."""
    with mock.patch.dict(os.environ, TERMAI_HTTP_DIRECT="1" if way == "direct" else "0"):
        made = Client(HttpClientConfig(**{"trust_env": False, "retry": ONCE, **config}))
        # Read here, once.
        assert made.session is not None
    with made:
        yield made


@contextlib.contextmanager
def watch_ways() -> Iterator[list[bool]]:
    """Note each attempt that the direct way is offered, and whether it led there."""
    went: list[bool] = []

    def watched(*args: Any, **kwargs: Any) -> DirectAnswer | None:
        went.append(True)
        at = len(went) - 1
        answered = send_direct(*args, **kwargs)
        went[at] = answered is not None
        return answered

    with mock.patch.object(_transport, "send_direct", watched):
        yield went


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let no log of urllib3's be wanted, whatever a bench listens to: that keeps calls off."""
    log = logging.getLogger("urllib3.connectionpool")
    before = log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)


class Playing(RawServer):
    """Reads requests, records them, and plays ``play`` for each; a test sets that.

    Attributes:
        play: Answers one request; with False the connection closes.
    """

    def __init__(self, play: Callable[[Peer], object], host: str = "127.0.0.1") -> None:
        self.play = play
        super().__init__(self._played, host)

    def _played(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            self.requests.append(request)
            if self.play(peer) is False:
                with contextlib.suppress(OSError):
                    # Without a reset, which could overtake what was sent.
                    peer.sock.shutdown(socket.SHUT_WR)
                    while peer.sock.recv(65536):
                        pass
                return

    def __enter__(self) -> Playing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@attrs.frozen(kw_only=True)
class Ended:
    """How a call ended, in all that both ways must have alike."""

    kind: str
    text: str
    fields: dict[str, Any]


_OF_REPLY = ("status_code", "request_id", "headers", "attempts", "raw", "model", "id")
_OF_ERROR = (
    *("status_code", "request_id", "attempts", "maybe_billed", "phase", "retry_after", "body"),
    *("code", "provider", "model"),
)


def end_of(call: Callable[[], Any]) -> Ended:
    """Make a call and tell how it ended."""
    try:
        reply = call()
    except termai_http.TermaiHttpError as error:
        fields = {name: getattr(error, name) for name in _OF_ERROR}
        return Ended(kind=type(error).__name__, text=error.message, fields=fields)
    return Ended(
        kind="reply", text=reply.text, fields={name: getattr(reply, name) for name in _OF_REPLY}
    )


def ask(client: Client, url: str, prompt: str = PROMPT, **options: Any) -> Any:
    """Make a chat with the canaries."""
    return client.chat(prompt, base_url=url, **{**SHORT, **options})


def must_be_given_back(client: Client) -> None:
    """Check that nothing counts as in use any more."""
    stats = client.stats()
    assert (stats.active_connections, stats.waiting, stats.calls.in_flight) == (0, 0, 0)
