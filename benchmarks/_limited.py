"""An upstream that lets in 600 requests a minute, and refuses the rest: ``Limited``.

It counts by the first two parts of the path, so that each client has a limit of its own:
``/bucket-told/anything``. ``bucket`` refills all the time, ``window`` is full again at the end of a
minute; ``told`` says what is left in ``x-ratelimit-*``, ``hushed`` nothing but ``Retry-After``.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import multiprocessing
import random
import selectors
import socket
import time
from collections.abc import Iterator
from typing import Any

import attrs

from ._replies import BODIES

__all__ = ["LIMIT", "Limited", "serving"]

LIMIT = 600
_LATE = (0.03, 0.07)
_REFUSAL = (
    '{"error":{"message":"Too many requests","type":"requests","code":"rate_limit_exceeded"}}'
)


class _Bucket:
    """What refills all the time."""

    def __init__(self, minute: float) -> None:
        self._rate = LIMIT / minute
        self._left, self._at = float(LIMIT), time.monotonic()

    def take(self) -> tuple[bool, int, float, float]:
        """Take one; returns whether there was one, what is left, until it is full, until one is."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self._rate, LIMIT)
        self._at = now
        good = self._left >= 1
        self._left -= good
        full, one = (LIMIT - self._left) / self._rate, max(1 - self._left, 0) / self._rate
        return good, int(self._left), full, one


class _Window:
    """What is full again at the end of each minute."""

    def __init__(self, minute: float) -> None:
        self._minute, self._begun = minute, time.monotonic()
        self._number, self._left = 0, LIMIT

    def take(self) -> tuple[bool, int, float, float]:
        """Take one, as from a bucket."""
        gone = time.monotonic() - self._begun
        number = int(gone // self._minute)
        if number != self._number:
            self._number, self._left = number, LIMIT
        good = self._left >= 1
        self._left -= good
        end = (number + 1) * self._minute - gone
        return good, self._left, end, end


def _answer(path: str, told: bool, limit: Any) -> tuple[bytes, bool]:
    good, left, full, one = limit.take()
    lines = ["HTTP/1.1 200 OK" if good else "HTTP/1.1 429 Too Many Requests"]
    lines.append("Content-Type: application/json")
    if told:
        lines += [f"x-ratelimit-limit-requests: {LIMIT}", f"x-ratelimit-remaining-requests: {left}"]
        lines.append(f"x-ratelimit-reset-requests: {full * 1000:.0f}ms")
    if not good:
        lines.append(f"Retry-After: {one:.3f}")
    body = (BODIES[path] if good else _REFUSAL).encode()
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body, good


class _Server:
    """One thread that serves all connections."""

    def __init__(self, listener: socket.socket, pipe: Any, minute: float) -> None:
        self._listener, self._minute = listener, minute
        self._pipe: Any = pipe
        self._limits: dict[str, Any] = {}
        self._counts: dict[str, list[int]] = {}
        self._late: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = itertools.count()
        self._chance = random.Random(3)  # noqa: S311 - how late an answer is
        self._buffers: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        for source in (listener, pipe):
            self._selector.register(source, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until the asking process is done."""
        while True:
            for key, _ in self._selector.select(self._send_what_is_due()):
                source: Any = key.fileobj
                if source is self._pipe:
                    try:
                        self._pipe.recv()
                    except EOFError:
                        return
                    self._pipe.send(self._counts)
                elif source is self._listener:
                    sock, _ = self._listener.accept()
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._buffers[sock] = b""
                    self._selector.register(sock, selectors.EVENT_READ)
                else:
                    self._advance(source)

    def _send_what_is_due(self) -> float | None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, sock, answer = heapq.heappop(self._late)
            with contextlib.suppress(OSError):
                sock.sendall(answer)
        return max(self._late[0][0] - time.monotonic(), 0) if self._late else None

    def _advance(self, sock: Any) -> None:
        try:
            received = sock.recv(65536)
        except OSError:
            received = b""
        if not received:
            self._selector.unregister(sock)
            del self._buffers[sock]
            sock.close()
            return
        buffer = self._buffers[sock] + received
        while (whole := _complete(buffer)) and len(buffer) >= whole:
            self._reply(sock, buffer.split(b" ", 2)[1].decode())
            buffer = buffer[whole:]
        self._buffers[sock] = buffer

    def _reply(self, sock: socket.socket, target: str) -> None:
        _, setting, who, path = target.split("/", 3)
        key = f"{setting}/{who}"
        if key not in self._limits:
            kind = _Bucket if setting.startswith("bucket") else _Window
            self._limits[key], self._counts[key] = kind(self._minute), [0, 0]
        answer, good = _answer(f"/{path}", setting.endswith("told"), self._limits[key])
        self._counts[key][0] += 1
        self._counts[key][1] += not good
        due = time.monotonic() + self._chance.uniform(*_LATE)
        heapq.heappush(self._late, (due, next(self._numbers), sock, answer))


def _complete(buffer: bytes) -> int:
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = buffer[:end].lower()
    at = head.find(b"content-length:")
    return end + 4 + (int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)


def _serve(listener: socket.socket, pipe: Any, minute: float) -> None:
    _Server(listener, pipe, minute).serve()


@attrs.frozen
class Limited:
    """The upstream, as others see it.

    Attributes:
        url: Where it listens.
    """

    url: str
    _pipe: Any

    def counts(self) -> dict[str, list[int]]:
        """Return, by the first two parts of the path, what it was asked and what it refused."""
        self._pipe.send("counts")
        counts: dict[str, list[int]] = self._pipe.recv()
        return counts


@contextlib.contextmanager
def serving(minute: float) -> Iterator[Limited]:
    """Run the upstream while the block runs.

    Args:
        minute: Seconds that its minute takes.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(listener, theirs, minute), daemon=True)
    process.start()
    port = listener.getsockname()[1]
    listener.close()
    theirs.close()
    try:
        yield Limited(f"http://127.0.0.1:{port}", ours)
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.terminate()
            process.join(5)
