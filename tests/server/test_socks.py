"""SOCKS proxies: the same pool, slots, figures, deadline and cancel as without one."""

from __future__ import annotations

import errno
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import termai_http
from termai_http.testing import Server, Silent, Trickle, TrickleHeaders
from tests.faults.connecting import (
    Authority,
    blackhole_port,
    must_cancel,
    must_have_timed_out,
    resolve,
    trickle_handshake,
    watch,
)
from tests.faults.drivers import TermaiDriver
from tests.faults.harness import Bench, Peer, RawServer, closed_port, good_reply

# A made-up name: a loopback target would not be proxied.
HOST = "model.example"
PLAIN = f"http://{HOST}"
SECURE = f"https://{HOST}"
USER = "somebody"
PASSWORD = "socks-canary-0123456789"


class SocksProxy:
    """A SOCKS5 server that connects to ports of 127.0.0.1 only.

    Args:
        bench: Whose it is.
        targets: The port that stands for each host.
        login: User and password it asks for; None for none.
        status: What it answers a request with; 0 connects.

    Attributes:
        asked: The host and port of every request.
    """

    def __init__(
        self,
        bench: Bench,
        targets: dict[str, int],
        *,
        login: tuple[str, str] | None = None,
        status: int = 0,
    ) -> None:
        self._targets = targets
        self._login = login
        self._status = status
        self.asked: list[tuple[str, int]] = []
        self.server: RawServer = bench.serve(self._handle)
        self.port = self.server.port

    def _handle(self, peer: Peer) -> None:
        if not self._greet(peer):
            return
        host, port = read_request(peer)
        self.asked.append((host, port))
        status = self._status or (0 if host in self._targets else 4)
        reply = bytes([5, status, 0, 1, 127, 0, 0, 1, 0, 80])
        if status:
            peer.send(reply)
            return
        with socket.create_connection(("127.0.0.1", self._targets[host])) as upstream:
            peer.send(reply)
            relay(peer, upstream)

    def _greet(self, peer: Peer) -> bool:
        methods = read_greeting(peer)
        wanted = 0 if self._login is None else 2
        if wanted not in methods:
            peer.send(b"\x05\xff")
            return False
        peer.send(bytes([5, wanted]))
        if self._login is None:
            return True
        take(peer, 1)
        given = tuple(take(peer, take(peer, 1)[0]).decode() for _ in range(2))
        peer.send(b"\x01\x00" if given == self._login else b"\x01\x01")
        return given == self._login


def take(peer: Peer, count: int) -> bytes:
    """Read exactly so many bytes."""
    data = b""
    while len(data) < count:
        received = peer.sock.recv(count - len(data))
        if not received:
            raise ConnectionAbortedError("the client went away")
        data += received
    return data


def read_greeting(peer: Peer) -> bytes:
    """Read the greeting; returns the methods it offers."""
    version, count = take(peer, 2)
    assert version == 5
    return take(peer, count)


def read_request(peer: Peer) -> tuple[str, int]:
    """Read a request to connect; returns host and port."""
    _, command, _, kind = take(peer, 4)
    assert command == 1
    if kind == 3:
        host = take(peer, take(peer, 1)[0]).decode()
    elif kind == 4:
        host = socket.inet_ntop(socket.AF_INET6, take(peer, 16))
    else:
        host = socket.inet_ntoa(take(peer, 4))
    return host, int.from_bytes(take(peer, 2), "big")


def relay(peer: Peer, upstream: socket.socket) -> None:
    """Pass bytes both ways until one side ends."""
    while not peer.ended.is_set():
        for source, sink in ((peer.sock, upstream), (upstream, peer.sock)):
            if source in select.select([peer.sock, upstream], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                sink.sendall(data)


def stall(peer: Peer) -> None:
    """Read the greeting and say nothing."""
    read_greeting(peer)
    peer.wait()


def stall_after_greeting(peer: Peer) -> None:
    """Accept the greeting and never answer the request."""
    read_greeting(peer)
    peer.send(b"\x05\x00")
    peer.wait()


def trickle(peer: Peer) -> None:
    """Answer the request byte by byte, with as long a name as there can be."""
    read_greeting(peer)
    peer.send(b"\x05\x00")
    read_request(peer)
    peer.drip(b"\x05\x00\x00\x03\xff" + b"x" * 257, 0.05)


def trickle_into_tls(peer: Peer) -> None:
    """Connect at once, to a server whose handshake trickles."""
    read_greeting(peer)
    peer.send(b"\x05\x00")
    read_request(peer)
    peer.send(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
    trickle_handshake(peer)


def hang_up(peer: Peer) -> None:
    """Close once a greeting came."""
    read_greeting(peer)


def hang_up_by_reset(peer: Peer) -> None:
    """Reset the connection once a greeting came."""
    read_greeting(peer)
    peer.reset()


def hang_up_within_the_answer(peer: Peer) -> None:
    """Close in the middle of the answer to the request."""
    read_greeting(peer)
    peer.send(b"\x05\x00")
    read_request(peer)
    peer.send(b"\x05\x00\x00\x01")


def speak_http(peer: Peer) -> None:
    """Answer as a web server does."""
    read_greeting(peer)
    peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench for our own client; what it finds wrong fails the test, a ResourceWarning too."""
    with Bench(TermaiDriver()) as made:
        made.hide(PASSWORD, "proxy's password")
        yield made
    assert made.flaws == []
    assert [item for item in made._warned if issubclass(item.category, ResourceWarning)] == []


@pytest.fixture
def authority(bench: Bench) -> Authority:
    """A CA that the clients of a test trust."""
    return Authority(bench)


@pytest.fixture(params=[PLAIN, SECURE])
def url(request: pytest.FixtureRequest) -> str:
    """A target without TLS, and one with it."""
    return str(request.param)


@pytest.fixture
def origin(authority: Authority, url: str) -> Iterator[Server]:
    """The server that calls itself model.example."""
    with Server(tls=authority.context(HOST) if url == SECURE else None) as running:
        yield running


@pytest.fixture
def connect(bench: Bench, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make a client that uses the proxy at a port, with a login."""
    # A CA takes its time to make; only tests with a server of its own need one.
    trusting = "authority" in request.fixturenames
    bundle = request.getfixturevalue("authority").bundle if trusting else None

    def make(
        port: int, scheme: str = "socks5h", login: str = f"{USER}:{PASSWORD}@", **config: Any
    ) -> Any:
        proxy = f"{scheme}://{login}127.0.0.1:{port}"
        return bench.client(
            proxies={"http": proxy, "https": proxy},
            ca_bundle=bundle,
            allow_http=True,
            **config,
        )

    return make


def figures(client: Any) -> tuple[int, int, int, int]:
    """Return connections opened, reused, idle and active."""
    stats = client.stats()
    return stats.opened, stats.reused, stats.idle_connections, stats.active_connections


def must_probe(client: Any) -> None:
    """Check that the one idle connection is probed while it is idle, as all are."""
    pools = client.session.get_adapter("https://").pools()
    (sock,) = [conn.sock for pool in pools for conn, _ in pool.idle._waiting]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("login", [None, (USER, PASSWORD)])
def test_calls_share_one_connection_through_the_proxy(
    bench: Bench, url: str, origin: Server, connect: Any, login: tuple[str, str] | None
) -> None:
    """The host's name goes to the proxy, one connection carries all calls, and is counted."""
    proxy = SocksProxy(bench, {HOST: origin.port}, login=login)
    client = connect(proxy.port)
    for _ in range(4):
        bench.chat(url, 5, client).must_be("reply")
    assert proxy.asked == [(HOST, 443 if url == SECURE else 80)]
    assert figures(client) == (1, 3, 1, 0)
    must_probe(client)
    assert len(origin.connections) == 1


def test_a_name_may_be_resolved_here(bench: Bench, url: str, origin: Server, connect: Any) -> None:
    """With socks5:// the proxy is given an address; a name without one is a DNSError."""
    resolve(bench, HOST, lambda: [origin.port])
    proxy = SocksProxy(bench, {"127.0.0.1": origin.port})
    bench.chat(url, 5, connect(proxy.port, "SOCKS5")).must_be("reply")
    assert [host for host, _ in proxy.asked] == ["127.0.0.1"]

    def unknown() -> list[int]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    resolve(bench, HOST, unknown)
    bench.chat(url, 5, connect(proxy.port, "socks5", retries=0)).must_be("dns")


@pytest.mark.parametrize("granted", [True, False])
def test_socks4a_is_spoken_too(bench: Bench, connect: Any, granted: bool) -> None:
    """The name goes to the proxy, with the user alone; a refusal is quoted."""
    target = bench.answering(good_reply())
    asked: list[tuple[bytes, bytes]] = []

    def until_zero(peer: Peer) -> bytes:
        return b"".join(iter(lambda: take(peer, 1), b"\0"))

    def handle(peer: Peer) -> None:
        assert take(peer, 8) == b"\x04\x01\x00\x50\x00\x00\x00\x01"
        asked.append((until_zero(peer), until_zero(peer)))
        with socket.create_connection(("127.0.0.1", target.port)) as upstream:
            peer.send(bytes([0, 0x5A if granted else 0x5B]) + bytes(6))
            relay(peer, upstream)

    client = connect(bench.serve(handle).port, "socks4a")
    seen = bench.chat(PLAIN, 5, client)
    assert set(asked) == {(USER.encode(), HOST.encode())}
    if granted:
        seen.must_be("reply")
        assert figures(client) == (1, 0, 1, 0)
    else:
        must_blame_the_proxy(seen.error, "it answered 0x5b: Request rejected or failed")


def test_no_descriptor_left_is_told(bench: Bench, connect: Any) -> None:
    """A process without a descriptor for the negotiation is told so, not the proxy blamed."""
    client = connect(SocksProxy(bench, {}).port)
    none_left = OSError(errno.EMFILE, "Too many open files")
    with mock.patch.object(socket, "dup", side_effect=none_left):
        seen = bench.chat(PLAIN, 5, client)
    assert type(seen.error) is termai_http.ResourceError


def test_an_address_may_be_the_target(bench: Bench, connect: Any) -> None:
    """An IPv6 address goes to the proxy as one."""
    target = bench.answering(good_reply())
    proxy = SocksProxy(bench, {"2001:db8::1": target.port})
    bench.chat("http://[2001:db8::1]", 5, connect(proxy.port)).must_be("reply")


def test_raw_use_of_the_session_is_pooled_and_counted(
    bench: Bench, url: str, origin: Server, connect: Any
) -> None:
    """The session itself goes through the proxy, with our pools."""
    proxy = SocksProxy(bench, {HOST: origin.port}, login=(USER, PASSWORD))
    client = connect(proxy.port)
    session = client.session
    session.verify = client.config.ca_bundle
    for _ in range(2):
        assert session.get(f"{url}/v1/models", timeout=5).status_code == 401
    assert figures(client) == (1, 1, 1, 0)
    must_probe(client)


def test_a_connection_holds_a_slot(bench: Bench, connect: Any) -> None:
    """With one slot a second call waits for it, and then uses the first one's connection."""
    arrived, go_on = threading.Event(), threading.Event()

    def answer(peer: Peer, request: bytes) -> None:
        arrived.set()
        go_on.wait(20)
        peer.send(good_reply())

    proxy = SocksProxy(bench, {HOST: bench.answering(answer).port})
    client = connect(proxy.port, max_connections=1)
    thread = threading.Thread(target=lambda: bench.chat(PLAIN, 20, client).must_be("reply"))
    thread.start()
    assert arrived.wait(20)
    assert figures(client) == (1, 0, 0, 1)
    seen = bench.chat(PLAIN, 0.2, client).must_be("timeout")
    assert isinstance(seen.error, termai_http.PoolTimeout)
    go_on.set()
    thread.join(20)
    bench.chat(PLAIN, 5, client).must_be("reply")
    assert figures(client) == (1, 1, 1, 0)


@pytest.mark.parametrize("handler", [stall, stall_after_greeting, trickle, trickle_into_tls])
def test_connecting_keeps_its_time(
    bench: Bench, connect: Any, handler: Callable[[Peer], None]
) -> None:
    """A proxy that stalls or trickles ends by the deadline, and by connect_timeout."""
    port = bench.serve(handler).port
    seen = bench.chat(SECURE, 0.3, connect(port)).must_keep_the_deadline()
    must_have_timed_out(seen, termai_http.DeadlineExceeded)
    seen = bench.chat(SECURE, 5, connect(port, connect_timeout=0.1))
    must_have_timed_out(seen, termai_http.ConnectTimeout, attempts=3)


def test_a_proxy_that_does_not_accept_keeps_the_deadline(bench: Bench, connect: Any) -> None:
    """So does one whose queue is full."""
    seen = bench.chat(SECURE, 0.3, connect(blackhole_port(bench))).must_keep_the_deadline()
    must_have_timed_out(seen, termai_http.DeadlineExceeded)


def test_an_answer_keeps_the_deadline(bench: Bench, url: str, origin: Server, connect: Any) -> None:
    """Headers and a body that trickle through the proxy end in time; nothing is kept."""
    client = connect(SocksProxy(bench, {HOST: origin.port}).port)
    for fault, phase in (
        (TrickleHeaders(interval=0.05), "headers"),
        (Trickle(interval=0.05), "body"),
    ):
        origin.script(fault)
        seen = bench.chat(url, 0.4, client).must_keep_the_deadline()
        assert isinstance(seen.error, termai_http.DeadlineExceeded)
        assert seen.error.phase == phase
    assert figures(client)[2:] == (0, 0)


@pytest.mark.parametrize("handler", [stall, stall_after_greeting, trickle, trickle_into_tls])
def test_cancel_ends_connecting(
    bench: Bench, connect: Any, handler: Callable[[Peer], None]
) -> None:
    """cancel() ends the wait for the proxy's answer at once."""
    begun = threading.Event()
    must_cancel(bench, SECURE, begun, connect(bench.serve(watch(handler, begun)).port))


def test_close_ends_connecting(bench: Bench, connect: Any) -> None:
    """So does the client's close()."""
    begun = threading.Event()
    client = connect(bench.serve(watch(stall, begun)).port)

    def close() -> None:
        begun.wait(20)
        client.close()

    thread = threading.Thread(target=close)
    thread.start()
    seen = bench.chat(SECURE, 20, client).must_be("closed")
    thread.join(20)
    assert isinstance(seen.error, termai_http.ClientClosed)
    assert seen.error.phase == "connect"


def test_cancel_ends_the_wait_for_headers(
    bench: Bench, url: str, origin: Server, connect: Any
) -> None:
    """cancel() ends the wait for an answer behind the proxy at once."""
    arrived = threading.Event()

    def silent(_: object) -> Silent:
        arrived.set()
        return Silent()

    origin.fail_when(silent)
    client = connect(SocksProxy(bench, {HOST: origin.port}).port)
    must_cancel(bench, url, arrived, client, phase="headers")


def test_cancel_ends_reading_a_body(bench: Bench, url: str, origin: Server, connect: Any) -> None:
    """cancel() ends a body that trickles through the proxy at once."""
    begun = threading.Event()
    origin.script(Trickle(interval=0.05))
    client = connect(SocksProxy(bench, {HOST: origin.port}).port)
    client.session.hooks["response"].append(lambda response, **_: begun.set())
    must_cancel(bench, url, begun, client, phase="body")


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (hang_up, "it closed the connection"),
        (hang_up_by_reset, "it closed the connection"),
        (hang_up_within_the_answer, "it closed the connection"),
        (speak_http, "what it answered is no SOCKS"),
    ],
)
def test_a_proxy_that_speaks_no_socks_is_blamed(
    bench: Bench, connect: Any, handler: Callable[[Peer], None], told: str
) -> None:
    """It is a ProxyError that says what came instead, and nothing was sent."""
    client = connect(bench.serve(handler).port)
    must_blame_the_proxy(bench.chat(PLAIN, 5, client).must_be("proxy").error, told)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (1, "it answered 0x01: General SOCKS server failure"),
        (2, "it answered 0x02: Connection not allowed by ruleset"),
        (5, "it answered 0x05: Connection refused"),
        (99, "it answered 0x63: Unknown error"),
    ],
)
def test_a_proxy_that_refuses_is_quoted(bench: Bench, connect: Any, status: int, told: str) -> None:
    """It is a ProxyError with what the proxy said, after all attempts."""
    proxy = SocksProxy(bench, {}, status=status)
    must_blame_the_proxy(bench.chat(PLAIN, 5, connect(proxy.port)).must_be("proxy").error, told)
    assert len(proxy.asked) == 3


def test_a_name_that_the_proxy_cannot_resolve_is_its_error(bench: Bench, connect: Any) -> None:
    """With socks5h:// it is a ProxyError: nothing was looked up here."""
    looked_up = resolve(bench, HOST, list)
    seen = bench.chat(PLAIN, 5, connect(SocksProxy(bench, {}).port)).must_be("proxy")
    must_blame_the_proxy(seen.error, "it answered 0x04: Host unreachable")
    assert looked_up == []


@pytest.mark.parametrize(
    ("login", "told"),
    [
        (f"{USER}:wrong-{PASSWORD}@", "it refused the login (SOCKS5 authentication failed)"),
        ("", "it refused the login (All offered SOCKS5 authentication methods were rejected)"),
    ],
)
def test_a_login_that_is_refused_is_told_without_it(
    bench: Bench, connect: Any, login: str, told: str
) -> None:
    """A wrong login and none at all are ProxyErrors; the password is shown nowhere."""
    proxy = SocksProxy(bench, {}, login=(USER, PASSWORD))
    seen = bench.chat(PLAIN, 5, connect(proxy.port, login=login)).must_be("proxy")
    must_blame_the_proxy(seen.error, told)


def test_a_proxy_that_is_not_there_is_blamed(bench: Bench, connect: Any) -> None:
    """A closed port, and a name without an address, are ProxyErrors."""
    seen = bench.chat(SECURE, 5, connect(closed_port())).must_be("proxy")
    must_blame_the_proxy(seen.error, "connection refused")

    def unknown() -> list[int]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    resolve(bench, "proxy.example", unknown)
    client = bench.client(proxies={"https": f"socks5h://{USER}:{PASSWORD}@proxy.example"})
    seen = bench.chat(SECURE, 5, client).must_be("proxy")
    must_blame_the_proxy(seen.error, "its name could not be resolved")


def must_blame_the_proxy(error: BaseException | None, told: str) -> None:
    """Check a ProxyError before anything was sent, after all attempts."""
    assert type(error) is termai_http.ProxyError
    assert error.message == f"The proxy for {HOST} failed: {told}."
    assert error.phase == "connect"
    assert error.attempts == 3
    assert not error.maybe_billed


def test_a_strangers_certificate_behind_the_proxy_is_a_tls_error(
    bench: Bench, connect: Any
) -> None:
    """The server's certificate is verified, after one handshake."""
    with Server(tls=Authority(bench).context(HOST)) as stranger:
        proxy = SocksProxy(bench, {HOST: stranger.port})
        seen = bench.chat(SECURE, 5, connect(proxy.port)).must_be("tls")
    assert isinstance(seen.error, termai_http.TLSError)
    assert "certificate" in seen.error.message
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("login", [f"{'u' * 128}:{PASSWORD}@", f"{USER}:{PASSWORD * 6}@"])
def test_a_login_that_cannot_be_sent_is_refused(bench: Bench, connect: Any, login: str) -> None:
    """PySocks would write its length wrong, and the proxy read another one."""
    proxy = SocksProxy(bench, {}, login=(USER, PASSWORD))
    seen = bench.chat(PLAIN, 5, connect(proxy.port, login=login)).must_be("refused")
    assert "longer than 127 bytes" in str(seen.error)
    assert proxy.server.connections == 0


def test_a_long_name_behind_a_proxy_is_refused(bench: Bench, connect: Any) -> None:
    """PySocks would write its length wrong, too."""
    proxy = SocksProxy(bench, {})
    long = ".".join(["a" * 60] * 3)
    bench.chat(f"http://{long}", 5, connect(proxy.port)).must_be("refused")
    assert proxy.server.connections == 0


def test_a_connection_that_the_proxy_closed_is_replaced(bench: Bench, connect: Any) -> None:
    """The next call opens another, through the proxy again."""
    target = bench.answering(good_reply(), close=True)
    proxy = SocksProxy(bench, {HOST: target.port})
    client = connect(proxy.port)
    for _ in range(2):
        bench.chat(PLAIN, 5, client).must_be("reply")
    assert figures(client)[0] == len(proxy.asked) == 2


@pytest.mark.parametrize("raw", [False, True])
def test_without_its_package_the_extra_is_named(bench: Bench, connect: Any, raw: bool) -> None:
    """Without PySocks a call and a raw request are refused, with what to install."""
    client = connect(closed_port())
    with mock.patch.dict("sys.modules", {"socks": None}):
        sys.modules.pop("termai_http._socks", None)
        if raw:
            with pytest.raises(termai_http.ConfigurationError) as caught:
                client.session.get(PLAIN, timeout=5)
            error: BaseException | None = caught.value
        else:
            error = bench.chat(PLAIN, 5, client).must_be("refused").error
    assert 'pip install "termai-http[socks]"' in str(error)
