"""Streams that nobody reads: closed at their deadline, with nobody asking."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from termai_http import (
    CallCancelled,
    Client,
    DeadlineExceeded,
    HttpClientConfig,
    RetryConfig,
    Stream,
    StreamInterrupted,
)
from termai_http._sweeper import sweeper
from tests.faults.harness import Peer, RawServer
from tests.faults.streaming import CHUNKED, OPENAI, answer_with

_PATIENCE = 20.0


class Server:
    """Begins a stream, says no more, and sees when its client hangs up."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.raw = RawServer(self._handle)

    def _handle(self, peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = peer.read_request()
        if request is not None:
            begun = OPENAI.begin(), OPENAI.text("Hello"), OPENAI.text(" there")
            answer_with(CHUNKED, *begun)(peer, request)
            # Ends with the client's leaving.
            peer.sock.recv(1)
        self.left.set()


@pytest.fixture
def held() -> Iterator[Server]:
    """A server whose streams stop after their begin."""
    server = Server()
    yield server
    server.raw.close()


@pytest.fixture
def one_slot() -> Iterator[Client]:
    """A client with a single slot, which nothing else gives back."""
    config = HttpClientConfig(
        max_connections=1, trust_env=False, retry=RetryConfig(base_delay=0.001, max_delay=0.002)
    )
    with Client(config) as client:
        yield client


def begin(client: Client, server: Server, timeout: float) -> Stream:
    """Open a stream that ends by its deadline."""
    return client.stream(
        "hi", model=OPENAI.model, api_key="k", base_url=server.raw.url, timeout=timeout
    )


def comes_true(condition: Callable[[], bool]) -> bool:
    """Wait for what another thread does right after what could be waited for."""
    never = threading.Event()
    return any(condition() or never.wait(0.01) for _ in range(500))


def test_a_held_stream_is_closed_at_its_deadline(held: Server, one_slot: Client) -> None:
    """Its socket and slot are given back at the deadline, and the next read says so."""
    stream = begin(one_slot, held, 0.5)
    assert next(stream) == "Hello"
    assert held.left.wait(_PATIENCE)
    slots = one_slot._core.transport()._slots
    assert comes_true(lambda: not slots.held and not slots.out)
    with pytest.raises(StreamInterrupted, match="DeadlineExceeded") as caught:
        next(stream)
    assert caught.value.partial == "Hello"
    assert caught.value.maybe_billed
    calls = one_slot.stats().calls
    assert (calls.total_requests, calls.failed_requests) == (1, 1)
    assert calls.failures_by_class == {"StreamInterrupted": 1}


def test_a_held_stream_keeps_no_descriptor(held: Server, one_slot: Client) -> None:
    """The descriptor is closed at the deadline, though the stream itself is still there."""
    stream = begin(one_slot, held, 0.5)
    sock = next(iter(one_slot._core.transport()._slots.out.values())).sock
    assert held.left.wait(_PATIENCE)
    assert comes_true(lambda: sock.fileno() == -1)
    with pytest.raises(StreamInterrupted):
        next(stream)


def test_a_stream_that_is_being_read_ends_in_its_readers_hands(
    held: Server, one_slot: Client
) -> None:
    """The deadline wakes a reader, who gets the error; nobody closes under its hands."""
    stream = begin(one_slot, held, 0.5)
    with pytest.raises(StreamInterrupted) as caught:
        list(stream)
    assert caught.value.partial == "Hello there"
    assert held.left.wait(_PATIENCE)
    assert one_slot.stats().active_connections == 0


def test_the_thread_ends_with_the_last_stream(held: Server, one_slot: Client) -> None:
    """While a stream is open a thread looks after it, and none is left once it is closed."""
    stream = begin(one_slot, held, 60.0)
    assert sweeper.running
    thread = sweeper._thread
    assert thread is not None
    stream.close()
    one_slot.close()
    thread.join(_PATIENCE)
    assert not thread.is_alive()


def test_a_slot_that_a_held_stream_had_goes_to_the_next_call(
    held: Server, one_slot: Client
) -> None:
    """A call that waits for the only slot gets it at the deadline of the stream that holds it."""
    stream = begin(one_slot, held, 0.5)
    second = begin(one_slot, held, _PATIENCE)
    assert next(second) == "Hello"
    second.close()
    with pytest.raises(StreamInterrupted):
        next(stream)


def test_a_slot_that_a_cancelled_stream_had_goes_to_the_next_call(
    held: Server, one_slot: Client
) -> None:
    """Nobody may come to read one that was cancelled: it is closed long before its deadline."""
    stream = begin(one_slot, held, 600.0)
    sock = next(iter(one_slot._core.transport()._slots.out.values())).sock
    stream.cancel()
    second = begin(one_slot, held, _PATIENCE)
    assert next(second) == "Hello"
    assert sock.fileno() == -1
    second.close()
    with pytest.raises(CallCancelled):
        next(stream)
    assert one_slot.stats().calls.in_flight == 0


def test_the_error_carries_the_phase(held: Server, one_slot: Client) -> None:
    """What the interruption says is what the deadline of a call says elsewhere."""
    stream = begin(one_slot, held, 0.3)
    assert held.left.wait(_PATIENCE)
    with pytest.raises(StreamInterrupted) as caught:
        next(stream)
    assert caught.value.phase == "body"
    assert DeadlineExceeded.__name__ in str(caught.value)
