"""Faults of streams (F53 to F59)."""

from __future__ import annotations

import contextlib
import functools
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
_LIMIT = 512 * 1024
_CLASSES = {500: termai_http.InternalServerError, 529: termai_http.OverloadedError}


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
    on_piece: Callable[[str], object] = lambda piece: None,
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
        on_piece: Called with each piece.
        config: Of the client.
    """
    client = bench.client(**config)
    seen = bench.stream(server.url, timeout, client, on_piece=on_piece, model=vendor.model)
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
            lines += [
                f"data: {part}" for part in json.dumps(json.loads(value), indent=1).split("\n")
            ]
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
        "comments": b": hello\n:\n\n" + data.replace(b"\n\n", b"\n: data: x\n\n:\n"),
        "further fields": data.replace(b"data:", b"id: 7\nretry: 10\nodd\ndata:"),
        "no space after the colon": data.replace(b"data: ", b"data:").replace(b"t: ", b"t:"),
        "no blank line at the end": data.removesuffix(b"\n"),
        "no line end at the end": data.removesuffix(b"\n\n"),
        "lines that end in CR": data.replace(b"\n", b"\r"),
        "CR, then CR LF": data.replace(b"\n\n", b"\r\r\n"),
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


@row(
    "F56",
    fault="an error event comes in a stream that began with 200",
    promise="before the first part of the reply it is what its status would be: tried again or "
    "not, then that class; after it StreamInterrupted with the text so far, sent once",
)
def error_in_a_stream(bench: Bench) -> None:
    """Send errors before and after the first text, and leave the connection open."""
    # Servers repeat what they were sent.
    message = f"Sorry: {KEY} asked {PROMPT}" if bench.ours else "Sorry."
    for vendor, framing in ways(bench):
        error = vendor.error(message=message)
        begun = vendor.begin() + vendor.text("one")
        server = _server(bench, framing, begun, error, Peer.wait)
        _must_break(bench, server, vendor, "one", _CLASSES[vendor.status].__name__)
        server = _server(bench, framing, vendor.begin(), error, Peer.wait)
        client = bench.client()
        seen = bench.stream(server.url, 5, client, model=vendor.model)
        seen.must_be("status", "other")
        bench.must(len(server.requests) == 3, _asked(server))
        if bench.ours:
            assert isinstance(seen.error, termai_http.APIStatusError)
            assert type(seen.error) is _CLASSES[vendor.status]
            assert (seen.error.attempts, seen.error.status_code) == (3, vendor.status)
            assert client.stats().calls.retries_by_cause == {str(vendor.status): 2}
    if bench.ours:
        _check_errors_at_the_begin(bench)


def _check_errors_at_the_begin(bench: Bench) -> None:
    for vendor, kind, cls in (
        (OPENAI, "invalid_request_error", termai_http.BadRequestError),
        (OPENAI, "insufficient_quota", termai_http.QuotaExceededError),
        (CLAUDE, "authentication_error", termai_http.AuthenticationError),
    ):
        server = _server(bench, CHUNKED, vendor.error(kind), Peer.wait)
        seen = bench.stream(server.url, 5, model=vendor.model).must_be("status")
        assert type(seen.error) is cls
        assert len(server.requests) == 1
    for vendor in VENDORS:
        failing = answer_with(CHUNKED, vendor.error())
        server = _failing_once(bench, vendor, failing)
        client = bench.client()
        seen = bench.stream(server.url, 5, client, model=vendor.model)
        _must_bring(bench, seen, "one two")
        assert client.stats().calls.retries_by_cause == {str(vendor.status): 1}


def _failing_once(
    bench: Bench, vendor: Vendor, failing: Callable[[Peer, bytes], None]
) -> RawServer:
    """Fail the first request so, and stream the whole reply to the next."""
    good = answer_with(CHUNKED, _whole(vendor), _end(CHUNKED))

    def answer(peer: Peer, request: bytes) -> None:
        (failing if peer.number == 1 else good)(peer, request)

    return bench.answering(answer, close=True)


@row(
    "F57",
    fault="the connection is closed or reset after 200, before the first part of the reply",
    promise="sent again once, since it may have been processed; then TruncatedResponse (or "
    "APIConnectionError where a reset took the head along), maybe_billed",
)
def drop_before_the_first_event(bench: Bench) -> None:
    """Drop after the head, and after events that are no part of the reply."""
    for vendor, framing in ways(bench):
        for begun in ((), (vendor.begin(), vendor.ping)):
            for drop in ((), (Peer.reset,)):
                server = _server(bench, framing, *begun, *drop)
                seen = bench.stream(server.url, 5, model=vendor.model)
                seen.must_be("invalid", "connection")
                bench.must(len(server.requests) == 2, f"{seen.name}, {_asked(server)}")
                if bench.ours:
                    _check_dropped(seen, reset=bool(drop))
        failing = answer_with(framing, vendor.begin())
        server, client = _failing_once(bench, vendor, failing), bench.client()
        seen = bench.stream(server.url, 5, client, model=vendor.model)
        _must_bring(bench, seen, "one two")
        if bench.ours:
            assert client.stats().calls.retries_by_cause == {"ambiguous": 1}
            strict = bench.client(retry=RetryConfig(ambiguous_retries=0))
            server = _failing_once(bench, vendor, failing)
            bench.stream(server.url, 5, strict, model=vendor.model).must_be("invalid")
            assert len(server.requests) == 1


def _check_dropped(seen: Seen, *, reset: bool) -> None:
    error = seen.error
    # A reset may throw away what came before it was read.
    lost = reset and type(error) is termai_http.APIConnectionError
    assert lost or type(error) is termai_http.TruncatedResponse, error
    assert isinstance(error, termai_http.TermaiHttpError)
    assert (error.attempts, error.maybe_billed) == (2, True)


@row(
    "F58",
    fault="the connection drops, stalls or ends after the first part, without the end mark",
    promise="StreamInterrupted with the text so far, sent once; a stall ends by read_timeout, "
    "which every ping resets, or the deadline, which none does; an end after the finish "
    "reason is a good one",
)
def drop_after_an_event(bench: Bench) -> None:
    """Break the stream in every way after a piece."""
    for vendor, framing in ways(bench):
        begun, got = vendor.begin() + vendor.text("one"), threading.Event()
        # A reset throws away what was not read.
        reset: tuple[Step, ...] = (lambda _, got=got: got.wait(_PATIENCE), Peer.reset)  # type: ignore[misc]
        for ending in ((), reset, (_end(framing),), (vendor.text("x")[:-9], _end(framing))):
            got.clear()
            server = _server(bench, framing, begun, *ending)
            _must_break(
                bench,
                server,
                vendor,
                "one",
                "TruncatedResponse",
                on_piece=lambda piece, got=got: got.set() if piece else None,  # type: ignore[misc]
            )
        good = begun + vendor.finish() + vendor.count()
        server = _server(bench, framing, good, _end(framing))
        _must_bring(bench, bench.stream(server.url, 5, model=vendor.model), "one")
    _check_silence(bench)


def _check_silence(bench: Bench) -> None:
    # Either vendor, either framing: waiting takes time.
    for vendor, framing in list(ways(bench))[1:3]:
        begun = vendor.begin() + vendor.text("one")
        server = _server(bench, framing, begun, Peer.wait)
        _must_break(bench, server, vendor, "one", "ReadTimeout", read_timeout=0.25)
        server = _server(bench, framing, begun, *_pings(vendor, 100))
        _must_break(bench, server, vendor, "one", "DeadlineExceeded", timeout=0.4, read_timeout=0.3)
    server = _server(bench, framing, begun, Peer.wait)
    _must_break(bench, server, vendor, "one", "DeadlineExceeded", timeout=0.4)
    server = _server(bench, framing, begun, *_pings(vendor, 9), _ending(vendor, framing))
    patient = bench.client(read_timeout=0.4)
    seen = bench.stream(server.url, 5, patient, model=vendor.model)
    _must_bring(bench, seen, "one")


def _pings(vendor: Vendor, number: int) -> list[Step]:
    """Return the steps that send so many pings, one each 50 ms."""
    return [vendor.ping, lambda peer: peer.wait(0.05)] * number


@row(
    "F59",
    fault="a line, an event or a stream without end, or pings for ever",
    promise="ResponseTooLarge as soon as it passes Limits(stream_line=..., stream_event=..., "
    "body=...), the deadline for the rest; after the first part StreamInterrupted; not tried "
    "again, the memory never more than three times the limit",
)
def endless_streams(bench: Bench) -> None:
    """Send without end, before and after a piece."""
    # What the first stream imports is no memory of an endless one.
    server = _server(bench, CHUNKED, _whole(OPENAI), _end(CHUNKED))
    bench.stream(server.url, 5).must_be("reply")
    for number, (vendor, framing) in enumerate(ways(bench)):
        # The measuring makes it slow, and the memory is the same for all.
        measured = number == 0
        with _little_memory(bench) if measured else contextlib.nullcontext():
            for limits, unit in _floods(vendor)[: None if measured else 2]:
                _must_be_too_large(bench, vendor, framing, limits, unit)
        server = _server(bench, framing, vendor.begin(), *_pings(vendor, 100))
        seen = bench.stream(server.url, 0.2, model=vendor.model)
        seen.must_be("timeout").must_keep_the_deadline()
        bench.must(len(server.requests) == 1, _asked(server))
        if bench.ours:
            assert type(seen.error) is termai_http.DeadlineExceeded


def _must_be_too_large(
    bench: Bench, vendor: Vendor, framing: Framing, limits: Limits, unit: bytes
) -> None:
    pour = functools.partial(_pour, framing, unit)
    server = _server(bench, framing, vendor.begin() + vendor.text("one"), pour)
    _must_break(bench, server, vendor, "one", "ResponseTooLarge", timeout=20, limits=limits)
    server = _server(bench, framing, vendor.begin(), pour)
    client = bench.client(limits=limits)
    seen = bench.stream(server.url, 20, client, model=vendor.model).must_be("invalid")
    bench.must(len(server.requests) == 1, _asked(server))
    if bench.ours:
        assert type(seen.error) is termai_http.ResponseTooLarge
        assert seen.error.maybe_billed


def _floods(vendor: Vendor) -> list[tuple[Limits, bytes]]:
    """Return limits, and what passes them where it is sent again and again."""
    return [
        (Limits(stream_line=_LIMIT), b"data: " + b"x" * 1000),
        (Limits(stream_event=_LIMIT), b"data: " + b"x" * 1000 + b"\n"),
        (Limits(body=_LIMIT), b": " + b"x" * 100 + b"\n"),
        (Limits(body=_LIMIT // 2), b'data: {"a": "' + b"x" * 30 + b'"}\n\n'),
        (Limits(body=_LIMIT // 2), vendor.ping),
    ]


def _pour(framing: Framing, unit: bytes, peer: Peer) -> None:
    """Send a unit again and again: 24 times the limit, or until the client has had enough."""
    data = framing.frame(unit * (65536 // len(unit)))
    for _ in range(24 * _LIMIT // len(data)):
        peer.send(data)


@contextlib.contextmanager
def _little_memory(bench: Bench) -> Iterator[None]:
    """Check that what is done within allocates less than three times the limit."""
    tracemalloc.start()
    try:
        yield
    finally:
        # Whatever else was not kept, this weighs more.
        peak = tracemalloc.get_traced_memory()[1] / _LIMIT
        tracemalloc.stop()
        bench.must(peak < 3, f"{peak:.1f} times the limit of memory")
