"""What the server of the evidence says: replies of both vendors, whole, streamed and broken; pure.

A prompt begins with a word that tells the server what to do, so that whoever asks knows what must
come back. Every good reply, and every piece of a stream, repeats the prompt.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

__all__ = [
    "FAULTS",
    "chunk",
    "fault",
    "is_claude",
    "pieces_of",
    "prompt_of",
    "reply",
    "stream_events",
]

_PIECES = 20


def is_claude(target: str) -> bool:
    """Tell the vendor by the path."""
    return target.endswith("/messages")


def prompt_of(body: bytes) -> tuple[str, bool]:
    """Return the prompt of a request's body, and whether a stream is asked for."""
    asked = json.loads(body)
    content = asked["messages"][-1]["content"]
    if not isinstance(content, str):
        content = "".join(part["text"] for part in content)
    return content, bool(asked.get("stream"))


def _body(text: str, claude: bool) -> bytes:
    if claude:
        whole: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-5-5",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 3, "output_tokens": 2},
        }
    else:
        message = {"role": "assistant", "content": text}
        whole = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-5.5",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
    return json.dumps(whole).encode()


def _answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


_JSON = b"Content-Type: application/json"


def reply(text: str, claude: bool) -> bytes:
    """Return a good answer."""
    return _answer(_body(text, claude), _JSON)


def chunk(data: bytes) -> bytes:
    """Return one chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def gzipped(text: str, claude: bool) -> bytes:
    """Return a good answer that is compressed and comes in chunks."""
    body = gzip.compress(_body(text, claude))
    head = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head % _JSON + chunk(body[:20]) + chunk(body[20:]) + chunk(b"")


def _cut(text: str, claude: bool) -> bytes:
    return reply(text, claude)[:-10]


def _cut_chunk(text: str, claude: bool) -> bytes:
    head = b"HTTP/1.1 200 OK\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n" % _JSON
    return head + chunk(_body(text, claude))


def _cut_gzip(text: str, claude: bool) -> bytes:
    return _answer(gzip.compress(_body(text, claude))[:-9], _JSON, b"Content-Encoding: gzip")


def _html(text: str, claude: bool) -> bytes:
    return _answer(b"<h1>Welcome to the hotel's network</h1>", b"Content-Type: text/html")


def _no_json(text: str, claude: bool) -> bytes:
    return _answer(b'{"id": "almost", "choices": [}', _JSON)


def _status(status: bytes, *headers: bytes) -> Any:
    def answer(text: str, claude: bool) -> bytes:
        error = {"type": "api_error", "message": "The server was told to."}
        return _answer(json.dumps({"error": error}).encode(), _JSON, *headers, status=status)

    return answer


FAULTS = {
    "http500": (_status(b"500 Oops"), False),
    "http503": (_status(b"503 Busy"), False),
    "http529": (_status(b"529 Overloaded"), False),
    "http429": (_status(b"429 Slow Down", b"Retry-After: 0.001"), False),
    "http400": (_status(b"400 Bad Request"), False),
    "cut": (_cut, True),
    "cutchunk": (_cut_chunk, True),
    "cutgzip": (_cut_gzip, False),
    "html": (_html, False),
    "nojson": (_no_json, False),
}
"""Bytes in the place of a good answer, and whether the connection closes after them."""


def fault(word: str, text: str, claude: bool) -> tuple[bytes, bool]:
    """Return the bytes of a fault, and whether the connection closes after them."""
    answer, closes = FAULTS[word]
    return answer(text, claude), closes


def pieces_of(prompt: str) -> list[str]:
    """Return the pieces of the text that a stream brings."""
    return [f"{prompt} {number};" for number in range(_PIECES)]


def _event(data: Any, name: str | None = None) -> bytes:
    head = b"" if name is None else b"event: %b\n" % name.encode()
    return (
        head
        + b"data: "
        + (data if isinstance(data, bytes) else json.dumps(data).encode())
        + b"\n\n"
    )


def stream_events(prompt: str, claude: bool) -> list[bytes]:
    """Return the events of a stream; the second to the twenty-first bring text."""
    return (_claude_events if claude else _openai_events)(pieces_of(prompt))


def _openai_events(texts: list[str]) -> list[bytes]:
    def event(delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-5.5"}
        return _event({**whole, "choices": [choice]})

    return [
        event({"role": "assistant", "content": ""}),
        *[event({"content": text}) for text in texts],
        event({}, "stop"),
        _event(b"[DONE]"),
    ]


def _claude_events(texts: list[str]) -> list[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return _event({"type": kind, **fields}, kind)

    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    begun = {**message, "usage": {"input_tokens": 3, "output_tokens": 1}}
    block = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    return [
        event("message_start", message=begun) + block,
        *[
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
            for text in texts
        ],
        event("content_block_stop", index=0)
        + event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
        event("message_stop"),
    ]
