"""Streams on sockets: read, left early, cancelled, closed; one connection for many of them."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import itertools
import pickle
import signal
import socket
import ssl
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
import trustme

from termai_http import (
    CallCancelled,
    CancelToken,
    Client,
    ClientClosed,
    HttpClientConfig,
    InvalidResponseError,
    ReadTimeout,
    RetryConfig,
    Stream,
    StreamEvent,
    StreamInterrupted,
    ToolCall,
    Usage,
    _open_body,
)
from termai_http._call import Attempt, Clock
from termai_http.events import AttemptSucceeded, CallSucceeded
from tests.faults.connecting import secure
from tests.faults.drivers import TermaiDriver
from tests.faults.harness import OVERRUN, Bench, Peer, RawServer, reply_to
from tests.faults.streaming import (
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
    event,
    frame,
)

_PATIENCE = 20.0
_RETRY = RetryConfig(base_delay=0.001, max_delay=0.002)
Answer = Callable[[Peer, bytes], object]

each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: type(vendor).__name__)
each_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)


class Server:
    """Answers every request so, and sees when clients hang up.

    Args:
        answer: What it does with a request.
        tls: A context, to speak TLS.
        close: Whether the connection ends with the first answer.
    """

    def __init__(
        self, answer: Answer, tls: ssl.SSLContext | None = None, *, close: bool = False
    ) -> None:
        self._answer = answer
        self._tls = tls
        self._close = close
        self._left = threading.Semaphore(0)
        self.requests: list[bytes] = []
        self.raw = RawServer(self._handle)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return self.raw.url if self._tls is None else self.raw.tls_url

    def saw_the_end(self, number: int = 1) -> bool:
        """Wait until so many more clients hung up."""
        return all(self._left.acquire(timeout=_PATIENCE) for _ in range(number))

    def _handle(self, peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            secure(peer, self._tls)
        try:
            while (request := peer.read_request()) is not None:
                self.requests.append(request)
                self._answer(peer, request)
                if self._close:
                    return
        finally:
            self._left.release()


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Run servers until the test ends."""
    with contextlib.ExitStack() as stack:

        def run(answer: Answer, *args: Any, **options: Any) -> Server:
            server = Server(answer, *args, **options)
            stack.callback(server.raw.close)
            return server

        yield run


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let nothing be collected but by its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def make_client(clock: Clock | None = None, **config: Any) -> Client:
    """Make a client that takes nothing from the environment."""
    config = {"retry": _RETRY, "trust_env": False, **config}
    return Client(HttpClientConfig(**config), _clock=clock or Clock())


def begin(client: Client, server: Server, vendor: Vendor = OPENAI, **options: Any) -> Stream:
    """Open a stream."""
    options = {"timeout": _PATIENCE, **options}
    return client.stream("hi", model=vendor.model, api_key="k", base_url=server.url, **options)


def ending(framing: Framing) -> Step:
    """Return the step that ends a body."""
    return lambda peer: peer.send(framing.end)


def whole(vendor: Vendor, *pieces: str) -> bytes:
    """Return the events of a whole stream."""
    pieces = pieces or ("one ", "two")
    events = vendor.begin() + vendor.text(*pieces) + vendor.finish() + vendor.count()
    return events + vendor.end


def begun(vendor: Vendor, framing: Framing = CHUNKED) -> Answer:
    """Answer with the first piece of a stream that goes on."""
    return answer_with(framing, vendor.begin() + vendor.text("one"))


_BEGUN = {"input_tokens": 3, "output_tokens": 1}
WHOLE = {
    OPENAI: ToolCall(id="c1", name="look", arguments={"at": 1}, text='{"at": 1}'),
    CLAUDE: ToolCall(id="c1", name="look", arguments={"at": 1}, text='{"at":1}'),
}


def thought(vendor: Vendor) -> bytes:
    """Return an event with thinking."""
    if vendor is OPENAI:
        choice = {"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}
        return event({"id": "r1", "choices": [choice]})
    delta = {"type": "thinking_delta", "thinking": "hm"}
    block = {"type": "thinking", "thinking": "", "signature": ""}
    return event({"type": "content_block_start", "index": 1, "content_block": block}) + event(
        {"type": "content_block_delta", "index": 1, "delta": delta}
    )


def called(vendor: Vendor) -> bytes:
    """Return a tool call, its arguments in two pieces."""
    pieces = ['{"at":', " 1}"]
    if vendor is OPENAI:
        first: dict[str, Any] = {"id": "c1", "function": {"name": "look", "arguments": ""}}
        calls = [first, *({"function": {"arguments": piece}} for piece in pieces)]
        deltas = [{"tool_calls": [{"index": 0, **call}]} for call in calls]
        return b"".join(event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas)
    block = {"type": "tool_use", "id": "c1", "name": "look", "input": {}}
    begun = event({"type": "content_block_start", "index": 2, "content_block": block})
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return begun + b"".join(
        event({"type": "content_block_delta", "index": 2, "delta": delta}) for delta in deltas
    )


def must_be_at_rest(client: Client, calls: int = 1) -> None:
    """Check that nothing is in use, and that so many calls were counted."""
    stats = client.stats()
    assert (stats.active_connections, stats.waiting, stats.calls.in_flight) == (0, 0, 0)
    assert stats.calls.total_requests == calls
    assert stats.opened == stats.idle_connections + stats.discarded + stats.evicted


class Later:
    """A monotonic clock that can be moved on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def clock(self) -> Clock:
        """Return it as a client takes it."""
        return Clock(monotonic=lambda: time.monotonic() + self.ahead)


class Meanwhile:
    """Does something in another thread once this one begins to wait for the next bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._armed, self._waiting = threading.Event(), threading.Event()
        real = Attempt.read_budget

        def watched(attempt: Attempt, *waited: float) -> float:
            if self._armed.is_set():
                self._waiting.set()
            return real(attempt, *waited)

        monkeypatch.setattr(Attempt, "read_budget", watched)

    @contextlib.contextmanager
    def doing(self, act: Callable[[], object]) -> Iterator[None]:
        """Do ``act`` once a read begins within the block."""

        def run() -> None:
            if self._waiting.wait(_PATIENCE):
                act()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._armed.set()
        yield
        thread.join(_PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """What another thread does while this one reads."""
    return Meanwhile(monkeypatch)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a slow machine have all the time it wants to send what follows the end mark."""
    monkeypatch.setattr(_open_body, "_DRAIN_SECONDS", _PATIENCE)


class TestRead:
    """Streams that are read to their end."""

    @pytest.mark.usefixtures("patient")
    @each_vendor
    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    def test_twenty_in_a_row_use_one_connection(
        self, serve: Serve, vendor: Vendor, tls: bool
    ) -> None:
        """Though the last bytes come a moment after the end mark, the connection is kept."""
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        late: Step = lambda peer: peer.wait(0.005)  # noqa: E731
        steps = [whole(vendor), b": bye\n\n", late, ending(CHUNKED)]
        server = serve(answer_with(CHUNKED, *steps), context if tls else None)
        with authority.cert_pem.tempfile() as bundle, make_client(ca_bundle=bundle) as client:
            for _ in range(20):
                assert list(begin(client, server, vendor)) == ["one ", "two"]
            stats = client.stats()
            assert (stats.opened, stats.reused, stats.discarded) == (1, 19, 0)
            must_be_at_rest(client, 20)
        assert server.raw.connections == 1

    @pytest.mark.usefixtures("patient")
    def test_what_follows_the_end_mark_is_read_up_to_its_bounds(self, serve: Serve) -> None:
        """What is little is read, and the connection kept; what is much costs the connection."""
        for size, kept in ((60_000, 1), (80_000, 0)):
            rest = b":" * size
            server = serve(answer_with(CHUNKED, whole(OPENAI), rest, ending(CHUNKED)))
            with make_client() as client:
                stream = begin(client, server)
                assert list(stream) == ["one ", "two"]
                assert stream.response is not None
                assert client.stats().idle_connections == kept
                must_be_at_rest(client)

    @pytest.mark.parametrize("what", ["silence", "trickle", "flood", "reset"])
    def test_what_never_ends_after_the_end_mark_is_not_waited_for(
        self, serve: Serve, request: pytest.FixtureRequest, what: str
    ) -> None:
        """The reply is complete; the connection is closed after 0.1 s or 64 KiB."""
        steps: dict[str, Step] = {
            "silence": lambda peer: peer.sock.recv(1),
            "trickle": lambda peer: peer.drip(frame(b":") * 10_000, 0.005, 6),
            "flood": lambda peer: peer.drip(frame(b":" * 1000) * 100_000, 0.0, 100_000),
            "reset": Peer.reset,
        }
        got = threading.Event()
        last = lambda _: got.wait(_PATIENCE)  # noqa: E731
        server = serve(answer_with(CHUNKED, whole(CLAUDE, "all"), last, steps[what]))
        if what == "flood":
            request.getfixturevalue("patient")
        with make_client() as client:
            stream = begin(client, server, CLAUDE)
            assert next(stream) == "all"
            got.set()
            assert list(stream) == []
            assert stream.response is not None
            assert server.saw_the_end()
            assert client.stats().discarded == 1
            must_be_at_rest(client)

    @each_vendor
    def test_the_response_is_that_of_a_chat(self, serve: Serve, vendor: Vendor) -> None:
        """After the last piece ``response`` has all that ``chat()`` returns."""
        good = answer_with(CHUNKED, whole(vendor), ending(CHUNKED), headers=b"X-Request-Id: q\r\n")
        busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        answers: Iterator[Answer] = iter([lambda peer, _: peer.send(busy), good])
        server = serve(lambda peer, request: next(answers)(peer, request))
        with make_client() as client:
            stream = begin(client, server, vendor)
            assert stream.response is None
            assert "".join(stream) == stream.text == "one two"
            reply = stream.response
            assert reply is not None
            assert (reply.text, reply.finish_reason, reply.id) == ("one two", "stop", "r1")
            assert reply.usage == Usage(input_tokens=3, output_tokens=2)
            assert (reply.model, reply.status_code, reply.attempts) == ("m1", 200, 2)
            assert (reply.provider, reply.request_id) == (
                {OPENAI: "openai", CLAUDE: "claude"}[vendor],
                "q",
            )
            assert reply.headers["content-type"] == "text/event-stream"
            assert reply.raw["id"] == "r1"
            assert 0 < stream.time_to_first_token <= reply.elapsed
            calls = client.stats().calls
            assert (calls.input_tokens, calls.output_tokens, calls.total_retries) == (3, 2, 1)

    def test_the_time_to_the_first_token_is_counted(self, serve: Serve) -> None:
        """For streams only, and also for one that is left early."""
        server = serve(lambda peer, request: peer.send(reply_to(request)))
        streaming = serve(begun(OPENAI))
        later = Later()
        with make_client(later.clock()) as client:
            client.chat("hi", model="m", api_key="k", base_url=server.url)
            assert client.stats().calls.p50_time_to_first_token_ms is None
            stream = begin(client, streaming)
            assert stream.time_to_first_token < 10
            later.ahead = 10
            stream.close()
            counted = client.stats().calls.p50_time_to_first_token_ms
            assert counted is not None
            assert counted < 10_000

    @each_vendor
    def test_events_say_what_each_piece_is(self, serve: Serve, vendor: Vendor) -> None:
        """Each kind of event has its own field filled in, and the vendor's own event."""
        steps = [vendor.begin(), thought(vendor), vendor.text("one"), called(vendor)]
        steps += [vendor.finish() + vendor.count() + vendor.end]
        server = serve(answer_with(CHUNKED, *steps, ending(CHUNKED)))
        begun = ToolCall(id="c1", name="look", arguments=None, text="")
        with make_client() as client:
            stream = begin(client, server, vendor)
            events = list(stream.events())
            assert all(isinstance(event, StreamEvent) for event in events)
            assert all(event.raw for event in events if event.type not in ("tool_call", "other"))
            found = [attrs.evolve(event, raw={}) for event in events if event.type != "other"]
            usage = Usage(input_tokens=3, output_tokens=2)
            ends = [
                StreamEvent(type="finish", finish_reason="stop", raw={}),
                StreamEvent(type="usage", usage=usage, raw={}),
            ]
            assert [event for event in found if event.usage != Usage(**_BEGUN)] == [
                StreamEvent(type="thinking", text="hm", raw={}),
                StreamEvent(type="text", text="one", raw={}),
                StreamEvent(type="tool_call_delta", tool_call=begun, raw={}),
                StreamEvent(type="tool_call_delta", text='{"at":', tool_call=begun, raw={}),
                StreamEvent(type="tool_call_delta", text=" 1}", tool_call=begun, raw={}),
                StreamEvent(type="tool_call", tool_call=WHOLE[vendor], raw={}),
                *ends,
            ]
            assert stream.response is not None
            assert stream.response.tool_calls == (WHOLE[vendor],)
            assert stream.response.thinking == "hm"
            assert list(stream.events()) == []

    def test_text_and_events_may_be_read_by_turns(self, serve: Serve) -> None:
        """Either goes on where the other stopped, and ``text`` has what both handed out."""
        server = serve(answer_with(CHUNKED, whole(OPENAI, "a", "b", "c", "d"), ending(CHUNKED)))
        with make_client() as client:
            stream = begin(client, server)
            assert next(stream) == "a"
            events = stream.events()
            assert next(events).text == "b"
            assert (next(stream), stream.text) == ("c", "abc")
            assert [event.text for event in events if event.type == "text"] == ["d"]
            assert stream.text == "abcd"
            assert list(stream) == []

    @each_vendor
    def test_what_is_asked_for(self, serve: Serve, vendor: Vendor) -> None:
        """Events, and not compressed, whatever the caller's headers say."""
        server = serve(answer_with(CHUNKED, whole(vendor), ending(CHUNKED)))
        with make_client() as client:
            list(begin(client, server, vendor, extra_headers={"accept-encoding": "gzip"}))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert [line for line in lines if line.startswith(b"accept")] == [
            b"accept-encoding: identity",
            b"accept: text/event-stream",
        ]
        assert b'"stream":true' in body.replace(b" ", b"")

    @each_framing
    def test_one_that_is_compressed_all_the_same_is_decoded(
        self, serve: Serve, framing: Framing
    ) -> None:
        """Each piece comes out once the server flushed it."""
        packer = zlib.compressobj(wbits=31)

        def packed(data: bytes) -> bytes:
            return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)

        got = threading.Event()
        steps: list[Step] = [
            packed(CLAUDE.begin() + CLAUDE.text("one ")),
            lambda _: got.wait(_PATIENCE),
            packed(CLAUDE.text("two") + CLAUDE.finish() + CLAUDE.end),
            packer.flush(),
            ending(framing),
        ]
        answer = answer_with(framing, *steps, headers=b"Content-Encoding: gzip\r\n")
        server = serve(answer, close=True)
        with make_client() as client:
            stream = begin(client, server, CLAUDE)
            assert next(stream) == "one "
            got.set()
            assert list(stream) == ["two"]

    def test_a_broken_compression_ends_it(self, serve: Serve) -> None:
        """What cannot be decompressed is an error like any other in a stream."""
        packer = zlib.compressobj(wbits=31)
        data = packer.compress(OPENAI.text("one")) + packer.flush(zlib.Z_SYNC_FLUSH)
        answer = answer_with(CHUNKED, data, b"\xff" * 99, headers=b"Content-Encoding: gzip\r\n")
        with make_client() as client:
            stream = begin(client, serve(answer))
            with pytest.raises(StreamInterrupted, match="InvalidResponseError") as caught:
                list(stream)
            assert caught.value.partial == "one"
            must_be_at_rest(client)

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("application/json", b'{"choices": []}'),
            ("Application/JSON; charset=utf-8", b'{"choices": []}'),
            ("text/html", b"<h1>Welcome to the hotel's network</h1>"),
            ("TEXT/HTML; charset=utf-8", b"<h1>Welcome</h1>"),
        ],
    )
    def test_what_is_no_stream_is_an_error(self, serve: Serve, kind: str, body: bytes) -> None:
        """JSON or a page in the place of events is told at once, and not asked for again."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        server = serve(lambda peer, _: peer.send(head.encode() + body))
        with make_client() as client:
            with pytest.raises(InvalidResponseError, match="no stream of events") as caught:
                begin(client, server)
            assert type(caught.value) is InvalidResponseError
            assert kind.lower() in str(caught.value)
            assert (caught.value.attempts, caught.value.status_code) == (1, 200)
            assert caught.value.maybe_billed
            must_be_at_rest(client)

    @each_vendor
    @pytest.mark.parametrize(
        ("kind", "body", "code", "words"),
        [
            (
                "application/json",
                b'{"error": {"message": "No such model: m9", "code": "model_not_found"}}',
                "model_not_found",
                "No such model: m9",
            ),
            ("text/html", b"<h1>Welcome to the network</h1>", None, "Welcome to the network"),
            ("application/json", b"", None, "empty"),
        ],
    )
    def test_what_came_in_the_place_of_a_stream_is_told(
        self, serve: Serve, vendor: Vendor, kind: str, body: bytes, code: str | None, words: str
    ) -> None:
        """The server's own words say why, whatever it said about its success."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        server = serve(lambda peer, _: peer.send(head.encode() + body))
        with make_client() as client:
            with pytest.raises(InvalidResponseError, match="no stream of events") as caught:
                begin(client, server, vendor)
            assert words in str(caught.value)
            assert caught.value.code == code
            assert (caught.value.body or "") == body.decode()
            must_be_at_rest(client)

    def test_what_comes_slowly_in_the_place_of_a_stream_is_not_waited_for(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page that does not end is none of the caller's time."""
        monkeypatch.setattr(_open_body, "_DRAIN_SECONDS", 0.001)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
        server = serve(lambda peer, _: peer.send(head))
        with make_client() as client:
            with pytest.raises(InvalidResponseError, match="no stream of events"):
                begin(client, server)
            assert server.saw_the_end()
            must_be_at_rest(client)

    def test_the_last_event_without_its_blank_line_is_read(self, serve: Serve) -> None:
        """After the finish reason the usage still counts, though its event was not ended."""
        events = OPENAI.begin() + OPENAI.text("one") + OPENAI.finish() + OPENAI.count()
        server = serve(answer_with(CHUNKED, events.rstrip(b"\n"), ending(CHUNKED)))
        with make_client() as client:
            stream = begin(client, server)
            assert list(stream) == ["one"]
            assert stream.response is not None
            assert stream.response.usage.output_tokens == 2

    def test_half_an_event_after_the_finish_reason_spoils_nothing(self, serve: Serve) -> None:
        """What cannot be read there is no part of the reply."""
        events = OPENAI.begin() + OPENAI.text("one") + OPENAI.finish() + OPENAI.count()[:-20]
        server = serve(answer_with(CHUNKED, events, ending(CHUNKED)))
        with make_client() as client:
            assert list(begin(client, server)) == ["one"]

    @pytest.mark.usefixtures("patient")
    def test_another_thread_may_read_it(self, serve: Serve) -> None:
        """Who reads need not be who opened, and the connection is used again all the same."""
        server = serve(answer_with(CHUNKED, whole(CLAUDE), ending(CHUNKED)))
        with make_client() as client, ThreadPoolExecutor(1) as pool:
            for _ in range(3):
                stream = begin(client, server, CLAUDE)
                assert pool.submit(list, stream).result(_PATIENCE) == ["one ", "two"]
            assert client.stats().opened == 1


class TestLeft:
    """Streams that are not read to their end."""

    @staticmethod
    def by_break(stream: Stream) -> None:
        """Leave a loop."""
        for _ in stream:
            break

    @staticmethod
    def by_break_from_events(stream: Stream) -> None:
        """Leave a loop over its events."""
        for found in stream.events():
            if found.type == "text":
                break

    @staticmethod
    def by_close(stream: Stream) -> None:
        """Close it, twice."""
        next(stream)
        stream.close()
        stream.close()
        assert list(stream) == []

    @staticmethod
    def by_with(stream: Stream) -> None:
        """Leave its block."""
        with stream:
            next(stream)

    @staticmethod
    def by_an_error(stream: Stream) -> None:
        """Leave its block by an exception."""
        with contextlib.suppress(ZeroDivisionError), stream:
            next(stream)
            _ = 1 / 0

    @staticmethod
    def unread(stream: Stream) -> None:
        """Read nothing at all."""

    WAYS = (by_break, by_break_from_events, by_close, by_with, by_an_error, unread)

    @each_vendor
    @each_framing
    @pytest.mark.usefixtures("no_collector")
    def test_all_is_given_back_at_once(
        self, serve: Serve, vendor: Vendor, framing: Framing
    ) -> None:
        """However it is left: slot, descriptor and count, without waiting for the collector."""
        server = serve(begun(vendor, framing))
        with make_client(max_connections=1) as client:
            for calls, leave in enumerate(self.WAYS, 1):
                stream = begin(client, server, vendor)
                sock = stream._call._socket
                assert sock is not None
                stats = client.stats()
                assert (stats.active_connections, stats.calls.in_flight) == (1, 1)
                leave.__func__(stream)
                assert stream.response is None
                del stream
                assert sock.fileno() == -1, leave.__name__
                assert server.saw_the_end(), leave.__name__
                must_be_at_rest(client, calls)
                assert client.stats().calls.successful_requests == calls

    @each_framing
    @pytest.mark.usefixtures("no_collector")
    def test_closing_does_not_wait_for_the_last_reference(
        self, serve: Serve, framing: Framing
    ) -> None:
        """The descriptor is closed though somebody still has the stream, or the error of one."""
        server = serve(begun(OPENAI, framing))
        breaking = serve(begun(CLAUDE, framing), close=True)
        with make_client() as client:
            stream, broken = begin(client, server), begin(client, breaking, CLAUDE)
            socks = [stream._call._socket, broken._call._socket]
            stream.close()
            with pytest.raises(StreamInterrupted) as caught:
                list(broken)
            assert [sock.fileno() for sock in socks if sock is not None] == [-1, -1]
            assert caught.value.partial == broken.text == "one"
            must_be_at_rest(client, 2)

    @each_vendor
    @each_framing
    @pytest.mark.usefixtures("no_collector")
    def test_in_a_cycle_it_goes_with_the_cycle(
        self, serve: Serve, vendor: Vendor, framing: Framing
    ) -> None:
        """The collector gives all back, and no socket warns of itself."""
        server = serve(begun(vendor, framing))
        with make_client() as client:
            for _ in range(5):
                cycle: list[Any] = [begin(client, server, vendor)]
                cycle.append(cycle)
                next(cycle[0])
            del cycle
            gc.collect()
            assert server.saw_the_end(5)
            must_be_at_rest(client, 5)

    @pytest.mark.usefixtures("no_collector")
    def test_dropping_it_takes_no_lock(self, serve: Serve) -> None:
        """A finalizer may run in a thread that holds any lock of the client's."""
        server = serve(begun(CLAUDE))
        with make_client() as client:
            for calls, lock in enumerate(client._core.transport().locks(), 1):
                stream = begin(client, server, CLAUDE, cancel=CancelToken())
                next(stream)
                with lock, client._core._lock, client.metrics._lock:
                    del stream
                assert server.saw_the_end()
                must_be_at_rest(client, calls)

    def test_a_slot_is_held_while_it_is_open(self, serve: Serve) -> None:
        """One slot for each open stream, from the first piece until it ends."""
        got = threading.Event()
        rest = OPENAI.text("two") + OPENAI.finish() + OPENAI.end
        steps: list[Step] = [
            OPENAI.begin() + OPENAI.text("one"),
            lambda _: got.wait(_PATIENCE),
            rest,
            ending(CHUNKED),
        ]
        server = serve(answer_with(CHUNKED, *steps))
        with make_client() as client:
            streams = [begin(client, server) for _ in range(3)]
            for number in (3, 2, 1):
                stats = client.stats()
                assert (stats.active_connections, stats.calls.in_flight) == (number, number)
                got.set()
                assert list(streams.pop()) == ["one", "two"]
            must_be_at_rest(client, 3)


class TestEnded:
    """Streams that somebody or something else ends."""

    @each_vendor
    @each_framing
    @pytest.mark.parametrize("by_token", [False, True], ids=["stream", "token"])
    def test_cancelling_ends_a_read(
        self, serve: Serve, meanwhile: Meanwhile, vendor: Vendor, framing: Framing, by_token: bool
    ) -> None:
        """Whoever waits for the next piece gets ``CallCancelled``, however the body is framed."""
        server, token = serve(begun(vendor, framing)), CancelToken()
        with make_client() as client:
            stream = begin(client, server, vendor, cancel=token)
            assert next(stream) == "one"
            cancel = token.cancel if by_token else stream.cancel
            with meanwhile.doing(cancel), pytest.raises(CallCancelled) as caught:
                next(stream)
            assert caught.value.maybe_billed
            assert (caught.value.phase, caught.value.attempts) == ("body", 1)
            assert list(stream) == []
            assert server.saw_the_end()
            must_be_at_rest(client)
            assert client.stats().calls.failures_by_class == {"CallCancelled": 1}

    @each_framing
    def test_a_token_ends_it_in_time(self, framing: Framing) -> None:
        """Within a quarter of a second, less what the machine itself was late."""
        with Bench(TermaiDriver()) as bench:
            server = bench.answering(begun(CLAUDE, framing))
            token, started = CancelToken(), threading.Event()
            moments: list[float] = []

            def cancel() -> None:
                started.wait(_PATIENCE)
                moments.append(time.monotonic())
                token.cancel()

            thread = threading.Thread(target=cancel, daemon=True)
            thread.start()
            seen = bench.stream(
                server.url,
                _PATIENCE,
                on_piece=lambda _: started.set(),
                cancel=token,
                model=CLAUDE.model,
            )
            ended = time.monotonic()
            thread.join(_PATIENCE)
            assert type(seen.must_be("cancelled").error) is CallCancelled
            assert ended - moments[0] - seen.late <= OVERRUN
        assert bench.flaws == []

    @pytest.mark.parametrize("way", ["cancel", "close", "deadline"])
    def test_what_came_before_is_not_handed_out_after_the_end(self, serve: Serve, way: str) -> None:
        """Cancelling, closing and the deadline hold for pieces that wait to be taken, too."""
        server, later = serve(answer_with(TO_THE_CLOSE, whole(OPENAI)), close=True), Later()
        with make_client(later.clock()) as client:
            stream = begin(client, server, timeout=5)
            assert next(stream) == "one "
            if way == "cancel":
                stream.cancel()
            elif way == "close":
                client.close()
            else:
                later.ahead = 6
            cls = {"cancel": CallCancelled, "close": ClientClosed}.get(way, StreamInterrupted)
            with pytest.raises(cls) as caught:
                next(stream)
            if way == "deadline":
                assert "DeadlineExceeded" in str(caught.value)
                assert isinstance(caught.value, StreamInterrupted)
                assert caught.value.partial == stream.text == "one "
            must_be_at_rest(client)

    def test_what_nobody_took_is_no_part_of_what_came(self, serve: Serve) -> None:
        """Text that came with an event, but was not handed out by the deadline, is not told."""
        delta = {"reasoning_content": "hm", "content": "one"}
        both = event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        server, later = serve(answer_with(CHUNKED, both, OPENAI.text("two"))), Later()
        with make_client(later.clock()) as client:
            for taken, partial in ((1, ""), (2, "one")):
                later.ahead = 0
                stream = begin(client, server, timeout=5)
                events = stream.events()
                kinds = [next(events).type for _ in range(taken)]
                assert (kinds, stream.text) == (["thinking", "text"][:taken], partial)
                later.ahead = 6
                with pytest.raises(StreamInterrupted) as caught:
                    next(stream)
                assert caught.value.partial == stream.text == partial

    @pytest.mark.usefixtures("patient")
    def test_cancelling_after_the_end_harms_nobody(self, serve: Serve) -> None:
        """A stream that was read has no connection any more: another call may have it."""
        server = serve(answer_with(CHUNKED, whole(OPENAI), ending(CHUNKED)))
        with make_client() as client:
            streams = []
            for _ in range(3):
                stream = begin(client, server)
                for old in streams:
                    old.cancel()
                    old.close()
                assert list(stream) == ["one ", "two"]
                streams.append(stream)
            assert client.stats().opened == 1

    @each_vendor
    @each_framing
    def test_closing_it_elsewhere_ends_a_read(
        self, serve: Serve, meanwhile: Meanwhile, vendor: Vendor, framing: Framing
    ) -> None:
        """Whoever waits for the next piece sees the end, and the call's end is told once."""
        server, ends = serve(begun(vendor, framing)), []
        with make_client() as client:
            client.listen(ends.append)
            stream = begin(client, server, vendor)
            assert next(stream) == "one"
            with meanwhile.doing(stream.close):
                assert list(stream) == []
            assert (stream.text, stream.response) == ("one", None)
            assert server.saw_the_end()
            must_be_at_rest(client)
            assert client.stats().calls.successful_requests == 1
        told = [type(found) for found in ends]
        assert [told.count(one) for one in (AttemptSucceeded, CallSucceeded)] == [1, 1]
        assert told.index(AttemptSucceeded) < told.index(CallSucceeded)

    @each_vendor
    @each_framing
    def test_a_second_reader_is_refused(
        self, serve: Serve, meanwhile: Meanwhile, vendor: Vendor, framing: Framing
    ) -> None:
        """While one thread waits for the next piece no other can, and the first one goes on."""
        go_on = threading.Event()
        rest = vendor.text("two") + vendor.finish() + vendor.end
        server = serve(
            answer_with(
                framing,
                vendor.begin() + vendor.text("one"),
                lambda _: go_on.wait(_PATIENCE),
                rest,
                ending(framing),
            ),
            close=True,
        )

        def read_too() -> None:
            for read in (lambda: next(stream), lambda: next(stream.events())):
                with pytest.raises(RuntimeError, match="reading"):
                    read()
                refused.append(True)
            go_on.set()

        refused: list[bool] = []
        with make_client() as client:
            stream = begin(client, server, vendor)
            assert next(stream) == "one"
            with meanwhile.doing(read_too):
                assert list(stream) == ["two"]
            assert refused == [True, True]
            assert stream.response is not None
            must_be_at_rest(client)

    @each_framing
    def test_closing_the_client_ends_a_read(
        self, serve: Serve, meanwhile: Meanwhile, framing: Framing
    ) -> None:
        """Whoever waits for the next piece gets ``ClientClosed``."""
        server = serve(begun(CLAUDE, framing))
        client = make_client()
        stream = begin(client, server, CLAUDE)
        assert next(stream) == "one"
        with meanwhile.doing(client.close), pytest.raises(ClientClosed) as caught:
            next(stream)
        assert caught.value.maybe_billed
        assert server.saw_the_end()
        must_be_at_rest(client)

    @pytest.mark.parametrize("wait", [_PATIENCE, None])
    def test_closing_may_wait_for_it(
        self,
        serve: Serve,
        meanwhile: Meanwhile,
        monkeypatch: pytest.MonkeyPatch,
        wait: float | None,
    ) -> None:
        """With ``wait`` a stream that is being read comes to its end first."""
        refused = threading.Event()
        rest = CLAUDE.text("two") + CLAUDE.finish() + CLAUDE.end
        steps: list[Step] = [
            CLAUDE.begin() + CLAUDE.text("one"),
            lambda _: refused.wait(_PATIENCE),
            rest,
            ending(CHUNKED),
        ]
        server = serve(answer_with(CHUNKED, *steps))
        client = make_client()
        calls = client._core.in_flight
        drain = calls.drain

        def draining(*args: Any) -> bool:
            # By now new calls are refused.
            refused.set()
            return drain(*args)

        monkeypatch.setattr(calls, "drain", draining)
        closing = threading.Thread(target=lambda: client.close(wait), daemon=True)
        stream = begin(client, server, CLAUDE)
        assert next(stream) == "one"
        with meanwhile.doing(closing.start):
            assert list(stream) == ["two"]
        closing.join(_PATIENCE)
        assert not closing.is_alive()
        assert server.saw_the_end()
        must_be_at_rest(client)

    @pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to a thread")
    @each_framing
    def test_an_interrupt_closes_it(
        self, serve: Serve, meanwhile: Meanwhile, framing: Framing
    ) -> None:
        """Ctrl-C while it waits for a piece: all is given back, and the client goes on."""
        server = serve(begun(OPENAI, framing))
        main = threading.main_thread().ident
        assert main is not None
        with make_client() as client:
            stream = begin(client, server)
            sock = stream._call._socket
            assert next(stream) == "one"
            interrupt = functools.partial(signal.pthread_kill, main, signal.SIGINT)
            with meanwhile.doing(interrupt), pytest.raises(KeyboardInterrupt):
                next(stream)
            assert sock is not None
            assert sock.fileno() == -1
            assert server.saw_the_end()
            assert list(stream) == []
            must_be_at_rest(client)
            assert client.stats().calls.failures_by_class == {"Interrupted": 1}
            assert next(begin(client, server)) == "one"

    def test_a_silence_before_the_first_piece_is_a_read_timeout(self, serve: Serve) -> None:
        """As with a chat it is not tried again, since the model may still be running."""
        server = serve(answer_with(CHUNKED, CLAUDE.begin(), Peer.wait))
        with make_client(read_timeout=0.1) as client:
            with pytest.raises(ReadTimeout) as caught:
                begin(client, server, CLAUDE)
            assert (caught.value.attempts, caught.value.phase) == (1, "body")
            assert caught.value.maybe_billed
            must_be_at_rest(client)

    @pytest.mark.usefixtures("patient")
    def test_a_stale_connection_costs_nothing(self, serve: Serve) -> None:
        """A kept connection that the server just closed is replaced, without a wait."""
        good = answer_with(CHUNKED, whole(OPENAI), ending(CHUNKED))
        asked = itertools.count()

        def answer(peer: Peer, request: bytes) -> None:
            if next(asked) == 1:
                peer.reset()
            else:
                good(peer, request)

        server = serve(answer)
        with make_client(retry=RetryConfig(base_delay=3600, max_delay=3600)) as client:
            for _ in range(2):
                assert list(begin(client, server)) == ["one ", "two"]
            calls = client.stats().calls
            assert calls.retries_by_cause == {"stale_connection": 1}

    @each_vendor
    def test_what_an_error_in_it_says_is_kept(self, serve: Serve, vendor: Vendor) -> None:
        """Code, excerpt and the vendor's own id of an error event are those of the exception."""
        error = (
            vendor.error("some_error", "Some words.")
            .replace(b'"Some words."}', b'"Some words."}, "request_id": "req_7"')
            .replace(b'"code": null}', b'"code": null}, "request_id": "req_7"')
        )
        server = serve(answer_with(CHUNKED, vendor.text("one"), error))
        with make_client() as client:
            stream = begin(client, server, vendor)
            with pytest.raises(StreamInterrupted) as caught:
                list(stream)
        assert (caught.value.code, caught.value.request_id) == ("some_error", "req_7")
        assert "Some words." in (caught.value.body or "")
        assert "some_error: Some words." in caught.value.message
        assert stream.text == "one"
        assert stream.response is None


@pytest.mark.skipif(sys.platform == "win32", reason="counts descriptors")
@pytest.mark.parametrize("clone", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_not_copied(serve: Serve, clone: Callable[[Stream], object]) -> None:
    """Two of them would read one connection; refused at once, and the stream goes on."""
    go_on = threading.Event()
    server = serve(
        answer_with(
            CHUNKED,
            OPENAI.begin() + OPENAI.text("one"),
            lambda _: go_on.wait(_PATIENCE),
            OPENAI.finish() + OPENAI.end,
            ending(CHUNKED),
        )
    )
    with make_client() as client:
        stream = begin(client, server)
        with pytest.raises(TypeError, match="stream"):
            clone(stream)
        go_on.set()
        assert list(stream) == ["one"]
        must_be_at_rest(client)


def test_many_streams_leave_no_descriptor_open(serve: Serve) -> None:
    """Read, left or broken, in both framings: as many are open as before."""
    with Bench(TermaiDriver()) as bench:
        client = bench.client()
        for vendor, framing in itertools.product(VENDORS, FRAMINGS):
            for steps in ([whole(vendor), ending(framing)], [vendor.begin() + vendor.text("one")]):
                server = bench.answering(answer_with(framing, *steps), close=True)
                for _ in range(3):
                    bench.stream(server.url, 5, client, model=vendor.model)
    assert bench.flaws == []
