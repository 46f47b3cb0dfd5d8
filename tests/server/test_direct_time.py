"""Deadlines and cancel on the direct way and on the ordinary one: in time, and all given back."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import termai_http
from termai_http import CancelToken, Client
from termai_http._slots import Slots
from tests.faults.connecting import Authority, secure, trickle_handshake, watch
from tests.faults.drivers import TermaiDriver
from tests.faults.harness import OVERRUN, Bench, Peer, RawServer, Seen
from tests.server.direct_tools import (
    WAYS,
    answer,
    ask,
    chunks,
    must_be_given_back,
    quiet,
    short_body,
    watch_ways,
)

MIB = 1024 * 1024
TIME = 0.3
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EVENTS = b"Content-Type: text/event-stream\r\n"
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way in turn."""
    return str(request.param)


@pytest.fixture
def bench(way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose clients' calls go one way; what it finds wrong fails the test."""
    monkeypatch.setenv("TERMAI_HTTP_DIRECT", "1" if way == "direct" else "0")
    with quiet(), watch_ways() as went, Bench(TermaiDriver()) as made:
        yield made
    assert made.flaws == []
    assert bool(went) is (way == "direct")


def deadline_of(seen: Seen, phase: str, status: int | None = None) -> None:
    """Check that a call ended by its deadline, in time and in this phase."""
    seen.must_be("timeout").must_keep_the_deadline()
    error = seen.error
    assert isinstance(error, termai_http.DeadlineExceeded)
    assert (error.phase, error.status_code) == (phase, status)
    assert error.attempts == 1
    assert error.maybe_billed


SLOW: dict[str, tuple[Callable[[Peer], object], str, int | None]] = {
    "silence": (lambda peer: peer.wait(), "headers", None),
    "half a head": (lambda peer: (peer.send(answer()[:20]), peer.wait()), "headers", None),
    "a trickled head": (
        lambda peer: peer.drip(answer(headers=b"X: 1\r\n" * 50), 0.05),
        "headers",
        None,
    ),
    "a trickled head in pieces": (
        lambda peer: peer.drip(answer(headers=b"X: 1\r\n" * 50), 0.05, 5),
        "headers",
        None,
    ),
    "interim answers": (
        lambda peer: peer.drip(b"HTTP/1.1 103 X\r\nLink: a\r\n\r\n" * 9, 0.05),
        "headers",
        None,
    ),
    "a head and silence": (
        lambda peer: (peer.send(answer(b"x" * 99)[:-99]), peer.wait()),
        "body",
        200,
    ),
    "half a body": (lambda peer: (peer.send(answer(b"x" * 99)[:-9]), peer.wait()), "body", 200),
    "a trickled body": (
        lambda peer: (peer.send(answer(b"x" * 99)[:-99]), peer.drip(b"x" * 99, 0.05)),
        "body",
        200,
    ),
    "a trickled large body": (
        lambda peer: (
            (peer.send(answer(b"", b"Content-Length: 9000000\r\n", length=False)))
            or peer.drip(b"x" * MIB, 0.05, 999)
        ),
        "body",
        200,
    ),
    "trickled chunks": (
        lambda peer: (
            peer.send(answer(b"", CHUNKED, length=False)) or peer.drip(chunks(b"x" * 999, 1), 0.05)
        ),
        "body",
        200,
    ),
    "a trickled body until close": (
        lambda peer: peer.send(answer(b"", length=False)) or peer.drip(b"x" * 999, 0.05),
        "body",
        200,
    ),
}


@pytest.mark.parametrize(
    ("slow", "kept"),
    [*((slow, True) for slow in sorted(SLOW)), ("silence", False), ("a trickled body", False)],
)
def test_a_slow_answer_ends_at_the_deadline(bench: Bench, slow: str, kept: bool) -> None:
    """On a new connection and on one that calls with more time used; it is not used again."""
    play, phase, status = SLOW[slow]
    plays = iter([lambda peer: peer.send(answer())] * kept + [play, lambda p: p.send(answer())])
    server = bench.answering(lambda peer, _: next(plays)(peer))
    client = bench.client()
    if kept:
        bench.chat(server.url, 120, client).must_be("reply")
    deadline_of(bench.chat(server.url, TIME, client), phase, status)
    must_be_given_back(client)
    assert client.stats().idle_connections == 0
    bench.chat(server.url, 120, client).must_be("reply")
    assert server.connections == client.stats().opened == 2


def test_each_call_has_its_own_time_on_a_kept_connection(bench: Bench) -> None:
    """A long time does not stay for the next call, nor a short one."""
    plays = [lambda peer: peer.send(answer())] * 8 + [lambda peer: peer.wait()]
    pending = iter(plays)
    server = bench.answering(lambda peer, _: next(pending)(peer))
    client = bench.client()
    for seconds in (120, 0.5, 120, 6, 5.02, 4.9, 0.5, 120):
        bench.chat(server.url, seconds, client).must_be("reply")
    deadline_of(bench.chat(server.url, 0.3, client), "headers")
    assert server.connections == 1


def test_a_short_time_is_not_the_next_call_s(bench: Bench) -> None:
    """A call with time enough waits for its answer, though the one before had little."""
    plays = iter([0.0, 0.6, 0.0])
    server = bench.answering(lambda peer, _: (peer.wait(next(plays)), peer.send(answer())))
    client = bench.client()
    for seconds in (0.3, 120, 0.3):
        bench.chat(server.url, seconds, client).must_be("reply")
    assert server.connections == 1


@pytest.mark.parametrize("slow", ["silence", "half a head", "a head and silence", "half a body"])
def test_silence_ends_at_read_timeout(bench: Bench, slow: str) -> None:
    """A shorter limit than the deadline is told as such; a trickle is no silence."""
    play, phase, status = SLOW[slow]
    plays = iter([lambda peer: peer.drip(answer(), 0.002), play])
    server = bench.answering(lambda peer, _: next(plays)(peer))
    client = bench.client(read_timeout=0.3)
    bench.chat(server.url, 20, client).must_be("reply")
    begun = time.monotonic()
    seen = bench.chat(server.url, 20, client).must_be("timeout")
    assert time.monotonic() - begun - seen.late <= 0.3 + OVERRUN
    assert isinstance(seen.error, termai_http.ReadTimeout)
    assert (seen.error.phase, seen.error.status_code) == (phase, status)


def read_slowly(peer: Peer) -> None:
    """Read on and on: quickly enough that no step waits long, and too slowly to read all."""
    left = 16
    while peer.sock.recv(16384):
        left = left - 1 or 16
        if left == 16:
            peer.wait(0.02)


@pytest.mark.parametrize("secure_", [False, True], ids=["plain", "tls"])
def test_a_large_request_ends_at_the_deadline(bench: Bench, way: str, secure_: bool) -> None:
    """A server that reads slowly does not give each record the whole time anew."""
    authority = Authority(bench)
    context = authority.context()

    def handle(peer: Peer) -> None:
        if secure_:
            secure(peer, context)
        read_slowly(peer)

    server = bench.serve(handle)
    client = bench.client(ca_bundle=authority.bundle, retries=0)
    url = server.tls_url if secure_ else server.url
    seen = bench.chat(url, 0.8, client, prompt="x" * 24 * MIB)
    deadline_of(seen, "send")
    must_be_given_back(client)


class Relay:
    """Lets bytes through to a TLS server; once ``slow`` is set, byte by byte on the way back."""

    def __init__(self, bench: Bench, target: int) -> None:
        self.slow = threading.Event()
        self._target = target
        self.server: RawServer = bench.serve(self._handle)

    def _handle(self, peer: Peer) -> None:
        with socket.create_connection(("127.0.0.1", self._target)) as upstream:
            while not peer.ended.is_set():
                ready = select.select([peer.sock, upstream], [], [], 0.1)[0]
                if peer.sock in ready:
                    if not (data := peer.sock.recv(65536)):
                        return
                    upstream.sendall(data)
                if upstream in ready:
                    if not (data := upstream.recv(65536)):
                        return
                    if self.slow.is_set():
                        peer.drip(data, 0.02)
                    else:
                        peer.send(data)


def test_a_trickled_record_of_tls_ends_at_the_deadline(bench: Bench) -> None:
    """Bytes that make no record yet are no answer, however steadily they come."""
    authority = Authority(bench)
    context = authority.context()

    def handle(peer: Peer) -> None:
        secure(peer, context)
        while peer.read_request() is not None:
            peer.send(answer(short_body("x" * 5000)))

    relay = Relay(bench, bench.serve(handle).port)
    client = bench.client(ca_bundle=authority.bundle)
    bench.chat(relay.server.tls_url, 120, client).must_be("reply")
    relay.slow.set()
    deadline_of(bench.chat(relay.server.tls_url, TIME, client), "headers")
    must_be_given_back(client)


def test_a_stream_ends_at_its_deadline(bench: Bench) -> None:
    """While its pieces come one by one, and no end of them."""
    head = answer(b"", EVENTS + CHUNKED, length=False)

    def play(peer: Peer, _: bytes) -> None:
        peer.send(head)
        peer.drip(chunks(PIECE * 99, len(PIECE)), 0.05, len(PIECE) + 6)

    server = bench.answering(play)
    client = bench.client()
    seen = bench.stream(server.url, TIME, client).must_keep_the_deadline()
    assert isinstance(seen.error, termai_http.StreamInterrupted)
    must_be_given_back(client)
    assert client.stats().idle_connections == 0


def cancel_in(
    bench: Bench, client: Client, url: str, begun: threading.Event, *phases: str, **options: Any
) -> None:
    """Cancel a call once ``begun`` is set, and check that it then ends at once, in one of these."""
    token, moments = CancelToken(), []

    def cancel() -> None:
        begun.wait(20)
        moments.append(time.monotonic())
        token.cancel()

    thread = threading.Thread(target=cancel, daemon=True)
    thread.start()
    seen = bench.chat(url, timeout=20, client=client, cancel=token, **options)
    ended = time.monotonic()
    thread.join(20)
    seen.must_be("cancelled")
    assert isinstance(seen.error, termai_http.CallCancelled)
    assert seen.error.phase in phases
    assert seen.error.attempts == 1
    assert ended - moments[0] - seen.late <= OVERRUN


def tell(begun: threading.Event, *sent: bytes) -> Callable[[Peer, bytes], None]:
    """Return what sends something, tells so, and then does nothing."""

    def play(peer: Peer, _: bytes) -> None:
        for data in sent:
            peer.send(data)
        begun.set()
        peer.wait()

    return play


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        ((), "headers"),
        ((answer()[:30],), "headers"),
        ((answer(b"x" * 99)[:-9],), "body"),
        ((answer(b"4\r\nfo", CHUNKED, length=False),), "body"),
        # Its end is that of its connection, so what is wrong with it is found after it.
        ((answer(b"fo", length=False),), "wait"),
    ],
)
def test_a_cancelled_call_ends_at_once(
    bench: Bench, sent: tuple[bytes, ...], phase: str, kept: bool
) -> None:
    """Wherever it waits; its connection is closed, and the next call opens another."""
    begun = threading.Event()
    last = tell(begun, *sent)
    plays = iter(
        [lambda peer, _: peer.send(answer())] * kept + [last, lambda peer, _: peer.send(answer())]
    )
    server = bench.answering(lambda peer, request: next(plays)(peer, request))
    client = bench.client()
    if kept:
        bench.chat(server.url, 20, client).must_be("reply")
    # What was sent need not have been read yet.
    cancel_in(bench, client, server.url, begun, "headers", "body", phase)
    must_be_given_back(client)
    assert client.stats().idle_connections == 0
    bench.chat(server.url, 20, client).must_be("reply")
    assert server.connections == client.stats().opened == 2


@pytest.mark.parametrize("secure_", [False, True], ids=["plain", "tls"])
def test_a_call_is_cancelled_while_it_sends(bench: Bench, secure_: bool) -> None:
    """A server that reads nothing holds nobody up."""
    authority, begun = Authority(bench), threading.Event()
    context = authority.context()

    def handle(peer: Peer) -> None:
        if secure_:
            secure(peer, context)
        peer.sock.recv(1)
        begun.set()
        peer.wait()

    server = bench.serve(handle)
    client = bench.client(ca_bundle=authority.bundle)
    url = server.tls_url if secure_ else server.url
    # A server that reads no more may have answered: that is looked for.
    cancel_in(bench, client, url, begun, "send", "headers", prompt="x" * 16 * MIB)
    must_be_given_back(client)


def test_a_call_is_cancelled_while_it_connects(bench: Bench) -> None:
    """In its handshake, which trickles."""
    begun = threading.Event()
    server = bench.serve(watch(trickle_handshake, begun))
    client = bench.client()
    cancel_in(bench, client, server.tls_url, begun, "connect")
    must_be_given_back(client)


def test_a_call_is_cancelled_while_it_waits_for_a_slot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another has the only one, which goes on and ends as if nothing had been."""
    begun, waiting, go_on = threading.Event(), threading.Event(), threading.Event()
    real = Slots._nap

    def nap(*arguments: Any) -> None:
        waiting.set()
        real(*arguments)

    def play(peer: Peer, _: bytes) -> None:
        begun.set()
        go_on.wait(20)
        peer.send(answer())

    monkeypatch.setattr(Slots, "_nap", nap)
    server = bench.answering(play)
    bench.cleanup(go_on.set)
    client = bench.client(max_connections=1)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: ask(client, server.url).text)
        begun.wait(20)
        cancel_in(bench, client, server.url, waiting, "slot")
        go_on.set()
        assert other.result(20) == "fine"
    must_be_given_back(client)
    assert client.stats().idle_connections == 1


def test_a_cancel_at_the_last_moment_spoils_no_other_call(bench: Bench) -> None:
    """It comes while the answer does: the call ends one way or the other, and the next is whole."""
    tokens: list[CancelToken] = []
    told = iter(range(10_000))

    def play(peer: Peer, _: bytes) -> None:
        data = answer(short_body(f"reply {next(told)}"))
        if tokens:
            threading.Thread(target=tokens.pop().cancel, daemon=True).start()
        peer.send(data)

    server = bench.answering(play)
    client = bench.client()
    number = 0
    for _ in range(300):
        token = CancelToken()
        tokens.append(token)
        seen = bench.chat(server.url, 20, client, cancel=token).must_be("reply", "cancelled")
        assert seen.text in (None, f"reply {number}")
        number += 1
        seen = bench.chat(server.url, 20, client).must_be("reply")
        assert seen.text == f"reply {number}"
        number += 1
    must_be_given_back(client)
    assert len(server.requests) == 600
    # A cancel that comes after the reply still costs the connection.
    assert client.stats().opened == server.connections <= 301


def test_the_deadline_of_the_handshake_is_the_call_s(bench: Bench) -> None:
    """A server that begins TLS and goes no further."""
    client = bench.client(retries=0)
    seen = bench.chat(bench.serve(trickle_handshake).tls_url, TIME, client)
    seen.must_be("timeout").must_keep_the_deadline()
    assert isinstance(seen.error, termai_http.DeadlineExceeded)
    assert seen.error.phase == "connect"
    must_be_given_back(client)


def test_tls_that_ends_without_a_word_is_no_reply(bench: Bench) -> None:
    """Cut within head or body: an error, and never half of a reply."""
    authority = Authority(bench)
    context: ssl.SSLContext = authority.context()
    data = answer(b"x" * 99)
    cuts = iter([0, 10, len(data) - 99, len(data) - 1])

    def handle(peer: Peer) -> None:
        secure(peer, context)
        if peer.read_request() is not None:
            if cut := next(cuts):
                peer.send(data[:cut])
            socket.socket.shutdown(peer.sock, socket.SHUT_WR)

    server = bench.serve(handle)
    client = bench.client(ca_bundle=authority.bundle, retries=0)
    for kind in ("connection", "connection", "invalid", "invalid"):
        bench.chat(server.tls_url, 20, client).must_be(kind)
    must_be_given_back(client)
