"""What the rows and tests of streams share: both vendors' events, and ways to frame a body."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeAlias

import attrs

from .harness import Bench, Peer

__all__ = [
    "CHUNKED",
    "CLAUDE",
    "FRAMINGS",
    "OPENAI",
    "TO_THE_CLOSE",
    "VENDORS",
    "Claude",
    "Framing",
    "OpenAI",
    "Step",
    "Vendor",
    "answer_with",
    "event",
    "frame",
    "ways",
]

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def event(payload: Any, name: str = "") -> bytes:
    """Return the bytes of one event; text goes out as UTF-8, not escaped."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(payload, ensure_ascii=False)}\n\n".encode()


class OpenAI:
    """Chunks of a chat completion.

    Attributes:
        model: Whose stream it is asked for as.
        end: The end mark.
        ping: Something that keeps the connection busy.
        overloaded: An error that is worth another attempt.
        status: The status that this error would have had.
    """

    model: ClassVar[str] = "gpt-5.5"
    end: ClassVar[bytes] = b"data: [DONE]\n\n"
    ping: ClassVar[bytes] = b": still here\n\n"
    status: ClassVar[int] = 500
    usage: ClassVar[dict[str, int]] = {"prompt_tokens": 3, "completion_tokens": 2}

    def _chunk(self, *choices: dict[str, Any], **more: Any) -> bytes:
        head = {"id": "r1", "object": "chat.completion.chunk", "created": 1, "model": "m1"}
        return event({**head, "choices": choices, **more})

    def _delta(self, delta: dict[str, str], reason: str | None = None) -> bytes:
        return self._chunk({"index": 0, "delta": delta, "finish_reason": reason})

    def begin(self) -> bytes:
        """Return what comes before the first part of the reply."""
        return self._delta({"role": "assistant", "content": ""})

    def text(self, *pieces: str) -> bytes:
        """Return events with text."""
        return b"".join([self._delta({"content": piece}) for piece in pieces])

    def finish(self) -> bytes:
        """Return the reason of the end."""
        return self._delta({}, "stop")

    def count(self) -> bytes:
        """Return what comes with ``include_usage`` only: a chunk without a choice."""
        return self._chunk(usage=self.usage)

    def error(self, kind: str = "server_error", message: str = "The server failed.") -> bytes:
        """Return an error in the middle of a stream."""
        return event({"error": {"message": message, "type": kind, "param": None, "code": None}})


class Claude:
    """Events of a Claude message; attributes and methods are those of ``OpenAI``."""

    model: ClassVar[str] = "claude-opus-5-5"
    end: ClassVar[bytes] = event({"type": "message_stop"}, "message_stop")
    ping: ClassVar[bytes] = event({"type": "ping"}, "ping")
    status: ClassVar[int] = 529

    def _event(self, kind: str, **fields: Any) -> bytes:
        return event({"type": kind, **fields}, kind)

    def begin(self) -> bytes:
        """Return what comes before the first part of the reply."""
        message = {"id": "r1", "type": "message", "role": "assistant", "model": "m1"}
        usage = {"input_tokens": 3, "output_tokens": 1}
        block = {"type": "text", "text": ""}
        return (
            self._event("message_start", message={**message, "content": [], "usage": usage})
            + self._event("content_block_start", index=0, content_block=block)
            + self.ping
        )

    def text(self, *pieces: str) -> bytes:
        """Return events with text."""
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        return b"".join(
            [self._event("content_block_delta", index=0, delta=delta) for delta in deltas]
        )

    def finish(self) -> bytes:
        """Return the reason of the end."""
        delta = {"stop_reason": "stop", "stop_sequence": None}
        return self._event("content_block_stop", index=0) + self._event(
            "message_delta", delta=delta, usage={"output_tokens": 2}
        )

    def count(self) -> bytes:
        """Return nothing: the usage came with the finish."""
        return b""

    def error(self, kind: str = "overloaded_error", message: str = "Overloaded") -> bytes:
        """Return an error in the middle of a stream."""
        return self._event("error", error={"type": kind, "message": message})


Vendor: TypeAlias = "OpenAI | Claude"
OPENAI, CLAUDE = OpenAI(), Claude()
VENDORS = (OPENAI, CLAUDE)


@attrs.frozen
class Framing:
    """How a body is framed.

    Attributes:
        name: Its name.
        headers: The lines that say so.
        frame: Frames some of its bytes.
        end: What ends it.
    """

    name: str
    headers: bytes
    frame: Callable[[bytes], bytes]
    end: bytes

    def head(self, headers: bytes = b"") -> bytes:
        """Return the head of an answer; ``headers`` are more lines, each with its CRLF."""
        return _OK + self.headers + headers + b"\r\n"


def frame(data: bytes) -> bytes:
    """Return bytes as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = Framing("chunked", b"Transfer-Encoding: chunked\r\n", frame, b"0\r\n\r\n")
TO_THE_CLOSE = Framing("to-the-close", b"", bytes, b"")
FRAMINGS = (CHUNKED, TO_THE_CLOSE)

Step: TypeAlias = "bytes | Callable[[Peer], object]"


def answer_with(
    framing: Framing, *steps: Step, headers: bytes = b""
) -> Callable[[Peer, bytes], None]:
    """Return how a server answers: the head, then bytes framed one by one, or what else to do."""

    def answer(peer: Peer, _: bytes) -> None:
        peer.send(framing.head(headers))
        for step in steps:
            if callable(step):
                step(peer)
            else:
                peer.send(framing.frame(step))

    return answer


def ways(bench: Bench) -> Iterator[tuple[Vendor, Framing]]:
    """Iterate over vendors and framings; only ours speaks both vendors' APIs."""
    return itertools.product(VENDORS if bench.ours else (OPENAI,), FRAMINGS)
