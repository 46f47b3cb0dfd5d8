"""What comes back although nobody gave it: held streams, torn calls, connections in hooks."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

import termai_http
from termai_http import ClaudeAdapter, Client, HttpClientConfig, OpenAIAdapter
from termai_http.testing import Server, Silent, Trickle
from tests.faults.harness import Peer, RawServer, good_reply

_PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"piece"},"finish_reason":null}]}\n\n'
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE)
)


@pytest.fixture
def begun() -> Iterator[RawServer]:
    """A server that begins every stream and never goes on, and answers the rest."""

    def answer(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            if b'"stream":true' in request:
                peer.send(_STREAM)
                peer.wait()
            peer.send(good_reply())

    server = RawServer(answer)
    yield server
    server.close()


def ask(client: Client, url: str, **options: Any) -> str:
    """Ask for a reply."""
    return client.chat("hi", model="m", base_url=url, api_key="k", **options).text


def test_a_stream_held_past_its_deadline_frees_its_slot(begun: RawServer) -> None:
    """Whoever waits gets the slot of a stream that nobody reads, and close() waits no longer."""
    config = HttpClientConfig(max_connections=1, trust_env=False)
    with Client(config) as client:
        held = client.stream("hi", model="m", base_url=begun.url, api_key="k", timeout=0.3)
        assert ask(client, begun.url, timeout=30) == "fine"
        assert client.stats().active_connections == 0
        client.close(wait=None)
        with pytest.raises(termai_http.StreamInterrupted, match="DeadlineExceeded"):
            list(held)


def test_a_response_may_be_collected_in_a_thread_that_holds_the_lock(begun: RawServer) -> None:
    """A stream's answer that closes its connection there leaves a note, and nobody hangs."""
    with Client(HttpClientConfig(trust_env=False)) as client:
        stream: Any = client.stream("hi", model="m", base_url=begun.url, api_key="k")
        answer = stream._source.body.response
        raw = getattr(answer, "raw", answer)
        with client._core.transport()._slots.lock:
            raw.close()
            del stream, answer, raw
        stats = client.stats()
        assert (stats.active_connections, stats.calls.in_flight) == (0, 0)


def test_a_hooks_raw_use_is_no_part_of_its_call(client: Client, server: Server) -> None:
    """What a hook sends raw has its own connection, which cancelling the call does not touch."""
    inside, token = threading.Event(), termai_http.CancelToken()
    answers: list[int] = []

    def hook(response: Any, **_: Any) -> None:
        if not inside.is_set():
            inside.set()
            token.cancel()
            answers.append(
                client.session.get(f"{server.openai_url}/models", timeout=30).status_code
            )

    server.script(Trickle(interval=0.2))
    client.session.hooks["response"].append(hook)
    with pytest.raises(termai_http.CallCancelled):
        ask(client, server.url, cancel=token)
    assert answers == [401]
    assert client.stats().active_connections == 0
    assert ask(client, server.url) == "You said: hi"


def test_an_interrupt_while_a_connection_goes_back_breaks_nobody(
    client: Client, server: Server
) -> None:
    """Once others may have it, a connection is not closed by the call that gave it back."""
    with (
        mock.patch("termai_http._idle.IdleConnections.tell", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        ask(client, server.url)
    stats = client.stats()
    assert (stats.active_connections, stats.idle_connections, stats.calls.in_flight) == (0, 1, 0)
    gc.collect()
    ask(client, server.url)
    assert client.stats().reused == 1


def test_an_interrupted_call_is_counted_once(client: Client, server: Server) -> None:
    """Also where a stream was begun and never handed out."""
    with (
        mock.patch("termai_http._attempts._tell_success", side_effect=KeyboardInterrupt),
        client.listening(lambda event: None),
        pytest.raises(KeyboardInterrupt),
    ):
        ask(client, server.url)
    assert client.stats().calls.failures_by_class == {"Interrupted": 1}
    assert client.stats().calls.total_requests == 1


def test_a_cause_counts_once_its_retry_was_made(client: Client, server: Server) -> None:
    """A call cancelled while it waits to try again made no retry."""
    server.script(termai_http.testing.Status(503, retry_after=60))
    token = termai_http.CancelToken()
    waits = threading.Event()

    def listen(event: object) -> None:
        if isinstance(event, termai_http.events.RetryScheduled):
            waits.set()

    def cancel() -> None:
        assert waits.wait(30)
        token.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with client.listening(listen), pytest.raises(termai_http.CallCancelled):
        ask(client, server.url, cancel=token, timeout=100)
    thread.join()
    calls = client.stats().calls
    assert (calls.total_retries, calls.retries_by_cause) == (0, {})


@pytest.mark.parametrize("adapter", [OpenAIAdapter, ClaudeAdapter])
def test_an_adapter_with_a_key_refuses_to_be_pickled(adapter: Any) -> None:
    """A key never leaves in a pickle; an adapter without one of its own may go."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(adapter(api_key="sk-canary-0123456789"))
    assert isinstance(pickle.loads(pickle.dumps(adapter())), adapter)


def test_a_stale_connection_is_no_illness(server: Server) -> None:
    """A health check that would meet a connection the server closed opens one of its own."""
    with Client(HttpClientConfig(trust_env=False)) as client:
        vendor = OpenAIAdapter(client, api_key="sk-loopback", base_url=server.openai_url)
        assert vendor.health_check()
        server.close_idle()
        assert vendor.health_check()
        assert len(server.connections) == 2


def test_a_closed_client_ends_a_silent_call_at_once(server: Server) -> None:
    """close() of a client in use leaves nothing behind, and says so to the call."""
    arrived, errors = threading.Event(), []
    server.fail_when(lambda request: arrived.set() or Silent())
    client = Client(HttpClientConfig(trust_env=False))

    def call() -> None:
        try:
            ask(client, server.url)
        except termai_http.ClientClosed as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert arrived.wait(30)
    client.close()
    thread.join(30)
    assert len(errors) == 1
    assert errors[0].maybe_billed
    assert client.stats().active_connections == 0
