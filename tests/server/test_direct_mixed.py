"""One connection used in turn by the direct way, the ordinary way, streams and the raw session."""

from __future__ import annotations

import contextlib
import functools
import json
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from urllib3 import connectionpool

from termai_http import Client, HttpClientConfig, _openings, _transport, errors
from termai_http._call import AttemptLimits, Call, Clock, Waker
from termai_http._direct import send_direct
from termai_http._lease import Lease
from termai_http._openings import Openings
from termai_http._slots import Slots
from tests.faults.harness import Peer, RawServer
from tests.server.direct_tools import (
    SHORT,
    WAYS,
    Playing,
    answer,
    ask,
    chunks,
    client_on,
    must_be_given_back,
    watch_ways,
)

LARGE = "x" * 3_000_000
PIECES = ("one ", "two ", "three")
AT_ONCE = 4
LIMITS = AttemptLimits(connect_timeout=10.0, read_timeout=None)


def events() -> bytes:
    """Return a stream's answer, in chunks."""
    deltas = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in PIECES]
    said = [*map(json.dumps, deltas), "[DONE]"]
    body = b"".join(b"data: %b\n\n" % line.encode() for line in said)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(body)


def served(peer: Peer, context: ssl.SSLContext | None) -> None:
    """Answer each request with a reply, or with a stream where it asks for one."""
    if context is not None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
    while (request := peer.read_request()) is not None:
        peer.send(events() if b'"stream":true' in request else answer())


def direct(client: Client, url: str, prompt: str = "hi") -> None:
    """Make a call that nobody looks at."""
    assert ask(client, url, prompt).text == "fine"


def hooked(client: Client, url: str, prompt: str = "hi") -> None:
    """Make a call that a hook looks at."""
    seen: list[Any] = []
    client.session.hooks["response"].append(lambda response, **_: seen.append(response))
    try:
        direct(client, url, prompt)
    finally:
        client.session.hooks["response"].clear()
    assert len(seen) == 1


def streamed(client: Client, url: str) -> None:
    """Read a stream to its end."""
    assert "".join(client.stream("hi", base_url=url, **SHORT)) == "".join(PIECES)


def raw(client: Client, url: str, data: bytes = b"small", timeout: float | None = 10.0) -> None:
    """Use the session as requests has it."""
    assert client.session.post(url, data=data, timeout=timeout).status_code == 200


USES: dict[str, Callable[[Client, str], None]] = {
    "direct": direct,
    "direct, large": functools.partial(direct, prompt=LARGE),
    "hooked": hooked,
    "hooked, large": functools.partial(hooked, prompt=LARGE),
    "stream": streamed,
    "raw": raw,
    "raw, large": functools.partial(raw, data=LARGE.encode()),
    "raw, large, no time": functools.partial(raw, data=LARGE.encode(), timeout=None),
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("first", USES)
def test_a_connection_goes_from_any_use_to_any_other(
    first: str, secure: bool, context: ssl.SSLContext, bundle: str
) -> None:
    """Whoever has a connection leaves it so that the next may use it, in whatever way."""
    server = RawServer(lambda peer: served(peer, context if secure else None))
    with (
        contextlib.closing(server),
        client_on("direct", ca_bundle=bundle, timeout=20) as client,
        watch_ways() as went,
    ):
        url = server.tls_url if secure else server.url
        for second in USES.values():
            USES[first](client, url)
            second(client, url)
        assert went
        assert all(went)
        assert server.connections == 1
        must_be_given_back(client)


@pytest.mark.parametrize("way", WAYS)
def test_silence_ends_at_read_timeout_behind_a_large_request(
    way: str, context: ssl.SSLContext, bundle: str
) -> None:
    """The tickets of TLS are no answer: a read that they woke has no more time than another."""

    def silent(peer: Peer) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        peer.read_request()
        peer.wait()

    with (
        contextlib.closing(RawServer(silent)) as server,
        client_on(way, ca_bundle=bundle, timeout=20, read_timeout=0.3) as client,
    ):
        # With the deadline it would be DeadlineExceeded.
        with pytest.raises(errors.ReadTimeout):
            ask(client, server.tls_url, LARGE)
        must_be_given_back(client)


def test_a_tunnel_that_the_direct_way_leaves_to_urllib3_keeps_no_turn(bundle: str) -> None:
    """What was begun and never opened does not count among what is being opened."""
    under_way: list[int] = []

    def noted(outgoing: Any, *args: Any, **kwargs: Any) -> Any:
        answered = send_direct(outgoing, *args, **kwargs)
        under_way.append(len(outgoing.route.pool().openings._under_way))
        return answered

    refusing = Playing(lambda peer: peer.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"))
    with (
        refusing as proxy,
        client_on("direct", ca_bundle=bundle, proxies={"https": proxy.url}) as client,
        mock.patch.object(_transport, "send_direct", noted),
    ):
        with pytest.raises(errors.ProxyError):
            ask(client, "https://behind.test")
        assert under_way == [0]
        must_be_given_back(client)


def test_connections_of_a_tool_are_opened_without_turns() -> None:
    """They would not say when they are open, and others would wait for their whole answers."""

    class Tools(connectionpool.HTTPConnection):  # type: ignore[name-defined, misc]
        """A connection of somebody else's."""

    asked = mock.Mock(side_effect=Openings.await_turn)
    with (
        Playing(lambda peer: peer.send(answer())) as server,
        client_on("direct") as client,
        mock.patch.object(_openings.Openings, "await_turn", lambda *args: asked(*args)),
    ):
        with mock.patch.object(connectionpool.HTTPConnectionPool, "ConnectionCls", Tools):
            direct(client, server.url)
        assert asked.call_count == 0
        direct(client, server.url)
        assert asked.call_count == 1


class _Late(deque[Any]):
    """A queue into which something comes just before the next who stands in it."""

    before: Callable[[], object] = staticmethod(lambda: None)

    def append(self, item: Any) -> None:
        """Let that happen, and stand in it."""
        self.before()
        super().append(item)


def late(slots: Slots, clock: Clock) -> tuple[Openings, list[Lease], Lease]:
    """Return openings of which all turns are taken, who has them, and one more."""
    openings = Openings(clock)
    leases = []
    for _ in range(AT_ONCE + 1):
        attempt = Call(60.0, clock).begin_attempt(fresh=False, pooled=True, limits=LIMITS)
        leases.append(Lease(slots, attempt))
        slots.acquire(leases[-1])
    for lease in leases[:AT_ONCE]:
        openings.await_turn(lease, lambda: None)
    openings._waiting = _Late()
    return openings, leases[:AT_ONCE], leases[AT_ONCE]


def must_not_wait(_: Waker, seconds: float) -> bool:
    """Stand for a clock."""
    raise AssertionError(f"it waits for {seconds} s")


def test_a_turn_that_ends_before_one_stands_in_the_queue_is_seen() -> None:
    """Nobody is woken by it, so whoever comes looks once more."""
    clock = Clock(wait=must_not_wait)
    openings, first, last = late(Slots(100, 10.0, clock), clock)
    openings._waiting.before = lambda: openings.end(first[0])  # type: ignore[attr-defined]
    assert openings.await_turn(last, lambda: None) is None
    assert not openings._waiting


def test_what_becomes_idle_before_one_stands_in_the_queue_is_taken() -> None:
    """So it is with a connection that is given back at that moment."""
    clock = Clock(wait=must_not_wait)
    openings, _, last = late(Slots(100, 10.0, clock), clock)
    idle: list[str] = []
    openings._waiting.before = lambda: idle.append("one")  # type: ignore[attr-defined]
    assert openings.await_turn(last, lambda: idle.pop() if idle else None) == "one"
    assert not openings._waiting


def test_the_variable_is_read_when_a_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the environment later changes nothing for a client that is there."""
    config = HttpClientConfig(trust_env=False)
    with Playing(lambda peer: peer.send(answer())) as server, watch_ways() as went:
        monkeypatch.setenv("TERMAI_HTTP_DIRECT", "0")
        with Client(config) as client:
            monkeypatch.setenv("TERMAI_HTTP_DIRECT", "1")
            direct(client, server.url)
        assert went == []
        with Client(config) as client:
            monkeypatch.setenv("TERMAI_HTTP_DIRECT", "0")
            direct(client, server.url)
        assert went == [True]


def test_a_wrong_variable_is_told_when_a_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error is not left for the first call to find."""
    monkeypatch.setenv("TERMAI_HTTP_DIRECT", "maybe")
    with pytest.raises(errors.ConfigurationError, match="TERMAI_HTTP_DIRECT must be 1 or 0"):
        Client(HttpClientConfig(trust_env=False))
