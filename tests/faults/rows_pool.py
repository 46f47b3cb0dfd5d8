"""Faults of threads and the pool (F64 to F69, F73, F74, F76 to F78)."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest import mock

import termai_http
from termai_http import ChatRequest, OpenAIAdapter, RequestHandler, RetryConfig, events
from termai_http._call import Clock, Waker

from .harness import KEY, Bench, Peer, Seen, good_reply, row
from .rows_process import EchoServer, StreamServer, prompt_of

_PATIENCE = 20.0
_BURST = 120
_STREAMS = 20
_THREADS = 200
_CHUNKED = b"Transfer-Encoding: chunked"
_KNOWN_LENGTH = b"Content-Length: 100000"
_TO_THE_END = b"Connection: close"


def _unavailable(retry_after: str = "") -> bytes:
    wish = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    return f"HTTP/1.1 503 Busy\r\n{wish}Content-Length: 0\r\n\r\n".encode()


def _together(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(index)`` in threads that start at one barrier."""
    barrier = threading.Barrier(number)

    def run(index: int) -> Any:
        barrier.wait(_PATIENCE)
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def _must_be_usable(bench: Bench, client: Any) -> None:
    """Check that a client with one slot has it."""
    seen = bench.chat(EchoServer(bench).url, 2, client, prompt="next")
    bench.must(seen.text == "next", f"the slot was lost: {seen.name}")


def _must_have_own(bench: Bench, seen: list[Seen]) -> None:
    """Check that each of the calls in order got the reply to its own number."""
    for number, one in enumerate(seen):
        one.must_be("reply")
        bench.must(one.text == str(number), f"call {number} got the reply to {one.text}")


@row(
    "F64",
    fault=f"two bursts of {_BURST} calls at once, more than a pool is made for",
    promise="the second burst finds the connections of the first; none is thrown away between",
)
def burst(bench: Bench) -> None:
    """Let every call of a burst be there at once, twice."""
    everybody = threading.Barrier(_BURST)

    def answer(peer: Peer, request: bytes) -> None:
        everybody.wait(_PATIENCE)
        peer.send(good_reply(prompt_of(request)))

    server, client = bench.answering(answer), bench.client()
    for _ in range(2):
        calls = _together(
            _BURST, lambda number: bench.chat(server.url, _PATIENCE, client, prompt=str(number))
        )
        _must_have_own(bench, calls)
    opened = server.connections
    bench.must(opened == _BURST, f"{opened} connections for {_BURST} calls at once")
    if bench.ours:
        stats = client.stats()
        assert (stats.opened, stats.reused, stats.discarded) == (_BURST, _BURST, 0)


@row(
    "F65",
    fault="the only slot is held by a stream while another call wants it",
    promise="PoolTimeout at that call's deadline, with the figures; the stream goes on",
)
def pool_is_full(bench: Bench) -> None:
    """Call while a stream that nobody reads has the slot."""
    server, client = StreamServer(bench), bench.client(max_connections=1, retries=0)
    stream = bench.driver.stream(client, server.raw.url, _PATIENCE)
    bench.must(next(stream) == "piece", "the stream did not begin")
    seen = bench.chat(server.raw.url, 0.3, client).must_be("timeout")
    if bench.ours:
        assert type(seen.error) is termai_http.PoolTimeout
        assert seen.error.phase == "slot"
        assert not seen.error.maybe_billed
        assert "1 connections in use of at most 1, 0 more calls waiting" in str(seen.error)
        assert client.stats().active_connections == 1
    stream.close()
    bench.must(server.saw_the_end(), "the connection of the closed stream stayed open")
    _must_be_usable(bench, client)


def _opened(client: Any, server: StreamServer) -> Any:
    """Open a stream of ours."""
    return client.stream(
        "hi", model="gpt-5.5", api_key=KEY, base_url=server.raw.url, timeout=_PATIENCE
    )


def _leave_by_break(client: Any, server: StreamServer) -> None:
    with _opened(client, server) as stream:
        for _ in stream:
            break


def _leave_by_close(client: Any, server: StreamServer) -> None:
    stream = _opened(client, server)
    next(stream)
    stream.close()


def _leave_by_dropping(client: Any, server: StreamServer) -> None:
    next(_opened(client, server))


def _leave_unread(client: Any, server: StreamServer) -> None:
    _opened(client, server)


def _leave_by_dropping_the_events(client: Any, server: StreamServer) -> None:
    next(_opened(client, server).events())


def _leave_by_an_error(client: Any, server: StreamServer) -> None:
    with contextlib.suppress(ZeroDivisionError), _opened(client, server) as stream:
        next(stream)
        _ = 1 / 0


_WAYS_OUT = (
    _leave_by_break,
    _leave_by_close,
    _leave_by_dropping,
    _leave_unread,
    _leave_by_dropping_the_events,
    _leave_by_an_error,
)


def _leave_streams(bench: Bench, framings: tuple[bytes, ...]) -> None:
    for framing in framings:
        server, client = StreamServer(bench, framing), bench.client(max_connections=1)
        stream = bench.driver.stream(client, server.raw.url, _PATIENCE)
        bench.must(next(stream) == "piece", "the stream did not begin")
        del stream
        bench.must(server.saw_the_end(), "the connection stayed open")
        for leave in _WAYS_OUT if bench.ours else ():
            leave(client, server)
            assert server.saw_the_end(), f"{leave.__name__} left the connection open"
            assert client.stats().active_connections == 0, leave.__name__
        _must_be_usable(bench, client)


@row(
    "F66",
    fault="a stream with a chunked body is dropped, closed, or left by break",
    promise="the connection is closed and its slot free at once",
    argument="no ResourceWarning: to leave a stream early is no mistake, and nothing is left over",
)
def chunked_stream_is_dropped(bench: Bench) -> None:
    """Leave a stream in every way there is."""
    _leave_streams(bench, (_CHUNKED,))


@row(
    "F67",
    fault="the same with a Content-Length, or a body that ends with its connection",
    promise="the connection is closed and its slot free at once",
)
def sized_stream_is_dropped(bench: Bench) -> None:
    """Leave a stream whose body urllib3 does not close by itself."""
    _leave_streams(bench, (_KNOWN_LENGTH, _TO_THE_END))


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@row(
    "F68",
    fault=f"{_STREAMS} streams are dropped while the collector is off, some in reference cycles",
    promise="closed at once, as a stream is no cycle; in a cycle of the caller's, once collected",
)
def stream_in_a_cycle(bench: Bench) -> None:
    """Drop streams without and within cycles, and look for sockets that warn of themselves."""
    server = StreamServer(bench)
    client = bench.client(max_connections=_STREAMS)
    with warnings.catch_warnings(record=True) as caught, _no_collector():
        warnings.simplefilter("always")
        for _ in range(_STREAMS):
            next(bench.driver.stream(client, server.raw.url, _PATIENCE))
        bench.must(server.saw_the_end(_STREAMS), "connections stayed open without the collector")
        if bench.ours:
            stream = _opened(client, server)
            dropped = weakref.ref(stream)
            del stream
            assert dropped() is None
            assert server.saw_the_end()
        for _ in range(_STREAMS):
            cycle: list[Any] = [bench.driver.stream(client, server.raw.url, _PATIENCE)]
            cycle.append(cycle)
            next(cycle[0])
        del cycle
        gc.collect()
        bench.must(server.saw_the_end(_STREAMS), "connections stayed open after the collector")
    if bench.ours:
        assert [str(item.message) for item in caught] == []
        stats = client.stats()
        assert (stats.active_connections, stats.calls.in_flight) == (0, 0)
        assert stats.discarded == stats.calls.total_requests == 2 * _STREAMS + 1


@row(
    "F69",
    fault="a call with the only slot fails and waits for its next attempt",
    promise="its slot is free while it waits, and others use it",
    peers=False,
)
def slot_in_backoff(bench: Bench) -> None:
    """Make another call in the moment in which the first begins to wait."""
    refused: list[str] = []

    def answer(peer: Peer, request: bytes) -> None:
        prompt = prompt_of(request)
        if prompt not in refused and prompt in ("reset", "busy"):
            refused.append(prompt)
            if prompt == "busy":
                peer.send(_unavailable())
                return
            peer.reset()
        peer.send(good_reply(prompt))

    server, client = bench.answering(answer), bench.client(max_connections=1)
    between: list[Seen] = []

    def call_another(event: events.Event) -> None:
        if isinstance(event, events.RetryScheduled):
            assert client.stats().active_connections == 0
            between.append(bench.chat(server.url, 2, client, prompt="another"))

    with client.listening(call_another):
        for prompt in ("reset", "busy"):
            bench.must(
                bench.chat(server.url, 5, client, prompt=prompt).text == prompt, "it got no reply"
            )
    assert [seen.text for seen in between] == ["another", "another"]
    assert client.stats().calls.total_retries == 2


@row(
    "F73",
    fault=f"{_THREADS} threads call at once through 32 slots",
    promise="every call gets its own reply over at most 32 connections; none starves",
)
def many_threads(bench: Bench) -> None:
    """Let all call at once; the evidence does it with 1,000."""
    server, client = EchoServer(bench), bench.client(max_connections=32)
    calls = _together(
        _THREADS, lambda number: bench.chat(server.url, _PATIENCE, client, prompt=str(number))
    )
    _must_have_own(bench, calls)
    opened = server.raw.connections
    bench.must(opened <= 32, f"{opened} connections at once")
    if bench.ours:
        stats = client.stats()
        assert stats.opened + stats.reused == stats.calls.successful_requests == _THREADS


class _Waits:
    """Tells when a client's calls begin to wait, between attempts or for a slot."""

    def __init__(self, client: Any, **clock: Any) -> None:
        self.seconds: list[float] = []
        self._begun = threading.Semaphore(0)
        self._real = Clock()
        # Before the first call, which hands it on.
        client._core.clock = Clock(wait=self._wait, **clock)

    def _wait(self, waker: Waker, seconds: float) -> bool:
        self.seconds.append(seconds)
        self._begun.release()
        return self._real.wait(waker, seconds)

    def await_next(self) -> None:
        """Wait until one more begins."""
        assert self._begun.acquire(timeout=_PATIENCE)


def _closed_with_calls_in_every_state(bench: Bench) -> None:
    arrived = threading.Semaphore(0)

    def answer(peer: Peer, request: bytes) -> None:
        arrived.release()
        if prompt_of(request) == "busy":
            peer.send(_unavailable("15"))
        else:
            peer.wait()

    server, client = bench.answering(answer), bench.client(max_connections=1)
    waits = _Waits(client)
    session = client.session
    with ThreadPoolExecutor(3) as pool:

        def call(prompt: str) -> Future[Seen]:
            return pool.submit(bench.chat, server.url, _PATIENCE, client, prompt=prompt)

        calls = [call("busy")]
        waits.await_next()
        calls.append(call("silent"))
        assert arrived.acquire(timeout=_PATIENCE)
        assert arrived.acquire(timeout=_PATIENCE)
        calls.append(call("queued"))
        waits.await_next()
        client.close()
        kinds = [future.result(_PATIENCE).kind for future in calls]
    assert kinds == ["closed", "closed", "closed"]
    assert len(server.requests) == 2
    _must_refuse(bench, client, session, server.url)


def _must_refuse(bench: Bench, client: Any, session: Any, url: str) -> None:
    for use in (lambda: session.get(url), lambda: client.session):
        try:
            use()
        except termai_http.ClientClosed:
            continue
        raise AssertionError("the closed client was used")
    bench.chat(url, 1, client).must_be("closed")
    assert client.stats().active_connections == 0


def _closed_while_a_call_ends_by_itself(bench: Bench, wait: float | None) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def answer(peer: Peer, request: bytes) -> None:
        if prompt_of(request) == "slow":
            arrived.set()
            go_on.wait(_PATIENCE)
        peer.send(good_reply(prompt_of(request)))

    server, client = bench.answering(answer), bench.client()
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(bench.chat, server.url, _PATIENCE, client, prompt="slow")
        assert arrived.wait(_PATIENCE)
        closing = pool.submit(client.close, wait=wait)
        # Until the close began: from then on new calls are refused.
        while bench.chat(server.url, 5, client, prompt="quick").kind == "reply":
            assert not closing.done()
        assert not closing.done()
        go_on.set()
        assert slow.result(_PATIENCE).text == "slow"
        closing.result(_PATIENCE)


def _closed_while_a_call_takes_too_long(bench: Bench) -> None:
    arrived = threading.Event()

    def answer(peer: Peer, request: bytes) -> None:
        arrived.set()
        peer.wait()

    server, client = bench.answering(answer), bench.client()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(bench.chat, server.url, _PATIENCE, client)
        assert arrived.wait(_PATIENCE)
        client.close(wait=0.1)
        slow.result(_PATIENCE).must_be("closed")


@row(
    "F74",
    fault="the client is closed while calls run, wait for a slot, or wait to be repeated",
    promise="each ends by itself within close(wait=...), or with ClientClosed, as all later use",
)
def closed_in_the_middle(bench: Bench) -> None:
    """Close in every state, and use the client afterwards."""
    server, client = EchoServer(bench), bench.client()
    bench.chat(server.url, 5, client, prompt="first").must_be("reply")
    bench.driver.close(client)
    bench.chat(server.url, 2, client, prompt="later").must_be("closed", "refused", "other")
    if bench.ours:
        _closed_with_calls_in_every_state(bench)
        _closed_while_a_call_ends_by_itself(bench, wait=5)
        _closed_while_a_call_ends_by_itself(bench, wait=None)
        _closed_while_a_call_takes_too_long(bench)


def _jumping_clock() -> Callable[[], float]:
    """Return a wall clock that is an hour ahead, then an hour behind, and so on."""
    jumps = itertools.cycle((3600.0, -3600.0))
    real = time.time
    return lambda: real() + next(jumps)


@row(
    "F76",
    fault="the wall clock jumps by an hour, back and forth, all through a call",
    promise="waits, attempts and deadline stay as they were",
)
def wall_clock_jumps(bench: Bench) -> None:
    """Make one call that succeeds at its third attempt, and one that its deadline ends."""
    refusals = iter(range(2))

    def answer(peer: Peer, request: bytes) -> None:
        if prompt_of(request) == "silent":
            peer.wait()
        refused = next(refusals, None) is not None
        peer.send(_unavailable() if refused else good_reply())

    server, client = bench.answering(answer), bench.client()
    once = bench.client(retries=0)
    waits = [_Waits(one, wall=_jumping_clock()) for one in (client, once) if bench.ours]
    with mock.patch.object(time, "time", _jumping_clock()):
        bench.chat(server.url, 3, client).must_be("reply")
        bench.must(len(server.requests) == 3, f"{len(server.requests)} requests instead of 3")
        ended = bench.chat(server.url, 0.4, once, prompt="silent")
        ended.must_be("timeout", "connection").must_keep_the_deadline()
    if bench.ours:
        assert [len(one.seconds) for one in waits] == [2, 0]
        assert all(0 <= seconds <= 0.02 for seconds in waits[0].seconds)
        assert type(ended.error) is termai_http.DeadlineExceeded
        assert ended.seconds >= 0.4


@row(
    "F77",
    fault="each attempt takes long, and then fails",
    promise="the deadline ends the attempt that would outlast it",
)
def slow_attempts(bench: Bench) -> None:
    """Give time for one attempt and a half."""

    def answer(peer: Peer, request: bytes) -> None:
        peer.wait(0.5)
        peer.send(_unavailable())

    server = bench.answering(answer)
    seen = bench.chat(server.url, 0.75).must_be("timeout", "status").must_keep_the_deadline()
    bench.must(len(server.requests) <= 2, f"{len(server.requests)} requests")
    if bench.ours:
        assert type(seen.error) is termai_http.DeadlineExceeded
        assert (seen.error.phase, seen.error.attempts) == ("headers", 2)


@row(
    "F78",
    fault="every attempt fails with a 500, whichever way the call is made",
    promise="3 requests at most: layers do not multiply their attempts",
)
def layers_do_not_multiply(bench: Bench) -> None:
    """Count the requests of one call by every way in, listeners and the raw session included."""
    server = bench.answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
    client = bench.client(retries=2)
    bench.chat(server.url, 5, client).must_be("status")
    bench.must(len(server.requests) == 3, f"{len(server.requests)} requests")
    bench.stream(server.url, 5, client).must_be("status")
    bench.must(len(server.requests) == 6, f"{len(server.requests) - 3} requests")
    if bench.ours:
        _count_other_ways(client, server)


def _count_other_ways(client: Any, server: Any) -> None:
    url = f"{server.url}/v1/chat/completions"
    heard: list[events.Event] = []
    adapter = OpenAIAdapter(client, api_key=KEY, base_url=server.url)
    handler = RequestHandler(client)
    own_policy = handler.with_retry_config(RetryConfig(base_delay=0.01, max_delay=0.02))
    request = ChatRequest(model="gpt-5.5", messages="hi")
    ways: list[tuple[int, Callable[[], Any]]] = [
        (3, lambda: handler.post_json(url, {}, {})),
        (3, lambda: own_policy.post_json(url, {}, {})),
        (3, lambda: adapter.chat_completion(request)),
        (3, lambda: client.session.post(url, json={}, timeout=5)),
        (1, adapter.health_check),
    ]
    with client.listening(heard.append), client.listening(heard.append):
        for number, way in ways:
            server.requests.clear()
            with contextlib.suppress(termai_http.InternalServerError):
                way()
            assert len(server.requests) == number
    started = [event for event in heard if isinstance(event, events.AttemptStarted)]
    # Two listeners; a raw use of the session is no call.
    assert len(started) == 2 * (3 + 3 + 3 + 1)
