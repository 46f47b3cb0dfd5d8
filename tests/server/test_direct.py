"""The direct way and the ordinary way: the same bytes out, the same reply or error back."""

from __future__ import annotations

import contextlib
import errno
import gzip
import itertools
import json
import logging
import os
import socket
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import requests

import termai_http
from termai_http import (
    ClaudeAdapter,
    Client,
    Limits,
    OpenAIAdapter,
    RequestHandler,
    RetryConfig,
)
from tests.contract.security_tools import Recorder
from tests.faults.harness import KEY, PROMPT, Peer, RawServer, good_body, good_reply
from tests.server.direct_tools import (
    SHORT,
    WAYS,
    Ended,
    Playing,
    answer,
    ask,
    chunks,
    client_on,
    end_of,
    must_be_given_back,
    short_body,
    watch_ways,
)

KIB = 1024
MIB = 1024 * KIB
OTHER_KEY = "sk-another-canary-9876543210"
UNICODE = 'Gr\xfc\xdfe \u20ac \U0001f389 \u2028 \0 \x7f "\\ '


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way in turn."""
    return str(request.param)


OPENAI = {"messages": [{"role": "user", "content": PROMPT}], "model": "gpt-5.5"}
CLAUDE: dict[str, Any] = {"model": "claude-opus-5-5"}


def read_stream(client: Client, **options: Any) -> None:
    """Read a stream to its end."""
    with client.stream(PROMPT, **options) as stream:
        for _ in stream:
            pass


Face = Callable[[Client, dict[str, Any]], Any]
FACES: dict[str, Face] = {
    "chat": lambda client, to: client.chat(PROMPT, model="gpt-5.5", **to),
    "chat of Claude": lambda client, to: client.chat(PROMPT, **CLAUDE, **to),
    "responses": lambda client, to: client.chat(PROMPT, model="gpt-5.5", api="responses", **to),
    "stream": lambda client, to: read_stream(client, model="gpt-5.5", **to),
    "stream of Claude": lambda client, to: read_stream(client, **CLAUDE, **to),
    "stream of responses": lambda client, to: read_stream(
        client, model="gpt-5.5", api="responses", **to
    ),
    "list_models": lambda client, to: termai_http.list_models(client=client, **to),
    "list_models of Claude": lambda client, to: termai_http.list_models(
        client=client, provider="claude", **to
    ),
    "embed": lambda client, to: termai_http.embed(PROMPT, model="e", client=client, **to),
    "count_tokens": lambda client, to: termai_http.count_tokens(
        PROMPT, client=client, **CLAUDE, **to
    ),
    "extra_headers": lambda client, to: client.chat(
        PROMPT, model="gpt-5.5", extra_headers={"X-First": "1", "x-second": "2"}, **to
    ),
    "a default replaced": lambda client, to: client.chat(
        PROMPT, model="gpt-5.5", extra_headers={"ACCEPT": "text/plain", "content-type": "a/b"}, **to
    ),
    "the session's replaced": lambda client, to: client.chat(
        PROMPT, **CLAUDE, extra_headers={"user-agent": "Me/1", "accept-encoding": "identity"}, **to
    ),
    "a stream's replaced": lambda client, to: read_stream(
        client, model="gpt-5.5", extra_headers={"accept": "a/b", "ACCEPT-encoding": "gzip"}, **to
    ),
    "an empty header": lambda client, to: client.chat(
        PROMPT, model="gpt-5.5", extra_headers={"X-Empty": "", "X-Spaces": "  a  b  "}, **to
    ),
    "extra_query": lambda client, to: client.chat(
        PROMPT, model="gpt-5.5", extra_query={"a": "b&c", "list": ["1", "2"], "e": "\u20ac"}, **to
    ),
    "organization": lambda client, to: OpenAIAdapter(
        client, to["api_key"], to["base_url"], organization="org-1", project="proj-1"
    ).chat_completion(OPENAI),
    "api_version": lambda client, to: ClaudeAdapter(
        client, to["api_key"], to["base_url"], api_version="2026-01-01"
    ).chat_completion({**OPENAI, **CLAUDE}),
    "beta": lambda client, to: client.chat(
        PROMPT, **CLAUDE, extra_headers={"anthropic-beta": "one,two"}, **to
    ),
    "unicode": lambda client, to: client.chat(UNICODE, model="gpt-5.5", system=UNICODE, **to),
    "a large prompt": lambda client, to: client.chat("x" * 300_000, model="gpt-5.5", **to),
    "a path": lambda client, to: client.chat(
        PROMPT, model="gpt-5.5", **{**to, "base_url": f"{to['base_url']}/a%20b/\xe9"}
    ),
}


def sent_by(face: str, way: str, server: Recorder, url: str, **config: Any) -> list[bytes]:
    """Make three calls, the last one with another key, and return what the server was sent."""
    server.requests.clear()
    with client_on(way, **config) as client, watch_ways() as went:
        for key in (KEY, KEY, OTHER_KEY):
            # What the server answers is no answer to some of them.
            with contextlib.suppress(termai_http.TermaiHttpError):
                FACES[face](client, {"base_url": url, "api_key": key, "timeout": 10})
        assert went == ([True] * 3 if way == "direct" else [])
        must_be_given_back(client)
    return list(server.requests)


@pytest.mark.parametrize("face", sorted(FACES))
def test_both_ways_send_the_same_bytes(face: str) -> None:
    """Head and body, order and spelling: at the first call, at the next, and with another key."""
    with Recorder() as server:
        direct, ordinary = (sent_by(face, way, server, server.url) for way in WAYS)
    assert len(direct) == 3
    assert direct == ordinary
    assert direct[0] == direct[1]
    assert direct[2] == direct[0].replace(KEY.encode(), OTHER_KEY.encode())
    assert OTHER_KEY.encode() in direct[2]


@pytest.mark.parametrize("face", ["chat", "chat of Claude", "stream", "list_models"])
def test_both_ways_send_the_same_bytes_within_tls(
    face: str, context: ssl.SSLContext, bundle: str
) -> None:
    """As without it."""
    with Recorder(context=context) as server:
        direct, ordinary = (
            sent_by(face, way, server, server.tls_url, ca_bundle=bundle) for way in WAYS
        )
    assert direct == ordinary
    assert len(direct) == 3


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "a.localhost", "127.0.0.1"])
def test_both_ways_name_the_host_alike(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was given, with its port."""
    real = socket.getaddrinfo

    def look_up(_: Any, port: Any, *arguments: Any, **__: Any) -> Any:
        return real("127.0.0.1", port, socket.AF_INET, socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with Recorder() as server:
        url = f"http://{host}:{server.port}"
        direct, ordinary = (sent_by("chat", way, server, url) for way in WAYS)
    assert direct == ordinary
    assert len(direct) == 3


def test_both_ways_name_an_ipv6_address_alike() -> None:
    """In its brackets, with its port."""
    try:
        server = Playing(lambda peer: peer.send(good_reply()), "::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    found = []
    with server:
        for way in WAYS:
            server.requests.clear()
            with client_on(way) as client:
                for _ in range(2):
                    ask(client, f"http://[::1]:{server.port}")
            found.append(list(server.requests))
    assert found[0] == found[1]
    assert b"Host: [::1]:%d\r\n" % server.port in found[0][0]


def test_a_call_of_its_own_connection_says_so_on_both_ways() -> None:
    """Without pooling, requests say that the connection is to be closed."""
    found = []
    with Recorder() as server:
        for way in WAYS:
            server.requests.clear()
            with client_on(way, pooling=0.0) as client:
                ask(client, server.url)
                ask(client, server.url)
                assert client.stats().opened == 2
            found.append(list(server.requests))
    assert found[0] == found[1]
    assert b"\r\nConnection: close\r\n" in found[0][0]


@pytest.mark.parametrize("secure", [False, True])
def test_a_small_request_goes_out_in_one_piece(
    secure: bool, context: ssl.SSLContext, bundle: str
) -> None:
    """Head and body in one packet and one record: whoever looks once has all of it."""
    looks: list[bytes] = []

    def handle(peer: Peer) -> None:
        if secure:
            peer.sock = context.wrap_socket(peer.sock, server_side=True)
        while looked := peer.sock.recv(65536):
            looks.append(looked)
            peer.send(good_reply())

    server = RawServer(handle)
    try:
        with client_on("direct", ca_bundle=bundle) as client, watch_ways() as went:
            for size in (1, 100, 4000, 8000):
                ask(client, server.tls_url if secure else server.url, "x" * size)
        assert went == [True] * 4
    finally:
        server.close()
    assert len(looks) == 4
    for looked in looks:
        head, _, body = looked.partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % len(body) in head
        assert json.loads(body)["model"] == "gpt-5.5"


@pytest.mark.parametrize("size", [16_000, 16_384, 20_000, 100_000, 3 * MIB])
def test_a_large_request_is_sent_whole_within_tls(
    size: int, way: str, context: ssl.SSLContext, bundle: str
) -> None:
    """In however many records."""
    with Recorder(context=context) as server, client_on(way, ca_bundle=bundle) as client:
        for prompt in ("x" * size, "y" * size):
            ask(client, server.tls_url, prompt)
            body = server.requests[-1].partition(b"\r\n\r\n")[2]
            assert json.loads(body)["messages"][0]["content"] == prompt
        assert client.stats().opened == 1


GZIP = b"Content-Encoding: gzip\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
JSON = b"Content-Type: application/json\r\n"
EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"fine"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
REFUSAL = b'{"error":{"message":"no","type":"bad","code":"c"}}'


def chunked(body: bytes, headers: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Return a whole answer whose body comes in chunks."""
    return answer(chunks(body), headers + CHUNKED, status, length=False)


LINES = [
    *(b"", JSON, b"X-Request-ID: req_1\r\n", b"request-id: req_2\r\n", b"X-A: 1\r\nx-a: 2\r\n"),
    *(b"X-A: 1\r\n 2\r\n", b"X-A: 1\r\n\t2\r\n", b" X-A: 1\r\n", b"X-A: 1\nX-B: 2\r\n"),
    *(b"X-A: 1\rX-B: 2\r\n", b"X-A: a\0b\r\n", b"X-A\r\n", b"X-A : 1\r\n", b": 1\r\n"),
    *(
        b"X(A): 1\r\n",
        b"X-\xe9: 1\r\n",
        b"X-A: \xe9\xff\x85\r\n",
        b"X-A:\r\n",
        b"X-A:\r\nX-A: b\r\n",
    ),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\nConnection: close\r\n"),
    *(b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n", b"From me: 1\r\n", b"\r\n", b"X-A: 1\r\n\r\n"),
    b"".join(b"X-%d: 1\r\n" % at for at in range(96)),
    b"".join(b"X-%d: 1\r\n" % at for at in range(98)),
    b"".join(b"X-%d: 1\r\n" % at for at in range(99)),
    b"X-Long: %b\r\n" % (b"v" * 20_000),
    b"X-Longer: %b\r\n" % (b"v" * 70_000),
    b"X-Longest: %b\r\n" % (b"v" * 300_000),
]
STATUSES = [
    *(b"200", b"200 ", b"201 X", b"202 X", b"203 X", b"206 X", b"226 X", b"299 X", b"300 X"),
    *(b"301 X", b"302 X", b"307 X", b"399 X", b"400 X", b"401 X", b"402 X", b"403 X", b"404 X"),
    *(b"408 X", b"409 X", b"413 X", b"418 X", b"422 X", b"429 X", b"500 X", b"502 X", b"503 X"),
    *(b"504 X", b"529 X", b"599 X", b"600 X", b"000 X", b"099 X", b"999 X", b"20 X", b"2000 X"),
    *(b"+20 X", b"2_0 X", b" 200 X", b"200\tX", b"200 \xe9", b"", b"OK", b"100 X", b"101 X"),
]
LENGTHS = [
    *(b"+4", b"-4", b"1_0", b"4 4", b"", b"0x4", b"4.0", b"4;", b"\xb2", b"four", b"9" * 19),
    *(b"4, 4", b"4\r\nContent-Length: 4", b"4\r\nContent-Length: 5", b"99999", b"3", b"0"),
    *(b"\x0b4", b"4\x0c", b"\xa04", b"004", b"4\t"),
]
CODINGS = [b"gzip", b"gzip, chunked", b"chunked, gzip", b"Chunked", b"xchunked", b"identity", b""]


def bodies() -> dict[str, bytes]:
    """Return answers whose bodies are of every kind."""
    good = short_body()
    packed = gzip.compress(good, mtime=0)
    broken = packed[:15] + b"\xff\xff" + packed[17:]
    found = {
        "empty": answer(b""),
        "no JSON": answer(b"fine"),
        "a list": answer(b"[]"),
        "a page": answer(b"<html>", b"Content-Type: text/html\r\n"),
        "no text": answer(b"{}"),
        "UTF-8 with a mark": answer(b"\xef\xbb\xbf" + good),
        "broken UTF-8": answer(b'{"a":"\xff"}'),
        "events": answer(EVENTS, b"Content-Type: text/event-stream\r\n"),
        "events in chunks": chunked(EVENTS, b"Content-Type: text/event-stream\r\n"),
        "events cut short": answer(EVENTS[:40], b"Content-Type: text/event-stream\r\n"),
        "more than said": answer() + b"more",
        "another answer": answer() + answer(),
        "less than said": answer()[:-1],
        "none of what was said": answer().partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
        "chunks": chunked(good),
        "chunks cut short": chunked(good)[:-9],
        "chunks without their end": chunked(good).removesuffix(b"0\r\n\r\n"),
        "chunks with trailers": chunked(good)[:-2] + b"X-T: 1\r\n\r\n",
        "more than the chunks": chunked(good) + b"more",
        "a chunk that is none": answer(b"x\r\nfour\r\n", CHUNKED, length=False),
        "a chunk too long": answer(b"3\r\nfour\r\n0\r\n\r\n", CHUNKED, length=False),
        "a chunk of less than nothing": answer(b"-1\r\nfour\r\n", CHUNKED, length=False),
        "a chunk without an end": answer(b"f" * 70_000, CHUNKED, length=False),
        "until close": answer(good, length=False),
        "nothing until close": answer(b"", length=False),
        "length and chunks": answer(chunks(good), CHUNKED),
        "chunks of 1.0": chunked(good).replace(b"HTTP/1.1", b"HTTP/1.0"),
        "1.0": answer().replace(b"HTTP/1.1", b"HTTP/1.0"),
        "1.0 kept alive": answer(headers=b"Connection: keep-alive\r\n").replace(b"1.1", b"1.0", 1),
        "gzip": answer(packed, GZIP),
        "gzip in chunks": chunked(packed, GZIP),
        "gzip until close": answer(packed, GZIP, length=False),
        "gzip cut short": answer(packed[:-5], GZIP),
        "gzip cut short in chunks": chunked(packed[:-5], GZIP),
        "gzip broken": answer(broken, GZIP + b"X-Request-ID: req_3\r\n"),
        "gzip broken in chunks": chunked(broken, GZIP),
        "gzip and more": answer(packed + b"more", GZIP),
        "gzip twice": answer(packed + gzip.compress(b" "), GZIP),
        "gzip of nothing": answer(b"", GZIP),
        "no gzip": answer(good, GZIP),
        "x-gzip": answer(packed, b"Content-Encoding: X-GZIP\r\n"),
        "deflate": answer(zlib.compress(good), b"Content-Encoding: deflate\r\n"),
        "br": answer(good, b"Content-Encoding: br\r\nX-Request-ID: req_4\r\n"),
        "br in chunks": chunked(good, b"Content-Encoding: br\r\n"),
        "identity": answer(good, b"Content-Encoding: identity\r\n"),
        "an empty coding": answer(good, b"Content-Encoding: \r\n"),
        "gzip of a refusal": answer(gzip.compress(REFUSAL), GZIP, b"400 X"),
        "broken gzip of a refusal": answer(broken, GZIP, b"400 X"),
        "a refusal cut short": answer(REFUSAL, status=b"429 X")[:-9],
        "a refusal in chunks": chunked(REFUSAL, b"Retry-After: 7\r\n", b"429 X"),
        "a refusal in broken chunks": answer(b"x\r\n", CHUNKED, b"503 X", length=False),
        "a long refusal": answer(b"x" * 100_000, status=b"500 X"),
        "a refusal and more": answer(REFUSAL, status=b"400 X") + b"more",
        "a refusal until close": answer(REFUSAL, status=b"400 X", length=False),
        "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
        "early hints": b"HTTP/1.1 103 X\r\nLink: a\r\n\r\n" + answer(),
        "ten interim answers": b"HTTP/1.1 102 X\r\n\r\n" * 10 + answer(),
        "eleven interim answers": b"HTTP/1.1 102 X\r\n\r\n" * 11 + answer(),
        "an interim answer alone": b"HTTP/1.1 100 Continue\r\n\r\n",
        "204 without a body": b"HTTP/1.1 204 X\r\n\r\n",
        "304 without a body": b"HTTP/1.1 304 X\r\n\r\n",
        "nothing": b"",
        "an empty line": b"\r\n" + answer(),
        "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
        "TLS": b"\x15\x03\x03\x00\x02\x02\x46",
        "ICY": answer().replace(b"HTTP/1.1", b"ICY"),
        "HTTP/2": answer().replace(b"HTTP/1.1", b"HTTP/2"),
        "HTTP/1.2": answer().replace(b"HTTP/1.1", b"HTTP/1.2"),
        "small letters": answer().replace(b"HTTP/1.1", b"http/1.1"),
        "bare LFs": answer(headers=JSON).replace(b"\r\n", b"\n"),
        "the end of the head in bare LFs": answer().replace(b"\r\n\r\n", b"\n\n"),
    }
    for length in LENGTHS:
        found[f"length {length!r}"] = answer(
            b"four", b"Content-Length: %b\r\n" % length, length=False
        )
    for coding in CODINGS:
        line = b"Transfer-Encoding: %b\r\n" % coding
        found[f"coding {coding!r}"] = answer(chunks(good), line, length=False)
    return found


def canned() -> dict[str, bytes]:
    """Return answers of every kind."""
    found = bodies()
    for number, line in enumerate(LINES):
        name = f"line {number} {line[:20]!r}"
        found[name] = answer(headers=line)
        found[f"{name}, chunks"] = chunked(short_body(), line)
        found[f"{name}, until close"] = answer(headers=line, length=False)
    for status in STATUSES:
        found[f"status {status!r}"] = answer(REFUSAL, b"X-Request-ID: r\r\n", status)
        found[f"status {status!r}, nothing"] = answer(b"", status=status)
        found[f"status {status!r}, until close"] = answer(REFUSAL, status=status, length=False)
    return found


CANNED = canned()


def ends_of(data: bytes, **config: Any) -> list[Ended]:
    """Let one answer come in one piece, and then the connection's end; return both ways' ends."""

    def play(peer: Peer) -> bool:
        peer.send(data)
        return False

    found = []
    with Playing(play) as server:
        for way in WAYS:
            with client_on(way, **config) as client, watch_ways() as went:
                found.append(end_of(lambda client=client: ask(client, server.url, timeout=20)))
                assert went == [True] * (way == "direct")
                must_be_given_back(client)
        # A body that was cut short is asked for once more only where a policy says so.
        assert len(server.requests) == len(WAYS)
    return found


# urllib3 sees this one before we do, and says it in its words.
UNEQUAL = "length b'4\\r\\nContent-Length: 5'"


@pytest.mark.parametrize("name", sorted({*CANNED} - {UNEQUAL}))
def test_an_answer_ends_a_call_alike_on_both_ways(name: str) -> None:
    """The same reply to the last field, or the same error in all that it says."""
    direct, ordinary = ends_of(CANNED[name])
    assert direct == ordinary


def test_two_lengths_are_no_http_on_both_ways() -> None:
    """The one may be an attempt at smuggling: the error is of the same class, and final."""
    direct, ordinary = ends_of(CANNED[UNEQUAL])
    assert direct.kind == ordinary.kind == "ProtocolError"
    assert direct.fields["maybe_billed"] is ordinary.fields["maybe_billed"] is True


LOW = Limits(body=64, headers=100, error_body=32)


@pytest.mark.parametrize(
    "name",
    sorted(
        {*bodies(), *(name for name in CANNED if name.startswith(("line", "status b'4")))}
        - {UNEQUAL}
    ),
)
def test_low_limits_end_a_call_alike_on_both_ways(name: str) -> None:
    """What is too large is refused by both, with the same error."""
    direct, ordinary = ends_of(CANNED[name], limits=LOW)
    assert direct == ordinary


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("framed", [answer, chunked])
def test_a_head_has_its_limit(way: str, over: int, framed: Callable[[bytes], bytes]) -> None:
    """A header block may have so many bytes, and not one more, however few they are."""
    data = framed(short_body())
    size = data.index(b"\r\n\r\n") + 4

    def play(peer: Peer) -> None:
        peer.send(data)

    limits = Limits(headers=size - over)
    with Playing(play) as server, client_on(way, limits=limits) as client:
        ended = end_of(lambda: ask(client, server.url))
        assert ended.kind == ("ResponseTooLarge" if over else "reply")
        must_be_given_back(client)


SMALL = short_body("f")
CUT = {
    "length": answer(SMALL),
    "chunks": chunked(SMALL),
    "gzip": answer(gzip.compress(SMALL, mtime=0), GZIP),
    "gzip in chunks": chunked(gzip.compress(SMALL, mtime=0), GZIP),
    "refusal": answer(REFUSAL, status=b"400 X"),
}


@pytest.mark.parametrize("name", sorted(CUT))
def test_an_answer_that_is_cut_short_anywhere_ends_a_call_alike(name: str) -> None:
    """At every byte: the same error, with the same phase; never half of a reply.

    After the last chunk nothing is missed but an empty line, and no client asks for it.
    """
    data, cut = CUT[name], 0

    def play(peer: Peer) -> bool:
        peer.send(data[:cut])
        return False

    with Playing(play) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client_on(way)) for way in WAYS]
        for cut in range(len(data) - 2 * data.endswith(b"\r\n")):
            ends = [end_of(lambda client=client: ask(client, server.url)) for client in clients]
            assert ends[0] == ends[1], cut
            refused = name == "refusal" and cut >= data.index(b"\r\n\r\n") + 4
            assert ends[0].kind != "reply"
            assert (ends[0].kind == "BadRequestError") is refused
        for client in clients:
            must_be_given_back(client)
            assert client.stats().idle_connections == 0


def test_a_kept_connection_that_fails_after_a_byte_came_is_not_replayed(way: str) -> None:
    """Before the first byte it was closed meanwhile, and the request goes out anew; after it not.

    The request may have been processed, and nothing here may repeat that.
    """
    retry = RetryConfig(max_attempts=3, ambiguous_retries=0, base_delay=0.001)
    data = answer()
    for cut in (0, 1, 10, data.index(b"\r\n\r\n") + 3, data.index(b"\r\n\r\n") + 4, len(data) - 1):
        plays = iter([data, data[:cut], data])

        def play(peer: Peer, plays: Iterator[bytes] = plays) -> bool:
            sent = next(plays)
            peer.send(sent)
            return sent == data

        with Playing(play) as server, client_on(way) as client:
            ask(client, server.url)
            ended = end_of(lambda c=client, u=server.url: ask(c, u, retry=retry))
            assert ended.kind == "reply" if cut == 0 else ended.kind != "reply"
            assert ended.fields["attempts"] == (2 if cut == 0 else 1), cut
            must_be_given_back(client)


@pytest.mark.parametrize("error", [errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT])
def test_a_server_that_reads_no_more_may_have_answered(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said before it closed is the answer, if it is there; a dead path has none."""
    refusal = answer(REFUSAL, status=b"413 X")
    mine, real = threading.get_ident(), socket.socket.send

    def send(sock: socket.socket, data: bytes, *flags: int) -> int:
        if threading.get_ident() == mine and bytes(data[:5]) == b"POST ":
            real(sock, data, *flags)
            raise OSError(error, os.strerror(error))
        return real(sock, data, *flags)

    with (
        Playing(lambda peer: peer.send(refusal)) as server,
        client_on("direct") as client,
    ):
        monkeypatch.setattr(socket.socket, "send", send)
        monkeypatch.setattr(socket.socket, "sendall", send)
        ended = end_of(lambda: ask(client, server.url))
        dead = error == errno.ETIMEDOUT
        assert ended.kind == ("APIConnectionError" if dead else "RequestTooLargeError")
        must_be_given_back(client)


@pytest.mark.parametrize("size", [2 * MIB, 60 * MIB])
def test_no_room_is_made_for_what_is_only_announced(way: str, size: int) -> None:
    """A server that promises much and sends little costs little."""
    line = b"Content-Length: %d\r\n" % size

    def play(peer: Peer) -> bool:
        peer.send(answer(b"x" * 99, line, length=False))
        return False

    with Playing(play) as server, client_on(way) as client:
        # What the first call imports is no memory of a body.
        end_of(lambda: ask(client, server.url))
        tracemalloc.start()
        try:
            assert end_of(lambda: ask(client, server.url)).kind == "TruncatedResponse"
            assert tracemalloc.get_traced_memory()[1] < 1.5 * MIB
        finally:
            tracemalloc.stop()


def in_parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each way to cut bytes in two."""
    for at in range(1, len(data)):
        yield data[:at], data[at:]


@pytest.mark.parametrize("name", ["length", "chunks", "gzip", "gzip in chunks"])
def test_an_answer_may_come_in_two_records_cut_anywhere(
    name: str, way: str, context: ssl.SSLContext, bundle: str
) -> None:
    """At every byte of head and body: all of it is read, and the connection used again."""
    data = CUT[name]
    parts = list(in_parts(data))
    pending = iter(parts)

    def play(peer: Peer) -> None:
        # One look at a socket of TLS brings no more than one record.
        for part in next(pending):
            peer.send(part)

    server = RawServer(lambda peer: secured(peer, context, play))
    with (
        contextlib.closing(server),
        client_on(way, ca_bundle=bundle) as client,
        watch_ways() as went,
    ):
        for _ in parts:
            assert ask(client, server.tls_url).text == "f"
        assert went == [True] * len(parts) * (way == "direct")
        assert (client.stats().opened, server.connections) == (1, 1)


def secured(peer: Peer, context: ssl.SSLContext, play: Callable[[Peer], object]) -> None:
    """Serve one connection within TLS."""
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sock = context.wrap_socket(peer.sock, server_side=True)
    while peer.read_request() is not None:
        play(peer)


@pytest.mark.parametrize("name", ["length", "chunks", "gzip in chunks"])
def test_an_answer_may_come_byte_by_byte(name: str, way: str) -> None:
    """However slowly, as long as there is time."""
    with (
        Playing(lambda peer: peer.drip(CUT[name], 0.0005)) as server,
        client_on(way) as client,
    ):
        for _ in range(3):
            assert ask(client, server.url).text == "f"
        assert client.stats().opened == 1


def sized(size: int) -> bytes:
    """Return a body of just so many bytes."""
    return short_body("x" * (size - len(short_body(""))))


SIZES = [KIB, 16 * KIB - 1, 16 * KIB, 64 * KIB, MIB - 1, MIB, MIB + 1, 3 * MIB]


@pytest.mark.parametrize("size", SIZES)
def test_a_body_of_any_size_is_read_whole(way: str, size: int) -> None:
    """With a length, in chunks, compressed: and its connection is used again each time."""
    body = sized(size)
    assert len(body) == size
    packed = gzip.compress(body, 1)
    answers = [
        answer(body),
        chunked_by(body, 8000),
        answer(packed, GZIP),
        answer(chunks(packed, 1000), GZIP + CHUNKED, length=False),
    ]
    pending = iter(answers)
    with (
        Playing(lambda peer: peer.send(next(pending))) as server,
        client_on(way) as client,
        watch_ways() as went,
    ):
        for _ in answers:
            assert ask(client, server.url).text == "x" * (size - len(short_body("")))
        assert went == [True] * 4 * (way == "direct")
        assert client.stats().opened == 1
        must_be_given_back(client)


def chunked_by(body: bytes, size: int) -> bytes:
    """Return an answer in chunks of a size."""
    return answer(chunks(body, size), CHUNKED, length=False)


@pytest.mark.parametrize("limit", [100, 64 * KIB - 1, 64 * KIB, MIB, MIB + 1])
def test_a_body_has_its_limit(way: str, limit: int) -> None:
    """So many bytes, decoded, and not one more; the connection is not used again after it."""
    framings: list[Callable[[bytes], bytes]] = [
        answer,
        lambda body: chunked_by(body, 50_000),
        lambda body: answer(gzip.compress(body, 1), GZIP),
        lambda body: answer(body, length=False),
    ]
    for framed, over in itertools.product(framings, (0, 1)):
        data = framed(sized(limit + over))

        def play(peer: Peer, data: bytes = data) -> bool:
            peer.send(data)
            return False

        with Playing(play) as server, client_on(way, limits=Limits(body=limit)) as client:
            ended = end_of(lambda client=client, server=server: ask(client, server.url))
            assert ended.kind == ("ResponseTooLarge" if over else "reply")
            must_be_given_back(client)


@pytest.mark.parametrize(
    ("name", "reused"),
    [
        *(("gzip", True), ("chunks", True), ("gzip in chunks", True), ("events", True)),
        *(("identity", True), ("a refusal in chunks", True), ("early hints", True)),
        *(("empty", True), ("no JSON", True), ("gzip cut short", True)),
        *(("more than said", False), ("another answer", False), ("until close", False)),
        *(("more than the chunks", False), ("length and chunks", False), ("1.0", False)),
        *(("a refusal and more", False), ("a chunk that is none", False)),
        *(("line 19 b'Connection: close\\r\\n'", False), ("a long refusal", False)),
    ],
)
def test_a_connection_is_used_again_where_nothing_is_in_doubt(
    name: str, reused: bool, way: str
) -> None:
    """After more bytes than an answer has, or one whose end is its own, another is opened."""
    answers = iter([CANNED[name], answer()])

    def play(peer: Peer) -> bool:
        peer.send(next(answers))
        # What ends with its connection has to have that end.
        return "until close" not in name

    with Playing(play) as server, client_on(way) as client:
        end_of(lambda: ask(client, server.url))
        assert client.stats().idle_connections == (1 if reused else 0)
        assert ask(client, server.url).text == "fine"
        assert server.connections == client.stats().opened == (1 if reused else 2)
        must_be_given_back(client)


def test_what_comes_beside_an_answer_is_no_answer_to_the_next_request(way: str) -> None:
    """Not even where it looks like one, and comes late."""
    told = iter(["first", "second"])

    def play(peer: Peer) -> None:
        peer.send(answer(short_body(next(told))))
        peer.send(answer(short_body("smuggled")))

    with Playing(play) as server, client_on(way) as client:
        assert ask(client, server.url).text == "first"
        # Its last bytes may come while the next request is on its way; then they are an answer to
        # nothing, and no client can tell.
        list(map(wait_for_bytes, idle_sockets(client)))
        assert ask(client, server.url).text == "second"


def idle_sockets(client: Client) -> list[socket.socket]:
    """Return the sockets of a client's idle connections."""
    pools = client.session.get_adapter("http://").pools()
    return [conn.sock for pool in pools for conn, _ in pool.idle._waiting]


def wait_for_bytes(sock: socket.socket) -> None:
    """Wait until a socket has something to read."""
    sock.settimeout(20)
    assert sock.recv(1, socket.MSG_PEEK)


@pytest.mark.parametrize("name", ["events", "events in chunks"])
def test_a_stream_is_read_alike_on_both_ways(name: str, way: str) -> None:
    """Piece by piece, and its connection is used again; the next call goes on it."""
    with (
        Playing(lambda peer: peer.send(CANNED[name])) as server,
        client_on(way) as client,
        watch_ways() as went,
    ):
        for _ in range(3):
            with client.stream(PROMPT, base_url=server.url, **SHORT) as stream:
                assert "".join(stream) == "fine"
            assert ask(client, server.url).text == "fine"
        assert went == [True] * 6 * (way == "direct")
        assert client.stats().opened == 1
        must_be_given_back(client)


STREAMS = {
    "cut short": CANNED["events cut short"],
    "cut short in chunks": chunked(EVENTS, b"Content-Type: text/event-stream\r\n")[:-30],
    "a refusal": answer(REFUSAL, JSON + b"X-Request-ID: r\r\n", b"429 X"),
    "a whole reply": answer(headers=JSON),
    "gzip": answer(gzip.compress(EVENTS), GZIP + b"Content-Type: text/event-stream\r\n"),
    "broken gzip": answer(b"no gzip", GZIP + b"Content-Type: text/event-stream\r\n"),
    "until close": answer(EVENTS, b"Content-Type: text/event-stream\r\n", length=False),
    "broken chunks": answer(b"x\r\n", CHUNKED, length=False),
    "nothing": b"",
    "too many lines": answer(EVENTS, LINES[-4]),
}


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_a_stream_ends_alike_on_both_ways(name: str) -> None:
    """The same pieces, and the same error after them."""

    def play(peer: Peer) -> bool:
        peer.send(STREAMS[name])
        return False

    ends = []
    for way in WAYS:
        pieces: list[str] = []

        def read(client: Client, pieces: list[str], url: str) -> Any:
            with client.stream(PROMPT, base_url=url, **SHORT) as stream:
                pieces.extend(stream)
                return stream.response

        with Playing(play) as server, client_on(way) as client:
            ended = end_of(lambda c=client, p=pieces, s=server: read(c, p, s.url))
            must_be_given_back(client)
        ends.append((ended, pieces))
    assert ends[0] == ends[1]


TIMES = ("elapsed", "wait", "when", "call_id", "port", "seconds")


def heard_on(way: str) -> tuple[list[Any], Any]:
    """Make calls of several ends; return the events and the figures, times left out."""
    busy = answer(REFUSAL, b"Retry-After: 0.01\r\nX-Request-ID: r\r\n", b"503 X")
    script = [
        *(answer(), busy, answer(good_body()), busy, busy, busy),
        *(answer(b"no JSON"), answer(REFUSAL, status=b"400 X"), answer()[:-3], answer()[:-3]),
        *(b"", CANNED["events in chunks"]),
    ]
    pending = iter(script)
    heard: list[Any] = []

    def play(peer: Peer) -> bool:
        data = next(pending)
        peer.send(data)
        return data not in (b"", answer()[:-3])

    retry = RetryConfig(base_delay=0.001, max_delay=0.002)
    with Playing(play) as server, client_on(way, retry=retry) as client:
        client.listen(heard.append)
        for _ in range(6):
            end_of(lambda: ask(client, server.url, retry=retry))
        with (
            contextlib.suppress(termai_http.TermaiHttpError),
            client.stream(PROMPT, base_url=server.url, **SHORT) as stream,
        ):
            list(stream)
        must_be_given_back(client)
        calls = client.stats().calls
        left = len(list(pending))
    told = [
        (type(event).__name__, {k: v for k, v in values_of(event).items() if k not in TIMES})
        for event in heard
    ]
    figures = {name: value for name, value in values_of(calls).items() if not name.endswith("_ms")}
    figures["recent_failures"] = [
        {name: value for name, value in values_of(failure).items() if name not in TIMES}
        for failure in calls.recent_failures
    ]
    return told, (figures, left)


def values_of(item: Any) -> dict[str, Any]:
    """Return the fields of a value."""
    return {field.name: getattr(item, field.name) for field in attrs.fields(type(item))}


def test_listeners_and_figures_are_told_alike() -> None:
    """The same events in the same order, the same failures, retries and tokens."""
    direct, ordinary = (heard_on(way) for way in WAYS)
    assert direct == ordinary
    assert {"CallStarted", "AttemptStarted", "AttemptFailed", "RetryScheduled"} <= {
        name for name, _ in direct[0]
    }


def test_a_request_whose_answer_is_one_of_requests_goes_the_ordinary_way() -> None:
    """A handler returns a ``requests.Response``, which only that way makes."""
    with (
        Playing(lambda peer: peer.send(answer())) as server,
        client_on("direct") as client,
        watch_ways() as went,
    ):
        handler = RequestHandler(client)
        assert isinstance(handler.post_json(f"{server.url}/v1/x", {}, {}), requests.Response)
        assert isinstance(handler.get_json(f"{server.url}/v1/x", {}), requests.Response)
        assert went == []
        ask(client, server.url)
        assert went == [True]
        assert client.stats().opened == 1


def test_a_log_that_would_miss_lines_keeps_calls_off(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who listens to urllib3's log gets its lines; nobody else pays for them."""
    log = logging.getLogger("urllib3.connectionpool")
    with (
        Playing(lambda peer: peer.send(answer())) as server,
        client_on(way) as client,
        watch_ways() as went,
    ):
        ask(client, server.url)
        monkeypatch.setattr(log, "level", logging.DEBUG)
        log.manager._clear_cache()  # type: ignore[attr-defined]
        ask(client, server.url)
        monkeypatch.undo()
        log.manager._clear_cache()  # type: ignore[attr-defined]
        ask(client, server.url)
        assert went == [True] * 2 * (way == "direct")
        assert client.stats().opened == 1
