"""A server that a test tells what to answer, and that keeps what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from tests.faults.harness import Peer, RawServer

__all__ = ["Answer", "Canned", "Request"]

Answer: TypeAlias = "Callable[[Request], tuple[int, dict[str, str], Any]]"


class Request:
    """One request as the server saw it."""

    def __init__(self, raw: bytes) -> None:
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}
        self.body = json.loads(body) if body else None


class Canned:
    """Answers each request with what ``answer`` returns: status, headers, and an object or bytes.

    Attributes:
        seen: The requests so far.
        answer: Makes an answer; a test sets it.
    """

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.answer: Answer = lambda _: (404, {}, {})
        self.raw = RawServer(self._handle)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return self.raw.url

    def close(self) -> None:
        """End it."""
        self.raw.close()

    def _handle(self, peer: Peer) -> None:
        while (raw := peer.read_request()) is not None:
            request = Request(raw)
            self.seen.append(request)
            status, headers, payload = self.answer(request)
            body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            given = {"Content-Type": "application/json", **headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
            peer.send(
                f"HTTP/1.1 {status} X\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            )
