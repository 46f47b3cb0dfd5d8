"""Faults of bodies: cut, trickling, huge, compressed, and what is no reply (F40 to F49)."""

from __future__ import annotations

import functools
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator

import termai_http
from termai_http import Limits

from .harness import KEY, PROMPT, Bench, Peer, RawServer, Seen, claude_body, good_body, row

_OPENAI, _CLAUDE = "gpt-5.5", "claude-opus-5-5"
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_GZIP = b"Content-Encoding: gzip\r\n"
_MIB = 1024 * 1024


def _models(bench: Bench) -> tuple[str, ...]:
    """Return the models to play with: one of each vendor for ours."""
    return (_OPENAI, _CLAUDE) if bench.ours else (_OPENAI,)


def _body_for(model: str, text: str = "fine") -> bytes:
    return claude_body(text) if model == _CLAUDE else good_body(text)


def _whole(body: bytes, headers: bytes = b"") -> bytes:
    """Frame a body by its length."""
    return _OK + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _chunks(body: bytes, size: int) -> bytes:
    cuts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(cut), cut) for cut in cuts)


def _chunked(body: bytes, headers: bytes = b"", size: int = 50) -> bytes:
    """Frame a body in chunks."""
    head = _OK + headers + b"Transfer-Encoding: chunked\r\n\r\n"
    return head + _chunks(body, size) + b"0\r\n\r\n"


def _to_the_close(body: bytes, headers: bytes = b"") -> bytes:
    """Frame a body by nothing but the end of the connection."""
    return _OK + headers + b"\r\n" + body


_FRAMINGS = (_whole, _chunked, _to_the_close)


def _shown(answer: bytes) -> str:
    """Show how a body begins and ends."""
    body = answer.partition(b"\r\n\r\n")[2]
    return repr(body[:20]) if len(body) < 40 else f"{body[:20]!r}...{body[-20:]!r}"


def _closing(bench: Bench, answer: bytes) -> RawServer:
    """Run a server that sends one answer, or what is left of it, and closes."""
    return bench.answering(answer, close=True)


def _must_be_cut(bench: Bench, answer: bytes, model: str = _OPENAI, *, reset: bool = False) -> None:
    """Send what is left of a reply: an error, sent again once at most, and never a reply."""

    def send(peer: Peer, _: bytes) -> None:
        peer.send(answer)
        if reset:
            peer.reset()

    server = bench.answering(send, close=True)
    seen = bench.chat(server.url, 5, model=model)
    bench.must(seen.kind in ("invalid", "connection"), f"{seen.name} for {_shown(answer)}")
    sent = len(server.requests)
    bench.must(sent <= 2, f"sent {sent} times")
    if bench.ours:
        error = seen.error
        # A reset may throw away what came before it was read.
        lost = reset and type(error) is termai_http.APIConnectionError
        assert lost or type(error) is termai_http.TruncatedResponse, (answer[-40:], error)
        assert isinstance(error, termai_http.TermaiHttpError)
        # One on a connection that its server has just closed is sent anew, once and for nothing.
        assert (sent, error.attempts in (2, 3)) == (2, True)
        assert error.maybe_billed


def _must_refuse(
    bench: Bench,
    answers: Iterable[bytes],
    *,
    model: str = _OPENAI,
) -> None:
    """Send whole answers that are no replies: each is an error, and asked for once."""
    current = {"answer": b""}
    server = bench.answering(lambda peer, _: peer.send(current["answer"]), close=True)
    client, wrong = bench.client(), []
    for answer in answers:
        current["answer"], before = answer, len(server.requests)
        seen, shown = bench.chat(server.url, 5, client, model=model), _shown(answer)
        if seen.kind not in ("invalid", "connection"):
            wrong.append(f"{seen.name} for {shown}")
        elif bench.ours and type(seen.error) is not termai_http.InvalidResponseError:
            wrong.append(f"{seen.error!r} for {shown}")
        elif bench.ours and not seen.error.maybe_billed:  # type: ignore[union-attr]
            wrong.append(f"not maybe_billed for {shown}")
        if (sent := len(server.requests) - before) != 1:
            wrong.append(f"sent {sent} times for {shown}")
    bench.must(not wrong, "; ".join(wrong))


@row(
    "F40",
    fault="the connection ends before as many bytes came as Content-Length says",
    promise="TruncatedResponse, never a reply; sent again once at most, since it may have been "
    "processed",
)
def cut_before_its_length(bench: Bench) -> None:
    """Cut the body after none, some and nearly all of its bytes, by a close and by a reset."""
    for model in _models(bench):
        body = _body_for(model)
        whole = _whole(body)
        for missing in (1, 2, len(body) // 2, len(body)):
            for reset in (False, True):
                _must_be_cut(bench, whole[:-missing], model, reset=reset)
        packed = _whole(gzip.compress(body), _GZIP)
        _must_be_cut(bench, packed[:-1], model)
        if bench.ours:
            _check_second_chance(bench, whole, model)


def _check_second_chance(bench: Bench, whole: bytes, model: str) -> None:
    server = bench.answering(
        lambda peer, _: peer.send(whole[:-1] if peer.number == 1 else whole), close=True
    )
    client = bench.client()
    bench.chat(server.url, 5, client, model=model).must_be("reply")
    assert client.stats().calls.retries_by_cause == {"ambiguous": 1}
    strict = _closing(bench, whole[:-1])
    retry = termai_http.RetryConfig(ambiguous_retries=0)
    bench.chat(strict.url, 5, bench.client(retry=retry), model=model).must_be("invalid")
    assert len(strict.requests) == 1


@row(
    "F41",
    fault="chunks end early: within one, between two, before the last; or have no readable size",
    promise="TruncatedResponse or ProtocolError, never a reply; sent again once at most",
)
def cut_chunks(bench: Bench) -> None:
    """Cut the chunks everywhere, and garble their sizes."""
    body = good_body()
    whole = _chunked(body)
    end = len(whole) - len(b"0\r\n\r\n")
    start = whole.index(b"\r\n\r\n") + 4
    cuts = [start, start + 1, start + 3, start + 4, start + 20, start + 54, start + 55, start + 56]
    for cut in (*cuts, end - 2, end - 1, end):
        _must_be_cut(bench, whole[:cut])
    for reset in (False, True):
        _must_be_cut(bench, whole[:end], _models(bench)[-1], reset=reset)
    good = _chunks(body, 50)
    sizes = (
        b"xyz\r\n",
        b"\r\n",
        b";a=b\r\n",
        b"5g\r\n",
        b"\0\r\n",
        b"-\r\n",
        b"0x\r\n",
        b"5 5\r\n",
    )
    head = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
    for size in sizes:
        for sent in (head + size, head + good + size):
            _must_not_reply(bench, sent + b"x" * 300 + b"\r\n0\r\n\r\n")
    _must_not_reply(bench, head + good + b"1;" + b"x" * 70_000 + b"\r\n}\r\n0\r\n\r\n")


def _must_not_reply(bench: Bench, answer: bytes) -> None:
    """Send chunks that cannot be read, and keep the connection open."""
    server = bench.answering(answer)
    seen = bench.chat(server.url, 2)
    bench.must(seen.kind in ("invalid", "connection"), f"{seen.name} for {_shown(answer)}")
    bench.must(len(server.requests) <= 2, f"sent {len(server.requests)} times")
    if bench.ours:
        kinds = (termai_http.TruncatedResponse, termai_http.ProtocolError)
        assert type(seen.error) in (*kinds, termai_http.ResponseTooLarge), seen.error


@row(
    "F42",
    fault="a chunk size that is negative, or a number in Python's spelling only",
    promise="ProtocolError or TruncatedResponse, never a reply and no ValueError",
)
def negative_chunk(bench: Bench) -> None:
    """Send sizes that int() takes and HTTP does not, with a good reply behind each."""
    body = good_body()
    size = b"%x" % len(body)
    head = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
    for spelling in (b"-" + size, b"-1", b"+" + size, b"0x" + size, size[:-1] + b"_" + size[-1:]):
        _must_not_reply(bench, head + spelling + b"\r\n" + body + b"\r\n0\r\n\r\n")
    _must_not_reply(bench, head + b"-0\r\n\r\n" + body)
    _must_not_reply(bench, head + size + b"\r\n" + body + b"\r\n-5\r\n0\r\n\r\n")


@row(
    "F43",
    fault="a body that ends with its connection is cut",
    promise="TruncatedResponse, never a reply: the JSON ends before it is complete; sent again "
    "once at most",
)
def cut_by_the_close(bench: Bench) -> None:
    """Cut JSON here and there, without anything that tells how long it was."""
    for model in _models(bench):
        body = _body_for(model, 'a "}" \\ \u00e9 {[')
        # A prime step comes by everything: names, texts, escapes, numbers, both brackets.
        cuts = range(1, len(body), 7) if bench.ours else (1, len(body) // 2, len(body) - 1)
        for cut in (*cuts, len(body) - 1, body.index(b"\\"), body.rindex(b"}", 0, -1) + 1):
            _must_be_cut(bench, _to_the_close(body[:cut]), model)


@row(
    "F44",
    fault="the body comes a byte at a time",
    promise="DeadlineExceeded: no byte prolongs the call; sent once",
)
def trickling_body(bench: Bench) -> None:
    """Drip a reply in every framing, compressed too."""
    body = good_body()
    answers = [framing(body) for framing in _FRAMINGS]
    answers.append(_chunked(gzip.compress(body), _GZIP))
    for answer in answers:
        server = bench.answering(functools.partial(_drip, answer=answer), close=True)
        seen = bench.chat(server.url, 0.3).must_be("timeout").must_keep_the_deadline()
        bench.must(len(server.requests) == 1, f"sent {len(server.requests)} times")
        if bench.ours:
            _check_late(seen)
    if bench.ours:
        trailers = _chunked(body)[:-2] + b"X-More: 1\r\n" * 10_000
        server = bench.answering(lambda peer, _: peer.drip(trailers, 0.01, 1024), close=True)
        _check_late(bench.chat(server.url, 0.3))


def _check_late(seen: Seen) -> None:
    error = seen.error
    assert type(error) is termai_http.DeadlineExceeded, error
    assert (error.phase, error.attempts) == ("body", 1)
    assert error.maybe_billed


def _drip(peer: Peer, _: bytes, answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    peer.send(head + b"\r\n\r\n")
    peer.drip(body, 0.05)


@row(
    "F45",
    fault="a body of hundreds of MB, announced or not, or in the smallest chunks",
    promise="ResponseTooLarge as soon as it passes Limits(body=...), the connection closed, the "
    "memory never more than three times the limit; not tried again",
)
def huge_body(bench: Bench) -> None:
    """Send a body without end against a limit of 1 MiB, and one of exactly the limit."""
    filler = b'{"choices": "' + b"x" * (_MIB // 4)
    chunked = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
    for head, piece, limit in (
        (_OK + b"Content-Length: 150000000\r\n\r\n", filler, _MIB),
        (chunked, _chunks(filler, 65536), _MIB),
        (chunked, _chunks(b"x" * 65536, 16), _MIB // 4),
        (_OK + b"\r\n", filler, _MIB),
    ):
        _must_be_too_large(bench, functools.partial(_pour, head=head, piece=piece), limit)
    if bench.ours:
        _check_the_border(bench)


def _pour(peer: Peer, _: bytes, head: bytes, piece: bytes) -> None:
    """Send a body piece by piece: 24 times the limit, or until the client has had enough."""
    peer.send(head)
    sent = 0
    while sent < 24 * _MIB:
        peer.send(piece)
        sent += len(piece)


def _must_be_too_large(
    bench: Bench, send: Callable[[Peer, bytes], None], limit: int = _MIB
) -> None:
    client = bench.client(limits=Limits(body=limit))
    server = bench.answering(send, close=True)
    # What the first call imports is no memory of a body.
    bench.chat(_closing(bench, _whole(good_body())).url, 5, client).must_be("reply")
    with _Memory() as memory:
        seen = bench.chat(server.url, 5, client)
    grown = memory.peak / limit
    bench.must(grown < 3, f"{seen.name}, and {grown:.1f} times the limit of memory")
    seen.must_be("invalid")
    bench.must(len(server.requests) == 1, f"sent {len(server.requests)} times")
    if bench.ours:
        assert type(seen.error) is termai_http.ResponseTooLarge, seen.error
        assert seen.error.maybe_billed
        stats = client.stats()
        assert (stats.active_connections, stats.idle_connections, stats.discarded) == (0, 0, 1)


class _Memory:
    """The most that was allocated within a ``with`` block, in bytes, beyond what was before."""

    peak = 0

    def __enter__(self) -> _Memory:
        tracemalloc.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def _check_the_border(bench: Bench) -> None:
    """See a body of exactly the limit pass, and one byte more refused, however it is sent."""
    body = good_body()
    for framing in _FRAMINGS:
        for headers, sent in ((b"", body), (_GZIP, gzip.compress(body))):
            for limit, kind in ((len(body), "reply"), (len(body) - 1, "invalid")):
                server = _closing(bench, framing(sent, headers))
                seen = bench.chat(server.url, 5, bench.client(limits=Limits(body=limit)))
                seen.must_be(kind)
                assert kind == "reply" or type(seen.error) is termai_http.ResponseTooLarge


@row(
    "F46",
    fault="a gzip bomb; compression that is broken, cut short, or was not asked for",
    promise="ResponseTooLarge, InvalidResponseError or TruncatedResponse, never a reply; only "
    "gzip is asked for, and read in several members too",
)
def compressed(bench: Bench) -> None:
    """Send bodies that are small on the wire, broken ones, and ones in other codings."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bomb.compress(b'{"choices": "')
    zeros = b"".join(bomb.compress(b"0" * _MIB) for _ in range(16)) + bomb.flush()
    small = gzip.compress(b"0" * 60_000, 9) * 512
    for packed in (piece + zeros, gzip.compress(b"{") + small):
        for framing in (_whole, _chunked):
            answer = framing(packed, _GZIP)
            _must_be_too_large(bench, lambda peer, _, answer=answer: peer.send(answer))
    for model in _models(bench):
        packed = gzip.compress(_body_for(model))
        for cut in (1, 5, 9, 10, 11, len(packed) // 2, len(packed) - 8, len(packed) - 1):
            for framing in _FRAMINGS:
                _must_be_cut(bench, framing(packed[:cut], _GZIP), model)
        _must_refuse(bench, _garbled(packed), model=model)
        _must_refuse(bench, _unasked(_body_for(model)), model=model)
    _must_ask_for_gzip_only(bench)
    _must_read_gzip(bench)
    if bench.ours:
        _check_error_bodies(bench, piece + zeros)


def _check_error_bodies(bench: Bench, bomb: bytes) -> None:
    """See the status of an error count, whatever its body is compressed with."""
    said = b'{"error": {"message": "Too busy.", "code": "slow_down"}}'
    packed = gzip.compress(said)
    for coding, body, code in (
        (b"gzip", packed, "slow_down"),
        (b"gzip", packed[:-4], "slow_down"),
        (b"gzip", b"\x1f\x8b junk", None),
        (b"gzip", bomb, None),
        (b"br", said, None),
    ):
        headers = b"Content-Encoding: %b\r\n" % coding
        answer = _whole(body, headers).replace(b"200 OK", b"503 Busy", 1)
        server = _closing(bench, answer)
        with _Memory() as memory:
            error = bench.chat(server.url, 5, bench.client(retries=0)).error
        assert type(error) is termai_http.InternalServerError, error
        assert (error.status_code, error.code) == (503, code)
        assert memory.peak < 3 * _MIB


def _garbled(packed: bytes) -> Iterator[bytes]:
    """Break the header, the data and the checksums."""
    for at in (0, 1, 2, 30, len(packed) // 2, len(packed) - 8, len(packed) - 4):
        broken = bytearray(packed)
        broken[at] ^= 0x55
        yield _whole(bytes(broken), _GZIP)
    yield _whole(good_body(), _GZIP)
    yield _chunked(packed + b"trailing garbage", _GZIP)


def _unasked(body: bytes) -> Iterator[bytes]:
    for coding in (b"br", b"zstd", b"deflate", b"compress", b"gzip, gzip", b"gzip;q=1", b"x", b"*"):
        packed = zlib.compress(body) if coding == b"deflate" else body
        yield _whole(packed, b"Content-Encoding: %b\r\n" % coding)


def _must_ask_for_gzip_only(bench: Bench) -> None:
    for model in _models(bench):
        server = _closing(bench, _whole(_body_for(model)))
        bench.chat(server.url, 5, model=model).must_be("reply")
        head = server.requests[0].partition(b"\r\n\r\n")[0].lower()
        asked = [line for line in head.split(b"\r\n") if line.startswith(b"accept-encoding:")]
        if bench.ours:
            assert asked == [b"accept-encoding: gzip"]


def _must_read_gzip(bench: Bench) -> None:
    """Read a reply in one member, in several, in many, with padding; and an empty one as none."""
    body = good_body()
    middle = len(body) // 2
    two = gzip.compress(body[:middle]) + gzip.compress(body[middle:])
    many = b"".join(gzip.compress(body[at : at + 1]) for at in range(len(body)))
    padded = gzip.compress(body) + b"\0" * 100
    for packed in (gzip.compress(body), two, many, padded):
        for framing in _FRAMINGS:
            for coding in (_GZIP, b"Content-Encoding: GZip \r\n", b"content-encoding: x-gzip\r\n"):
                server = _closing(bench, framing(packed, coding))
                seen = bench.chat(server.url, 5)
                bench.must(seen.kind == "reply", f"{seen.name} for gzip in members")
    bench.chat(_closing(bench, _whole(body, b"Content-Encoding: identity\r\n")).url, 5).must_be(
        "reply"
    )
    _must_refuse(bench, [_whole(b"", _GZIP), _whole(gzip.compress(b""), _GZIP)])


@row(
    "F47",
    fault="a success that is a page, empty, no object, an object of something else, or an error",
    promise="InvalidResponseError with content type and an excerpt in which the request is masked; "
    "not tried again",
)
def no_reply(bench: Bench) -> None:
    """Answer 200 with what is not a reply."""
    page = b"<!doctype html><title>Sign in</title>"
    bodies = (
        *(b"", b" \r\n", page, b"null", b"[]", b'"fine"', b"12", b"true", b"OK", b"{}", b"{]"),
        *(b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [null]}', b'{"choices": null}'),
        *(b'{"choices": {"0": 1}}', b'{"choices": [{"message": "x"}]}', b'{"content": "x"}'),
        *(b'{"content": null}', b'{"error": {"message": "no", "type": "x"}}', b'{"error": "no"}'),
        *(b'{"type": "error", "error": {"type": "overloaded_error"}}', b'{"a": 1} trailing'),
        *(b"data: {}\n\n", b"{'choices': []}", b'{"choices": [],}', b"%" * 300),
    )
    for model in _models(bench):
        _must_refuse(bench, map(_whole, bodies), model=model)
        _must_refuse(bench, map(_to_the_close, bodies[:4]), model=model)
    no_content = b"HTTP/1.1 204 No Content\r\n\r\n"
    _must_refuse(bench, [no_content])
    if bench.ours:
        for model in _models(bench):
            _check_excerpt(bench, model)


def _check_excerpt(bench: Bench, model: str) -> None:
    page = f"<h1>Sign in</h1> key {KEY} prompt {PROMPT} {'<br>' * 200}".encode()
    answer = _whole(page).replace(b"application/json", b"text/html; charset=x")
    error = bench.chat(_closing(bench, answer).url, 5, model=model).error
    assert isinstance(error, termai_http.InvalidResponseError)
    assert "text/html; charset=x" in str(error)
    assert (error.body or "").startswith("<h1>Sign in</h1> key")
    assert (error.body or "").count("***") == 2
    assert len(error.body or "") <= 200
    told = json.dumps({"error": {"message": f"Bad: {PROMPT}", "code": "teapot"}}).encode()
    error = bench.chat(_closing(bench, _whole(told)).url, 5, model=model).error
    assert isinstance(error, termai_http.InvalidResponseError)
    assert error.code == "teapot"
    assert "Bad: ***" in str(error)


@row(
    "F48",
    fault="JSON nested 100,000 deep, or with a number of 5000 digits",
    promise="InvalidResponseError, not tried again; no RecursionError, no ValueError",
    argument="no limit of 200 is counted beforehand: the decoder's own is caught",
)
def extreme_json(bench: Bench) -> None:
    """Send JSON that breaks decoders."""
    deep = 100_000
    bodies = (
        *(b"[" * deep, b"[" * deep + b"]" * deep, b'{"choices":' * deep + b"1" + b"}" * deep),
        *(b'{"choices":' + b"[" * deep + b"]" * deep + b"}", b'{"a":[' * deep),
        *(_with(b'"extra": ' + b"9" * 5000), _with(b'"extra": -' + b"9" * 100_000)),
    )
    _must_refuse(bench, map(_whole, bodies))
    for model in _models(bench):
        _must_refuse(bench, [_whole(_with(b'"extra": ' + b"9" * 5000, model))], model=model)


def _with(field: bytes, model: str = _OPENAI) -> bytes:
    """Return a good body with one more field."""
    return b"{" + field + b", " + _body_for(model)[1:]


@row(
    "F49",
    fault="JSON with NaN, infinite or overflowing numbers, double keys, lone surrogates, a byte "
    "order mark, in another encoding or broken UTF-8",
    promise="InvalidResponseError for what is no JSON in UTF-8; a mark in front is dropped, the "
    "last of double keys counts, a lone surrogate becomes U+FFFD",
)
def odd_json(bench: Bench) -> None:
    """Send what decoders read in different ways."""
    for model in _models(bench):
        body = _body_for(model)
        numbers = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1E+999", b"9" * 400 + b".0")
        bodies = [_with(b'"extra": [1.5, {"deep": %b}]' % number, model) for number in numbers]
        text = body.decode()
        bodies += [text.encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")]
        bad = (b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\xbd", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80")
        bodies += [_body_for(model, "@@").replace(b"@@", wrong) for wrong in bad]
        bodies += [
            _body_for(model, "@@").replace(b"@@", wrong) for wrong in (b"\0", b"\x1f", b"\n")
        ]
        _must_refuse(bench, map(_whole, bodies), model=model)
        _must_read(bench, b"\xef\xbb\xbf" + body, "fine", model)
        _must_read(bench, _with(b'"extra": [1e308, 1.5, -0.0, 1e-999]', model), "fine", model)
        _must_read(bench, _with(b'"choices": [], "content": 1', model), "fine", model)
        for escaped, read in (
            (b"\\ud83c", "\ufffd"),
            (b"a\\udf89b", "a\ufffdb"),
            (b"\\udf89\\ud83c", "\ufffd\ufffd"),
            (b"\\ud83c\\udf89", "\U0001f389"),
        ):
            _must_read(bench, _body_for(model, "@@").replace(b"@@", escaped), read, model)


def _must_read(bench: Bench, body: bytes, text: str, model: str) -> None:
    seen = bench.chat(_closing(bench, _whole(body)).url, 5, model=model)
    bench.must(seen.kind == "reply", f"{seen.name} for {_shown(_whole(body))}")
    bench.must(seen.text == text, f"{seen.text!r} for {_shown(_whole(body))}")
