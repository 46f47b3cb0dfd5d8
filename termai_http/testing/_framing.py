"""Answers as bytes: heads, and bodies in one piece or as the chunks of a stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping

import attrs

from ._events import Event
from ._replies import Reply
from ._wire import Wire, chunk, response_head

__all__ = ["CHUNKED", "Delivery", "encoded", "head", "payload", "stream_parts", "whole"]

CHUNKED = {"Transfer-Encoding": "chunked"}
_EVENTS = "text/event-stream; charset=utf-8"


@attrs.frozen(kw_only=True)
class Delivery:
    """A good reply on its way to the client.

    Attributes:
        wire: The connection.
        good: The reply.
        pace: Seconds between the events of a stream.
        stopping: Set when the server closes; ends every wait.
    """

    wire: Wire
    good: Reply
    pace: float
    stopping: threading.Event

    def send(self, *parts: bytes, pace: float = 0.0) -> bool:
        """Send parts, ``pace`` seconds apart; False where the server closed in between."""
        if not pace:
            self.wire.sock.sendall(b"".join(parts))
            return True
        for at, part in enumerate(parts):
            if at and self.stopping.wait(pace):
                return False
            self.wire.sock.sendall(part)
        return True

    def silence(self) -> bool:
        """Wait until the client gives up, or the server closes and shuts the socket down."""
        self.wire.sock.recv(1)
        return False


def payload(reply: Reply) -> tuple[bytes, str]:
    """Return a reply's body and its content type; a stream's where there is one."""
    if reply.streamed is not None:
        return b"".join(encoded(reply.streamed.events)), _EVENTS
    if isinstance(reply.body, bytes):
        return reply.body, "text/plain"
    if isinstance(reply.body, str):
        return reply.body.encode(), "text/plain; charset=utf-8"
    return json.dumps(reply.body).encode(), "application/json"


def encoded(events: Iterable[Event]) -> list[bytes]:
    """Return events as they go out."""
    return [event.encoded() for event in events]


def head(reply: Reply, kind: str, framing: Mapping[str, str]) -> bytes:
    """Return the header block of a reply.

    Args:
        reply: The reply.
        kind: Its content type.
        framing: The headers that say where the body ends.
    """
    fields: dict[str, str] = {"Content-Type": kind, **reply.headers, **framing}
    return response_head(reply.status, fields.items())


def whole(reply: Reply) -> bytes:
    """Return a reply with its length."""
    body, kind = payload(reply)
    return head(reply, kind, {"Content-Length": str(len(body))}) + body


def stream_parts(reply: Reply, pieces: Iterable[bytes], end: bytes) -> list[bytes]:
    """Return a stream as what is sent at once: the head with the first piece, and so on.

    Args:
        reply: The reply.
        pieces: Pieces of the body, each of which becomes a chunk.
        end: What stands after the last of them.
    """
    parts = [chunk(piece) for piece in pieces] or [b""]
    parts[0] = head(reply, _EVENTS, {"Cache-Control": "no-cache", **CHUNKED}) + parts[0]
    parts[-1] += end
    return parts
