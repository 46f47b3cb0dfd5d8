"""HTTP/1.1 on a server's socket: whole requests in, bytes out."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping
from http import HTTPStatus

import attrs

__all__ = ["LAST_CHUNK", "BadRequest", "RawRequest", "Wire", "chunk", "response_head"]

LAST_CHUNK = b"0\r\n\r\n"
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}
_CHUNK = 65536
_MOST_HEADERS = 262144


class BadRequest(Exception):
    """What came is no HTTP request."""


@attrs.frozen(kw_only=True)
class RawRequest:
    """A request line with its headers, names in lower case, and the body's bytes."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


class Wire:
    """One connection, on the server's side.

    Args:
        sock: The accepted socket, its TLS handshake done where there is one.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def read_request(self) -> RawRequest | None:
        """Read the next request; None once the client closed.

        Raises:
            BadRequest: What came is no HTTP request.
            OSError: The connection broke.
        """
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        line, *rest = head.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequest(f"no HTTP request line: {line[:80]!r}")
        fields = (field.partition(":") for field in rest)
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        if headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return RawRequest(
            method=words[0],
            target=words[1],
            headers=headers,
            body=self._read_body(headers),
            keep_alive=_keeps_alive(words[2], headers.get("connection", "")),
        )

    def _read_body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._read_chunks()
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise BadRequest("Content-Length is no number")
        return self._exactly(int(length))

    def _read_chunks(self) -> bytes:
        chunks: list[bytes] = []
        while True:
            line = self._until(b"\r\n")
            try:
                size = int((line or b"").split(b";")[0], 16)
            except ValueError:
                raise BadRequest("a chunk has no size") from None
            if size == 0:
                self._until(b"\r\n")
                return b"".join(chunks)
            chunks.append(self._exactly(size))
            self._exactly(2)

    def _until(self, mark: bytes) -> bytes | None:
        while (end := self._buffer.find(mark)) < 0:
            if len(self._buffer) > _MOST_HEADERS:
                raise BadRequest("the headers are too long")
            if not self._receive():
                if self._buffer:
                    raise BadRequest("the request is cut short")
                return None
        found, self._buffer = self._buffer[:end], self._buffer[end + len(mark) :]
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._receive():
                raise BadRequest("the body is cut short")
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _receive(self) -> bool:
        received = self.sock.recv(_CHUNK)
        self._buffer += received
        return bool(received)

    def reset(self) -> None:
        """Make the coming close send a reset in place of an orderly end."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _keeps_alive(version: str, connection: str) -> bool:
    tokens = {token.strip().lower() for token in connection.split(",")}
    return "close" not in tokens if version == "HTTP/1.1" else "keep-alive" in tokens


def response_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a status line and headers, with the empty line that ends them."""
    reason = _REASONS.get(status, "Status")
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    return f"HTTP/1.1 {status} {reason}\r\n{''.join(lines)}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
