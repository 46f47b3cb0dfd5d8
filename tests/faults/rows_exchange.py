"""Faults of reuse, sending and headers (F16 to F30)."""

from __future__ import annotations

import ctypes
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import termai_http
from termai_http import Limits, RetryConfig, _socket

from .harness import PROMPT, Bench, Peer, RawServer, Seen, good_body, good_reply, row

_SO_ATTACH_FILTER = 26
# More than what both systems' buffers take.
_LONG_PROMPT_BYTES = 6_000_000
_OK = b"HTTP/1.1 200 OK\r\n"
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
# No retry that waits could end before any deadline here, so one that succeeds did not wait.
_SLOW_RETRY = RetryConfig(base_delay=3600.0, max_delay=3600.0)


def _prompt_of(request: bytes) -> str:
    """Return what a request asks."""
    message = json.loads(request.split(b"\r\n\r\n", 1)[1])["messages"][-1]
    return str(message["content"])


def _echo(request: bytes, headers: bytes = b"") -> bytes:
    """Answer with the prompt, so that a reply to another call is seen."""
    return good_reply(_prompt_of(request), headers)


def _answering(
    bench: Bench,
    answer: Callable[[Peer, bytes], object],
    *,
    tls: ssl.SSLContext | None = None,
    close: bool = False,
) -> RawServer:
    """Do as ``Bench.answering``, over TLS too, and without Nagle: what is sent is on its way."""

    def handle(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            peer.sock = tls.wrap_socket(peer.sock, server_side=True)
        while (request := peer.read_request()) is not None:
            server.requests.append(request)
            answer(peer, request)
            if close:
                return

    server = bench.serve(handle)
    return server


def _tls(bench: Bench) -> tuple[ssl.SSLContext, str]:
    """Return a server's TLS context, and the file of the CA that signed it."""
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, bench.enter(authority.cert_pem.tempfile())


def _asked(server: RawServer) -> Counter[str]:
    """Count the requests by what they ask."""
    return Counter(_prompt_of(request) for request in list(server.requests))


def _finish(peer: Peer) -> None:
    peer.sock.shutdown(socket.SHUT_WR)


def _dismiss(peer: Peer) -> None:
    # Some servers tell an idle client that its request never came, and hang up.
    peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    _finish(peer)


def _hang_up(peer: Peer) -> None:
    peer.sock.close()


def _must_echo(bench: Bench, seen: Seen, prompt: str) -> None:
    seen.must_be("reply")
    bench.must(seen.text == prompt, f"the reply to another call: {(seen.text or '')[:40]}")


@row(
    "F16",
    fault="the server closed a kept connection while it was idle",
    promise="noticed before it is used: the call opens another, and sends once",
)
def closed_while_idle(bench: Bench) -> None:
    """Call again when the end of the kept connection has arrived already."""
    for ending in (_finish, _dismiss, Peer.reset):
        returned, gone = threading.Event(), threading.Event()

        def answer(
            peer: Peer,
            request: bytes,
            ending: Callable[[Peer], None] = ending,
            returned: threading.Event = returned,
            gone: threading.Event = gone,
        ) -> None:
            peer.send(_echo(request))
            if peer.number == 1:
                returned.wait(10)
                ending(peer)
                gone.set()

        server, client = bench.answering(answer), bench.client()
        _must_echo(bench, bench.chat(server.url, 5, client, prompt="first"), "first")
        returned.set()
        gone.wait(10)
        _must_echo(bench, bench.chat(server.url, 5, client, prompt="second"), "second")
        bench.must(_asked(server)["second"] == 1, "the second request was sent twice")
        if bench.ours:
            stats = client.stats()
            assert (stats.opened, stats.reused, stats.evicted) == (2, 0, 1)
            assert stats.calls.total_retries == 0


@row(
    "F17",
    fault="the server closes a kept connection just as the next request is sent on it",
    promise="replayed once, at once, on a fresh connection; counted as stale_connection, not "
    "charged to the retry budget",
)
def closed_in_the_race(bench: Bench) -> None:
    """Read the second request of a connection, and close or reset instead of an answer."""
    context, ca_file = _tls(bench)
    for tls, ending in (
        *((None, _hang_up), (None, Peer.reset)),
        *((context, _hang_up), (context, Peer.reset)),
    ):
        asked: Counter[int] = Counter()

        def answer(
            peer: Peer,
            request: bytes,
            ending: Callable[[Peer], None] = ending,
            asked: Counter[int] = asked,
        ) -> None:
            asked[peer.number] += 1
            if asked[peer.number] > 1:
                ending(peer)
            else:
                peer.send(_echo(request))

        server = _answering(bench, answer, tls=tls)
        url = server.tls_url if tls else server.url
        client = bench.client(ca_bundle=ca_file, retry=_SLOW_RETRY)
        _must_echo(bench, bench.chat(url, 5, client, prompt="first"), "first")
        _must_echo(bench, bench.chat(url, 5, client, prompt="second"), "second")
        bench.must(_asked(server)["second"] == 2, f"sent {_asked(server)['second']} times")
        if bench.ours:
            _check_stale_replay(client, url)
    _replay_past_other_stale_ones(bench)


def _check_stale_replay(client: Any, url: str) -> None:
    stats = client.stats()
    assert stats.calls.retries_by_cause == {"stale_connection": 1}
    assert (stats.opened, stats.reused, stats.discarded) == (2, 1, 1)
    scheme, _, netloc = url.partition("://")
    budget = client._core.transport()._budgets.of(scheme, netloc)
    assert budget.take(throttled=False), "the host's budget"
    assert budget._tokens == 500 - 14


def _replay_past_other_stale_ones(bench: Bench) -> None:
    """Keep three connections that are all stale: the replay must not take the next of them."""
    meet, asked = threading.Barrier(3), Counter[int]()

    def answer(peer: Peer, request: bytes) -> None:
        asked[peer.number] += 1
        if asked[peer.number] > 1:
            peer.reset()
            return
        if peer.number <= 3:
            meet.wait(10)
        peer.send(_echo(request))

    server, client = bench.answering(answer), bench.client(retry=_SLOW_RETRY)
    prompts = ["a", "b", "c"]
    with ThreadPoolExecutor(3) as pool:
        burst = pool.map(lambda prompt: bench.chat(server.url, 5, client, prompt=prompt), prompts)
        for seen, prompt in zip(burst, prompts, strict=True):
            _must_echo(bench, seen, prompt)
    _must_echo(bench, bench.chat(server.url, 5, client, prompt="later"), "later")
    bench.must(_asked(server)["later"] == 2, f"sent {_asked(server)['later']} times")


@row(
    "F18",
    fault="the path of a kept connection is dropped without a word, as a NAT does",
    promise="a request that nobody acknowledges for 30 s is replayed on a fresh connection; none "
    "is reused past pool_idle_timeout",
    linux=True,
)
def path_dropped(bench: Bench) -> None:
    """Let the server's kernel drop every further packet of the first connection."""
    bench.enter(mock.patch.object(_socket, "_UNACKNOWLEDGED_MS", 200))
    returned, dropped = threading.Event(), threading.Event()

    def answer(peer: Peer, request: bytes) -> None:
        peer.send(_echo(request))
        if peer.number == 1:
            returned.wait(10)
            _drop_packets(peer.sock)
            dropped.set()
            peer.wait()

    server, client = bench.answering(answer), bench.client(retry=_SLOW_RETRY)
    _must_echo(bench, bench.chat(server.url, 5, client, prompt="first"), "first")
    returned.set()
    dropped.wait(10)
    # Far more than it takes, so that no timeout is what ends the wait.
    _must_echo(bench, bench.chat(server.url, 60, client, prompt="second"), "second")
    if bench.ours:
        assert client.stats().calls.retries_by_cause == {"stale_connection": 1}
        _reuse_only_the_young(bench)


def _drop_packets(sock: socket.socket) -> None:
    """Attach a filter of one instruction, "return 0": the kernel keeps nothing of a packet."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _reuse_only_the_young(bench: Bench) -> None:
    server = bench.answering(lambda peer, request: peer.send(_echo(request)))
    client = bench.client(pool_idle_timeout=0.05)
    for prompt in ("young", "old"):
        _must_echo(bench, bench.chat(server.url, 5, client, prompt=prompt), prompt)
        time.sleep(0.06)
    stats = client.stats()
    assert (stats.opened, stats.reused, stats.evicted) == (2, 0, 2)


@row(
    "F19",
    fault="a fresh connection ends after the request and before the answer's header block does",
    promise="sent again once at most, since it may have been processed (ambiguous_retries); then "
    "APIConnectionError with maybe_billed",
)
def fresh_connection_dropped(bench: Bench) -> None:
    """End each connection in the answer's first lines, and once only."""
    for begun in (
        *(b"", b"HTT", b"HTTP/1.1 2", _OK, _OK + b"Content-Len", _OK + b"X-A: b\r\n"),
        *(_GO_ON, _GO_ON + b"HTT", _GO_ON + b"HTTP/1.1 200", _GO_ON + _OK),
    ):
        for ending in (_hang_up, Peer.reset):
            dropped = _dropping(bench, begun, ending)
            seen = bench.chat(dropped.url, 5, prompt=PROMPT).must_be("connection", "invalid")
            sent = len(dropped.requests)
            bench.must(sent <= 2, f"sent {sent} times")
            if bench.ours:
                assert type(seen.error) is termai_http.APIConnectionError, (begun, seen.error)
                assert (seen.error.attempts, sent) == (2, 2)
                assert seen.error.maybe_billed
                assert seen.error.phase == "headers"
            once, client = _dropping(bench, begun, ending, times=1), bench.client()
            _must_echo(bench, bench.chat(once.url, 5, client, prompt="again"), "again")
            if bench.ours:
                assert client.stats().calls.retries_by_cause == {"ambiguous": 1}
    if bench.ours:
        strict = _dropping(bench, b"", Peer.reset)
        seen = bench.chat(strict.url, 5, bench.client(retry=RetryConfig(ambiguous_retries=0)))
        assert seen.error is not None
        assert seen.error.maybe_billed
        assert len(strict.requests) == 1


def _dropping(
    bench: Bench, begun: bytes, ending: Callable[[Peer], None], times: int = 1000
) -> RawServer:
    """Run a server that begins an answer and ends the connection, so many times."""

    def answer(peer: Peer, request: bytes) -> None:
        if peer.number > times:
            peer.send(_echo(request))
            return
        peer.send(begun)
        ending(peer)

    return bench.answering(answer)


@row(
    "F20",
    fault="the server accepts and never answers, or stops reading a large request",
    promise="ended by read_timeout or the deadline, and sent once: the model may still be running",
)
def never_answers(bench: Bench) -> None:
    """Leave a request without an answer; read a large one not at all, or slowly."""
    silent = bench.answering(lambda peer, request: peer.wait())
    seen = bench.chat(silent.url, 0.3).must_be("timeout")
    bench.must(len(silent.requests) == 1, f"sent {len(silent.requests)} times")
    if bench.ours:
        _check_deadline(seen, "headers")
        _check_read_timeout(bench)
    context, ca_file = _tls(bench)
    for tls, pause in ((None, None), (context, 0.02)):
        server = bench.serve(lambda peer, tls=tls, pause=pause: _read_slowly(peer, tls, pause))
        url = server.tls_url if tls else server.url
        prompt = PROMPT + "x" * _LONG_PROMPT_BYTES
        seen = bench.chat(url, 0.4, bench.client(ca_bundle=ca_file), prompt=prompt)
        seen.must_be("timeout").must_keep_the_deadline()
        bench.must(server.connections == 1, f"sent {server.connections} times")
        if bench.ours:
            _check_deadline(seen, "send")


def _read_slowly(peer: Peer, tls: ssl.SSLContext | None, pause: float | None) -> None:
    """Read a little, and then no more (None) or a little after each pause."""
    sock = peer.sock if tls is None else tls.wrap_socket(peer.sock, server_side=True)
    try:
        while sock.recv(16384):
            peer.wait(pause)
            if peer.ended.is_set():
                return
    finally:
        sock.close()


def _check_deadline(seen: Seen, phase: str) -> None:
    assert type(seen.error) is termai_http.DeadlineExceeded, seen.error
    assert (seen.error.phase, seen.error.attempts) == (phase, 1)
    assert seen.error.maybe_billed


def _check_read_timeout(bench: Bench) -> None:
    retrying = RetryConfig(base_delay=0.01, retry_read_timeouts=True, max_attempts=2)
    for retry, attempts in ((RetryConfig(), 1), (retrying, 2)):
        silent = bench.answering(lambda peer, request: peer.wait())
        seen = bench.chat(silent.url, 5, bench.client(read_timeout=0.15, retry=retry))
        assert type(seen.error) is termai_http.ReadTimeout
        assert seen.error.attempts == len(silent.requests) == attempts
        assert seen.error.maybe_billed


@row(
    "F21",
    fault="the bytes of the header block trickle in",
    promise="ended by the deadline, whatever comes in the meantime",
)
def trickled_headers(bench: Bench) -> None:
    """Drip a status line, a header block and an endless value, each byte in time for a read."""
    context, ca_file = _tls(bench)
    for tls, begun, dripped in (
        (None, b"", _OK * 10),
        (None, _OK, b"X-Header: value\r\n" * 10),
        (None, _OK + b"X-Value: ", b"x" * 200),
        (context, _OK, b"X-Header: value\r\n" * 10),
    ):

        def answer(
            peer: Peer, request: bytes, begun: bytes = begun, dripped: bytes = dripped
        ) -> None:
            peer.send(begun)
            peer.drip(dripped, 0.03)

        server = _answering(bench, answer, tls=tls)
        url = server.tls_url if tls else server.url
        seen = bench.chat(url, 0.3, bench.client(ca_bundle=ca_file))
        seen.must_be("timeout").must_keep_the_deadline()
        bench.must(len(server.requests) == 1, f"sent {len(server.requests)} times")
        if bench.ours:
            _check_deadline(seen, "headers")


@row(
    "F22",
    fault="the header block does not end: one line after the other, or one endless value",
    promise="ResponseTooLarge past Limits(headers=256 KiB), 100 lines, or 64 KiB in one line",
)
def endless_headers(bench: Bench) -> None:
    """Send header lines as fast as they are read."""
    for begun, more in (
        (_OK, b"X-Header: value\r\n" * 500),
        (_OK, b"X-Header: " + b"x" * 60_000 + b"\r\n"),
        (_OK + b"X-Value: ", b"x" * 65536),
        (b"", b"H" * 65536),
    ):
        server = bench.answering(lambda peer, _, begun=begun, more=more: _flood(peer, begun, more))
        seen = bench.chat(server.url, 5).must_be("invalid", "connection")
        bench.must(len(server.requests) == 1, f"sent {len(server.requests)} times")
        if bench.ours:
            assert type(seen.error) is termai_http.ResponseTooLarge, seen.error
            assert seen.error.phase == "headers"
    if bench.ours:
        _check_exact_cap(bench, Limits().headers)
        _check_exact_cap(bench, 2000)


def _flood(peer: Peer, begun: bytes, more: bytes) -> None:
    peer.send(begun)
    while not peer.ended.is_set():
        peer.send(more)


def _padded_block(size: int) -> bytes:
    """Return the header lines that make the whole block of a good reply so large."""
    lines = b""
    missing = size - (len(good_reply()) - len(good_body()))
    while missing:
        # No line is left so short that it could not be one.
        length = missing if missing <= 50_000 else min(50_000, missing - 100)
        lines += b"X-Pad: " + b"x" * (length - 9) + b"\r\n"
        missing -= length
    return lines


def _check_exact_cap(bench: Bench, cap: int) -> None:
    """See a block of exactly the cap pass, and one byte more refused, whatever follows it."""
    client = bench.client(limits=Limits(headers=cap))
    for size, kind in ((cap, "reply"), (cap + 1, "invalid")):
        server = bench.answering(good_reply(headers=_padded_block(size)))
        seen = bench.chat(server.url, 5, client).must_be(kind)
        assert kind == "reply" or type(seen.error) is termai_http.ResponseTooLarge


@row(
    "F23",
    fault="100 Continue without end",
    promise="ProtocolError past ten interim answers, and the deadline holds; 103 Early Hints "
    "before a good reply are skipped",
)
def endless_interim(bench: Bench) -> None:
    """Send interim answers fast, slowly, and then a real one."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    for interim in (_GO_ON, hints):
        fast = bench.answering(lambda peer, _, more=interim: _flood(peer, more, more))
        seen = bench.chat(fast.url, 2).must_be("invalid", "connection")
        bench.must(len(fast.requests) == 1, f"sent {len(fast.requests)} times")
        if bench.ours:
            assert type(seen.error) is termai_http.ProtocolError, seen.error
    slow = bench.answering(lambda peer, _: peer.drip(_GO_ON * 50, 0.05, len(_GO_ON)))
    bench.chat(slow.url, 0.3).must_be("timeout")
    bench.must(len(slow.requests) == 1, f"sent {len(slow.requests)} times")
    for interim in (_GO_ON, hints, b"HTTP/1.1 102 Processing\r\n\r\n", hints * 10):
        early = bench.answering(
            lambda peer, request, interim=interim: peer.send(interim + _echo(request))
        )
        client = bench.client()
        for prompt in ("first", "second"):
            _must_echo(bench, bench.chat(early.url, 5, client, prompt=prompt), prompt)
        bench.must(early.connections == 1, "the connection was not kept")


def _must_refuse(bench: Bench, answers: dict[bytes, bytes]) -> None:
    """Play answers that are none: each must end as an error, and be asked for once.

    Args:
        bench: The bench.
        answers: Whole answers by what is wrong with each; the connection closes after each.
    """
    numbered = {f"answer {number}": answer for number, answer in enumerate(answers.values())}
    server = bench.answering(
        lambda peer, request: peer.send(numbered[_prompt_of(request)]), close=True
    )
    client = bench.client()
    wrong = []
    for prompt, fault in zip(numbered, answers, strict=True):
        seen = bench.chat(server.url, 5, client, prompt=prompt)
        sent = _asked(server)[prompt]
        refused = seen.kind in ("invalid", "connection") and sent == 1
        if not refused or (bench.ours and type(seen.error) is not termai_http.ProtocolError):
            wrong.append(f"{fault[:50]!r}: {seen.name}, sent {sent} times")
    bench.must(not wrong, f"{len(wrong)} of {len(answers)} wrong: {'; '.join(wrong[:3])}")


def _with_status(lines: Iterable[bytes]) -> dict[bytes, bytes]:
    return {line: good_reply().replace(_OK, line + b"\r\n") for line in lines}


def _with_headers(lines: Iterable[bytes]) -> dict[bytes, bytes]:
    return {
        line: _OK + b"Content-Type: application/json\r\n" + line + b"\r\n\r\n" + good_body()
        for line in lines
    }


@row(
    "F24",
    fault="what is answered is no HTTP/1.1: garbage, a broken status line, another protocol",
    promise="ProtocolError, not tried again",
)
def garbage(bench: Bench) -> None:
    """Answer with status lines that are none."""
    lines = (
        *(b"HTTP/1.1 99 Low", b"HTTP/1.1 600 High", b"HTTP/1.1 999 High", b"HTTP/1.1 1000 High"),
        *(b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 000 None", b"HTTP/1.1 -200 OK"),
        *(b"HTTP/1.1 +200 OK", b"HTTP/1.1 2_00 OK", b"HTTP/1.1 0200 OK", b"HTTP/1.1 20 OK"),
        *(b"HTTP/1.1 2x0 OK", b"HTTP/1.1 abc", b"HTTP/1.1 200.0 OK", b"HTTP/1.1 \xb2\xb3\xb9 OK"),
        *(b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1200 OK", b"HTTP/1.1\xa0200\xa0OK", b""),
        *(b"HTTP/3.0 200 OK", b"HTTP/2 200", b"HTTP/0.9 200 OK", b"HTTP/1.x 200 OK", b"\r\nx"),
        *(b"http/1.1 200 OK", b"ICY 200 OK", b"200 OK", b" HTTP/1.1 200 OK", b"SSH-2.0-x"),
        *(b"HTTP/1.1 200 O\0K", b"HTTP/1.1 200 O\rK", b"<!doctype html><title>Hi</title>"),
    )
    # The preface and the first frame of HTTP/2, an alert of TLS, and bytes of no meaning.
    others = (
        *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\x12\x04\0\0\0\0\0" + b"\0" * 18),
        *(b"\x15\x03\x01\0\x02\x02\x28", bytes(range(256)), b"\0", b"\xff" * 1000),
    )
    _must_refuse(bench, {**_with_status(lines), **{other: other for other in others}})


@row(
    "F25",
    fault="a Content-Length that is no number",
    promise="ProtocolError, not tried again",
)
def broken_length(bench: Bench) -> None:
    """Answer with lengths that are negative, signed, empty, in letters."""
    values = (
        *(b"-5", b"+5", b"abc", b"", b" ", b"5.0", b"5 5", b"0x10", b"1e2", b"5;", b"'5'"),
        *(b"\xd9\xa5", b"\xb2", b"5\t5", b"--1", b"NaN", b"5,", b",5"),
    )
    _must_refuse(bench, _with_headers(b"Content-Length: " + value for value in values))


@row(
    "F26",
    fault="two lengths, a list of them, or one that is too large or in Python's spelling",
    promise="ProtocolError, not tried again; for the same length twice, too",
)
def contradictory_length(bench: Bench) -> None:
    """Answer with more lengths than one, or with one that only Python would read."""
    right = len(good_body())
    lines = (
        *(b"Content-Length: 5, 6", b"Content-Length: 5\r\nContent-Length: 6"),
        b"Content-Length: %d\r\ncontent-length: %d" % (right, right + 1),
        b"Content-Length: %d\r\nContent-Length: abc" % right,
        b"Content-Length: %d\r\nContent-Length:" % right,
        *(b"Content-Length: 1" + b"0" * 22, b"Content-Length: " + b"9" * 5000),
        *(b"Content-Length: 1_0", b"Content-Length: %d_" % right, b"Content-Length: 1" * 2),
    )
    _must_refuse(bench, _with_headers(lines))
    if bench.ours:
        twice = b"Content-Length: %d\r\nContent-Length: %d" % (right, right)
        _must_refuse(bench, _with_headers([twice]))
    for line in (b"CONTENT-LENGTH:%d", b"content-length: \t00%d \t"):
        line %= right
        plain = bench.answering(_with_headers([line])[line])
        bench.chat(plain.url, 5).must_be("reply")


@row(
    "F27",
    fault="Content-Length beside chunks, another Transfer-Encoding, bare line ends, lines that "
    "are no headers, NUL in a value",
    promise="the chunks count and the connection is closed; a bare LF ends a line; everything "
    "else is ProtocolError, not tried again",
)
def ambiguous_framing(bench: Bench) -> None:
    """Answer with header blocks that two readers could read in two ways."""
    right = len(good_body())
    lines = (
        *(b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked"),
        *(b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: xchunked"),
        *(
            b"Transfer-Encoding:",
            b"Transfer-Encoding: chunked;a=b",
            b"Transfer-Encoding: \x0bchunked",
        ),
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        *(b"no colon\r\nContent-Length: %d" % right, b"X-A : b\r\nContent-Length: %d" % right),
        b": no name\r\nContent-Length: 3",
        *(b"X-A: b\rContent-Length: 3", b"X-A: b\0c", b"X\0A: b", b"X-A: b\r", b"\xc3\xa4: b"),
        *(b"Content-Length : 5", b"Content-Length\t: 5", b"X A: b", b"Content-Length: 5\r"),
    )
    _must_refuse(bench, _with_headers(lines))
    first_folded = good_reply().replace(b"Content-Type", b" Content-Type", 1)
    _must_refuse(bench, {b"first line folded": first_folded})
    bare = bench.answering(good_reply().replace(b"\r\n", b"\n"))
    bench.chat(bare.url, 5).must_be("reply")
    _chunks_beside_a_length(bench)


def _chunks_beside_a_length(bench: Bench) -> None:
    """Frame a reply twice: as chunks, and by a length that would make another reply of it."""
    for version, lines in (
        (b"HTTP/1.1", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (b"HTTP/1.1", b"Transfer-Encoding: Chunked\r\nContent-Length: 9999\r\n"),
        (b"HTTP/1.0", b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n"),
    ):

        def answer(
            peer: Peer, request: bytes, version: bytes = version, lines: bytes = lines
        ) -> None:
            body = good_body(_prompt_of(request))
            chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            peer.send(version + b" 200 OK\r\n" + lines + b"\r\n" + chunks)

        server, client = bench.answering(answer), bench.client()
        for prompt in ("first", "second"):
            _must_echo(bench, bench.chat(server.url, 5, client, prompt=prompt), prompt)
        bench.must(server.connections == 2, f"the connection was kept after {lines!r}")


@row(
    "F28",
    fault="two answers come to one request, together or one later",
    promise="the connection is closed: no reply ever crosses to another call",
)
def two_answers(bench: Bench) -> None:
    """Send a second answer in the same packet, after the call, and inside one TLS record."""
    context, ca_file = _tls(bench)
    wrong = good_reply("of nobody")
    for tls in (None, context):
        for extra in (wrong, wrong[:1], b"\r\n", b"\0", wrong * 50):
            for later in (False, True):
                _play_two_answers(bench, tls, ca_file, extra, later=later)
    # The first reader takes 8192 bytes: what is left of the record then waits inside OpenSSL,
    # where no look at the socket can find it.
    for size in (4096, 8192, 16384 - len(wrong), 8192 * 3):
        _play_two_answers(bench, context, ca_file, wrong, later=False, size=size)


def _play_two_answers(
    bench: Bench,
    tls: ssl.SSLContext | None,
    ca_file: str,
    extra: bytes,
    *,
    later: bool,
    size: int = 0,
) -> None:
    returned, sent = threading.Event(), threading.Event()

    def answer(peer: Peer, request: bytes) -> None:
        reply = _echo(request)
        if size:
            reply = _echo(request, b"X-Pad: " + b"x" * (size - len(reply) - 9) + b"\r\n")
        if peer.number > 1:
            peer.send(reply)
        elif later:
            peer.send(reply)
            returned.wait(10)
            peer.send(extra)
            sent.set()
        else:
            peer.send(reply + extra)
            sent.set()

    server = _answering(bench, answer, tls=tls)
    url = server.tls_url if tls else server.url
    client = bench.client(ca_bundle=ca_file)
    _must_echo(bench, bench.chat(url, 5, client, prompt="first"), "first")
    returned.set()
    sent.wait(10)
    for prompt in ("second", "third"):
        _must_echo(bench, bench.chat(url, 5, client, prompt=prompt), prompt)
    if bench.ours:
        stats = client.stats()
        assert (stats.opened, stats.calls.total_retries) == (2, 0)


@row(
    "F29",
    fault="the answer comes after the call has timed out",
    promise="its connection was closed: the next call gets its own answer on another",
)
def late_answer(bench: Bench) -> None:
    """Send the answer, or the rest of it, when the call that wanted it has ended."""
    for cut in (0, 20, 120):
        ended, sent = threading.Event(), threading.Event()

        def answer(
            peer: Peer,
            request: bytes,
            cut: int = cut,
            ended: threading.Event = ended,
            sent: threading.Event = sent,
        ) -> None:
            reply = _echo(request)
            if _prompt_of(request) != "late":
                peer.send(reply)
                return
            peer.send(reply[:cut])
            ended.wait(10)
            try:
                peer.send(reply[cut:])
            finally:
                sent.set()

        server, client = bench.answering(answer), bench.client(retries=0)
        bench.chat(server.url, 0.3, client, prompt="late").must_be("timeout", "connection")
        ended.set()
        sent.wait(10)
        for prompt in ("second", "third"):
            _must_echo(bench, bench.chat(server.url, 5, client, prompt=prompt), prompt)
        if bench.ours:
            stats = client.stats()
            assert (stats.opened, stats.discarded, stats.reused) == (2, 1, 1)


@row(
    "F30",
    fault="a redirect whose Location cannot be parsed",
    promise="UnexpectedRedirect, as for any redirect: Location is not even read",
)
def malformed_location(bench: Bench) -> None:
    """Answer every redirecting status with targets that break parsers."""
    targets = (b"http://[bad", b"\xff\xfe", b"http://\xff/", b"//", b"http://a:b:c/", b"", b"\t")
    current = {"answer": b""}
    server = bench.answering(lambda peer, _: peer.send(current["answer"]))
    client = bench.client()
    for status in (302, 301, 303, 307, 308, 300, 304):
        for target in targets:
            current["answer"] = (
                b"HTTP/1.1 %d Elsewhere\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"
                % (status, target)
            )
            before = len(server.requests)
            seen = bench.chat(server.url, 5, client).must_be("status")
            sent = len(server.requests) - before
            bench.must(sent == 1, f"sent {sent} times")
            if bench.ours:
                assert type(seen.error) is termai_http.UnexpectedRedirect
                assert (seen.error.status_code, seen.error.attempts) == (status, 1)
