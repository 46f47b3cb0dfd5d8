"""A server in a process of its own that streams: at full speed, in time, or one text with a stamp.

How it streams stands at the beginning of the path, before what the vendor's API has there::

    /full/...     2,000 pieces of text, all sent at once, each event a chunk of its own
    /long/...     100,000 pieces of 100 characters, all sent at once
    /quick/...    a fifth of that
    /paced/...    100 pieces, one each millisecond
    /stamped/...  one piece, a moment after the begin: the monotonic time of its sending
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import multiprocessing
import multiprocessing.connection
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs

__all__ = ["FULL", "LONG", "PACED", "streaming"]

FULL, PACED = 2000, 100
LONG = {"long": 100_000, "quick": 20_000}
_LONG_PIECE = "0123456789" * 10
_PAUSE = 0.001
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"x-request-id: req_0123456789abcdef\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_LAST_CHUNK = b"0\r\n\r\n"


@attrs.frozen
class _Transcript:
    """How a vendor streams a reply, in chunks.

    Attributes:
        begin: What comes before the first text.
        text: Returns the event with a piece of text.
        end: Returns what comes after the whole text.
    """

    begin: bytes
    text: Callable[[str], bytes]
    end: Callable[[str], bytes]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(payload: dict[str, Any], *, named: bool = False) -> bytes:
    name = f"event: {payload['type']}\n" if named else ""
    return _chunk(f"{name}data: {json.dumps(payload, separators=(',', ':'))}\n\n".encode())


def _chat() -> _Transcript:
    head = {
        "id": "chatcmpl-0123456789",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "gpt-5.5",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }

    def piece(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**head, "choices": [choice], "usage": None, "obfuscation": "abcdefgh"})

    def end(_: str) -> bytes:
        usage = {"prompt_tokens": 10, "completion_tokens": FULL, "total_tokens": FULL + 10}
        count = _event({**head, "choices": [], "usage": usage})
        return piece({}, "stop") + count + _chunk(b"data: [DONE]\n\n")

    begin = piece({"role": "assistant", "content": "", "refusal": None})
    return _Transcript(begin, lambda text: piece({"content": text}), end)


def _claude() -> _Transcript:
    message: dict[str, Any] = {
        "id": "msg_0123456789",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }

    def event(kind: str, **fields: Any) -> bytes:
        return _event({"type": kind, **fields}, named=True)

    def text(piece: str) -> bytes:
        delta = {"type": "text_delta", "text": piece}
        return event("content_block_delta", index=0, delta=delta)

    block = {"type": "text", "text": ""}
    begin = event("message_start", message=message)
    begin += event("content_block_start", index=0, content_block=block) + event("ping")
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    end = event("content_block_stop", index=0)
    end += event("message_delta", delta=delta, usage={"output_tokens": FULL})
    end += event("message_stop")
    return _Transcript(begin, text, lambda _: end)


_RESPONSE: dict[str, Any] = {
    "id": "resp_0123456789",
    "object": "response",
    "created_at": 1_790_000_000,
    "status": "in_progress",
    "model": "gpt-5.5",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "output": [],
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "usage": None,
}


def _responses() -> _Transcript:
    numbers = itertools.count()
    place = {"item_id": "msg_0123456789", "output_index": 0, "content_index": 0}

    def event(kind: str, **fields: Any) -> bytes:
        kind = f"response.{kind}"
        return _event({"type": kind, "sequence_number": next(numbers), **fields}, named=True)

    def part(text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def item(status: str, *content: dict[str, Any]) -> dict[str, Any]:
        fields = {"id": place["item_id"], "type": "message", "role": "assistant"}
        return {**fields, "status": status, "content": content}

    def text(piece: str) -> bytes:
        more = {"delta": piece, "logprobs": [], "obfuscation": "abcdefgh"}
        return event("output_text.delta", **place, **more)

    def end(whole: str) -> bytes:
        done = item("completed", part(whole))
        details = {"cached_tokens": 0}, {"reasoning_tokens": 0}
        usage: dict[str, Any] = {"input_tokens": 10, "input_tokens_details": details[0]}
        usage |= {"output_tokens": FULL, "output_tokens_details": details[1]}
        usage["total_tokens"] = FULL + 10
        last = {**_RESPONSE, "status": "completed", "output": [done], "usage": usage}
        events = event("output_text.done", **place, text=whole, logprobs=[])
        events += event("content_part.done", **place, part=part(whole))
        events += event("output_item.done", output_index=0, item=done)
        return events + event("completed", response=last)

    begin = event("created", response=_RESPONSE) + event("in_progress", response=_RESPONSE)
    begin += event("output_item.added", output_index=0, item=item("in_progress"))
    begin += event("content_part.added", **place, part=part(""))
    return _Transcript(begin, text, end)


@functools.lru_cache
def _whole(how: str, api: str) -> bytes:
    """Return a stream that is sent at once; made once, so that the server is no bottleneck."""
    pieces = [f"word{number} " for number in range(FULL)]
    if how in LONG:
        pieces = [_LONG_PIECE] * LONG[how]
    transcript = _TRANSCRIPTS[api]()
    texts = b"".join([transcript.text(piece) for piece in pieces])
    return _HEAD + transcript.begin + texts + transcript.end("".join(pieces)) + _LAST_CHUNK


def _send_in_time(sock: socket.socket, how: str, api: str) -> None:
    transcript = _TRANSCRIPTS[api]()
    sock.sendall(_HEAD + transcript.begin)
    said = ""
    for number in range(PACED if how == "paced" else 1):
        time.sleep(_PAUSE)
        piece = f"word{number} " if how == "paced" else f"{time.monotonic()!r} "
        sock.sendall(transcript.text(piece))
        said += piece
    sock.sendall(transcript.end(said) + _LAST_CHUNK)


_TRANSCRIPTS = {"completions": _chat, "messages": _claude, "responses": _responses}


def _talk(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with sock, contextlib.suppress(OSError), sock.makefile("rb") as requests:
        while line := requests.readline():
            length = 0
            while (header := requests.readline().strip().lower()) != b"":
                if header.startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            requests.read(length)
            _, how, *_, api = line.split()[1].decode().split("/")
            if how == "full" or how in LONG:
                sock.sendall(_whole(how, api))
            else:
                _send_in_time(sock, how, api)


def _serve(listener: socket.socket, pipe: multiprocessing.connection.Connection) -> None:
    """Serve until the other end of the pipe is closed."""

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=_talk, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with contextlib.suppress(EOFError):
        pipe.recv()


@contextlib.contextmanager
def streaming() -> Iterator[str]:
    """Run the server while the block runs; yields its URL, without a path."""
    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(listener, theirs), daemon=True
    )
    process.start()
    port = listener.getsockname()[1]
    listener.close()
    theirs.close()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.terminate()
            process.join(5)
