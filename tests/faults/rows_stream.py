"""Faults of streams (F53 to F59)."""

from __future__ import annotations

import functools
import itertools
import json
import pickle
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import termai_http
from termai_http import Limits, RetryConfig

from .connecting import Authority, secure
from .harness import KEY, PROMPT, Bench, Peer, RawServer, Seen, row
from .streaming import (
    CHUNKED,
    CLAUDE,
    FRAMINGS,
    OPENAI,
    TO_THE_CLOSE,
    VENDORS,
    Framing,
    Step,
    Vendor,
    answer_with,
    ways,
)

_PATIENCE = 20.0
_MIB = 1024 * 1024
_UNREAL = "The stream was to be interrupted by the server."


def _server(bench: Bench, framing: Framing, *steps: Step, headers: bytes = b"") -> RawServer:
    """Answer every request so, and close."""
    return bench.answering(answer_with(framing, *steps, headers=headers), close=True)


def _end(framing: Framing) -> Step:
    """Return the step that ends a body as its framing wants it."""
    return lambda peer: peer.send(framing.end)


def _asked(server: RawServer) -> str:
    return f"asked {len(server.requests)} times"


def _must_bring(bench: Bench, seen: Seen, text: str) -> None:
    """Check that a stream ended well, with just this text."""
    seen.must_be("reply")
    bench.must(seen.text == text, f"the text {seen.text!r}")


def _must_break(
    bench: Bench,
    server: RawServer,
    vendor: Vendor,
    text: str,
    cause: str,
    *,
    timeout: float = 5,
    **config: Any,
) -> None:
    """Check that a stream ends by a typed error after this text, and is not asked for again.

    Args:
        bench: The bench.
        server: What breaks it.
        vendor: Whose dialect is spoken.
        text: What comes before.
        cause: The class of error that the message names.
        timeout: Of the stream.
        config: Of the client.
    """
    client = bench.client(**config)
    seen = bench.stream(server.url, timeout, client, model=vendor.model)
    seen.must_be("interrupted", "timeout", "connection", "invalid", "status", "other")
    bench.must(seen.text == text, f"the text {seen.text!r} and {seen.name}")
    bench.must(len(server.requests) == 1, _asked(server))
    if not bench.ours:
        return
    error = seen.error
    assert type(error) is termai_http.StreamInterrupted, error
    assert error.partial == text
    assert f"after {len(text)} characters: {cause}: " in error.message
    assert (error.attempts, error.status_code, error.model) == (1, 200, vendor.model)
    assert error.maybe_billed
    assert error.elapsed is not None
    copy = pickle.loads(pickle.dumps(error))
    assert (vars(copy), str(copy)) == (vars(error), str(error))
    calls = client.stats().calls
    assert (calls.total_retries, calls.failures_by_class) == (0, {"StreamInterrupted": 1})


def _cut_in_characters(data: bytes) -> list[bytes]:
    """Cut after the first byte of every character that has more."""
    cuts = [at + 1 for at, byte in enumerate(data) if byte >= 0xC0]
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@row(
    "F53",
    fault="characters of several bytes are cut between chunks, or packets; separators of lines "
    "(U+0085, U+2028) stand in the text",
    promise="the text comes out as it was sent",
)
def cut_characters(bench: Bench) -> None:
    """Cut within every character, and between all bytes."""
    pieces = ("Grüße ", "🎉", "\u0085日本\u2028語\u2029", "é", "\x0b\x1c")
    for vendor, framing in ways(bench):
        data = vendor.begin() + vendor.text(*pieces) + vendor.finish() + vendor.end
        cut: list[Step] = []
        for piece in _cut_in_characters(data):
            # Sent at once, they could come as one.
            cut += [piece, lambda peer: peer.wait(0.002)]
        variants = [cut, _byte_by_byte(data)] if framing is CHUNKED else [cut]
        for steps in variants:
            server = _server(bench, framing, *steps, _end(framing))
            seen = bench.stream(server.url, 5, model=vendor.model)
            _must_bring(bench, seen, "".join(pieces))


def _in_lines(vendor: Vendor) -> bytes:
    """Return a stream whose events have their JSON on several lines."""
    lines: list[str] = []
    for one in _whole(vendor).decode().split("\n"):
        field, _, value = one.partition(": ")
        if field == "data" and value.startswith("{"):
            lines += [f"data: {part}" for part in json.dumps(json.loads(value), indent=1).split("\n")]
        else:
            lines.append(one)
    return "\n".join(lines).encode()


def _whole(vendor: Vendor, *pieces: str) -> bytes:
    return vendor.begin() + vendor.text(*pieces or ("one ", "two")) + vendor.finish() + vendor.end


def _spellings(vendor: Vendor) -> dict[str, bytes]:
    """Return the same stream in every spelling that the rules for such streams allow."""
    data = _whole(vendor)
    return {
        "lines that end in CR LF": data.replace(b"\n", b"\r\n"),
        "comments": b": hello\n:\n\n" + data.replace(b"\n\n", b"\n: comment: x\n\n:\n"),
        "other fields": data.replace(b"data:", b"id: 7\nretry: 10\nother: x\ndata\ndata:", 0)
        + b"id: 7\nretry: 10\nodd\n\n",
        "ids before the data": data.replace(b"data:", b"id: 7\nretry: 10\nodd\ndata:"),
        "no space after the colon": data.replace(b"data: ", b"data:").replace(b"t: ", b"t:"),
        "no blank line at the end": data.removesuffix(b"\n"),
        "no line end at the end": data.removesuffix(b"\n\n"),
        "lines that end in CR": data.replace(b"\n", b"\r"),
        "every line end": data.replace(b"\n\n", b"\r\n\r").replace(b"\n", b"\r\n"),
        "JSON on several lines": _in_lines(vendor),
        "a byte order mark": b"\xef\xbb\xbf" + data,
    }


@row(
    "F54",
    fault="the events are written in any way that the rules allow: CR LF cut in two, CR alone, "
    "comments, several data lines, a byte order mark; the last blank line is missing",
    promise="the same text, however they are written; a last event without its blank line counts",
    argument="the rules drop such an event. Where it is the end mark, the reply is complete; where "
    "it is text, it is handed out, and StreamInterrupted follows all the same.",
)
def ways_to_write_events(bench: Bench) -> None:
    """Send each spelling whole, and byte by byte."""
    for vendor in VENDORS if bench.ours else (OPENAI,):
        for name, data in _spellings(vendor).items():
            for framing, steps in (
                (CHUNKED, _byte_by_byte(data)),
                (TO_THE_CLOSE, [data]),
            ):
                server = _server(bench, framing, *steps, _end(framing))
                seen = bench.stream(server.url, 5, model=vendor.model)
                told = f"{seen.name} with {seen.text!r}: {name}"
                bench.must(seen.kind == "reply" and seen.text == "one two", told)
        if bench.ours:
            begun = (vendor.begin() + vendor.text("one", "two")).removesuffix(b"\n")
            for framing in FRAMINGS:
                server = _server(bench, framing, begun, _end(framing))
                _must_break(bench, server, vendor, "onetwo", "TruncatedResponse")


@row(
    "F55",
    fault="the next piece comes only after the reader has the last one, on bodies of any framing",
    promise="each piece comes out in the moment it arrives",
)
def pieces_in_time(bench: Bench) -> None:
    """Send each piece once the one before it was seen, with half an event behind it."""
    authority = Authority(bench)
    pieces = ("one", "two", "three")
    for vendor, framing in ways(bench):
        for context in (None, authority.context()) if bench.ours else (None,):
            seen_pieces = threading.Semaphore(0)
            sent = [vendor.begin(), *(vendor.text(piece) for piece in pieces)]
            answer = answer_with(framing, *_one_by_one(sent, seen_pieces), _ending(vendor, framing))

            def handle(
                peer: Peer, context: Any = context, answer: Callable[..., None] = answer
            ) -> None:
                if context is not None:
                    secure(peer, context)
                answer(peer, peer.read_request() or b"")

            server = bench.serve(handle)
            # Whoever waits for more than a piece must not hold up the end of the row.
            bench.cleanup(seen_pieces.release, 9)
            seen = bench.stream(
                server.url if context is None else server.tls_url,
                2,
                bench.client(ca_bundle=authority.bundle),
                on_piece=lambda piece, seen_pieces=seen_pieces: (  # type: ignore[misc]
                    seen_pieces.release() if piece else None
                ),
                model=vendor.model,
            )
            _must_bring(bench, seen, "".join(pieces))


def _one_by_one(sent: list[bytes], seen: threading.Semaphore) -> Iterator[Step]:
    """Yield steps that send some events, each with half of the next, once the last was seen."""
    yield sent[0] + sent[1] + sent[2][:20]
    for at in range(2, len(sent)):
        yield lambda _: seen.acquire(timeout=_PATIENCE)
        following = sent[at + 1][:20] if at + 1 < len(sent) else b""
        yield sent[at][20:] + following
    yield lambda _: seen.acquire(timeout=_PATIENCE)


def _ending(vendor: Vendor, framing: Framing) -> Step:
    return lambda peer: peer.send(framing.frame(vendor.finish() + vendor.end) + framing.end)
