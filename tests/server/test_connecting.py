"""Connections: TLS within TLS, one context for all, whom we trust, and a socket's options."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trustme

import termai_http
from termai_http import Client, HttpClientConfig, RetryConfig
from termai_http._call import Clock
from termai_http._tls import make_context
from termai_http.testing import Server, Silent, Trickle, TrickleHeaders
from tests.faults.connecting import (
    ESTABLISHED,
    Authority,
    blackhole_port,
    must_cancel,
    must_have_timed_out,
    resolve,
    secure,
    tls_server,
    trickle_handshake,
    watch,
)
from tests.faults.drivers import TermaiDriver
from tests.faults.harness import Bench, Peer, RawServer, closed_port, good_reply

PROXIED = "https://model.example"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench for our own client; what it finds wrong fails the test."""
    with Bench(TermaiDriver()) as made:
        yield made
    assert made.flaws == []


@pytest.fixture
def authority(bench: Bench) -> Authority:
    """A CA that the clients of a test trust."""
    return Authority(bench)


class SecureProxy:
    """An HTTPS proxy in front of one TLS server; what the server says can be made to trickle.

    Attributes:
        begun: Set once a tunnel stands.
        url: What goes into ``proxies``.
    """

    def __init__(
        self, bench: Bench, context: ssl.SSLContext, target: int, *, interval: float = 0.0
    ) -> None:
        self._context = context
        self._target = target
        self._interval = interval
        self.begun = threading.Event()
        self.server: RawServer = bench.serve(self._handle)
        self.url = self.server.tls_url

    def _handle(self, peer: Peer) -> None:
        secure(peer, self._context)
        head = peer.read_request()
        assert head is not None
        self.server.requests.append(head)
        with socket.create_connection(("127.0.0.1", self._target)) as upstream:
            peer.send(ESTABLISHED)
            self.begun.set()
            self._relay(peer, upstream)

    def _relay(self, peer: Peer, upstream: socket.socket) -> None:
        client = peer.sock
        assert isinstance(client, ssl.SSLSocket)
        while not peer.ended.is_set():
            ready = [client] if client.pending() else select.select([client, upstream], [], [])[0]
            if client in ready:
                if not (data := client.recv(65536)):
                    return
                upstream.sendall(data)
            if upstream in ready:
                if not (data := upstream.recv(65536)):
                    return
                if self._interval:
                    peer.drip(data, self._interval)
                else:
                    client.sendall(data)


def idle_sockets(client: Client) -> list[Any]:
    """Return the sockets of a client's idle connections."""
    pools = client.session.get_adapter("https://").pools()
    return [conn.sock for pool in pools for conn, _ in pool.idle._waiting]


@pytest.fixture
def origin(authority: Authority) -> Iterator[Server]:
    """A TLS server that calls itself model.example."""
    with Server(tls=authority.context("model.example")) as running:
        yield running


def test_https_through_an_https_proxy(bench: Bench, authority: Authority, origin: Server) -> None:
    """Both layers are verified with the client's CAs, and the connection is used again."""
    proxy = SecureProxy(bench, authority.context(), origin.port)
    client = bench.client(ca_bundle=authority.bundle, proxies={"https": proxy.url})
    bench.chat(PROXIED, 5, client).must_be("reply")
    bench.chat(PROXIED, 5, client).must_be("reply")
    assert len(proxy.server.requests) == 1
    assert client.stats().reused == 1


@pytest.mark.parametrize("inner", [False, True])
def test_a_certificate_behind_or_of_an_https_proxy_is_verified(
    bench: Bench, authority: Authority, origin: Server, inner: bool
) -> None:
    """A stranger's certificate on either layer is a TLSError, after one handshake."""
    stranger = Authority(bench)
    with Server(tls=stranger.context("model.example")) as other:
        proxy = SecureProxy(
            bench,
            authority.context() if inner else stranger.context(),
            other.port if inner else origin.port,
        )
        client = bench.client(ca_bundle=authority.bundle, proxies={"https": proxy.url})
        seen = bench.chat(PROXIED, 5, client).must_be("tls")
        assert isinstance(seen.error, termai_http.TLSError)
        assert seen.error.attempts == proxy.server.connections == 1
        assert ("proxy" in seen.error.message) is not inner


def test_tls_within_tls_keeps_the_deadline_under_a_trickle(
    bench: Bench, authority: Authority, origin: Server
) -> None:
    """A handshake, a header block and a body that trickle through the proxy end in time."""
    outer = authority.context()
    slow = SecureProxy(bench, outer, origin.port, interval=0.05)
    settings: dict[str, Any] = {"ca_bundle": authority.bundle}
    client = bench.client(**settings, proxies={"https": slow.url})
    seen = bench.chat(PROXIED, 0.4, client).must_keep_the_deadline()
    must_have_timed_out(seen, termai_http.DeadlineExceeded)
    hasty = bench.client(**settings, proxies={"https": slow.url}, connect_timeout=0.3, retries=0)
    must_have_timed_out(bench.chat(PROXIED, 5, hasty), termai_http.ConnectTimeout)
    quick = SecureProxy(bench, outer, origin.port)
    client = bench.client(**settings, proxies={"https": quick.url})
    for fault, phase in (
        (TrickleHeaders(interval=0.05), "headers"),
        (Trickle(interval=0.05), "body"),
    ):
        origin.script(fault)
        seen = bench.chat(PROXIED, 0.4, client).must_keep_the_deadline()
        assert isinstance(seen.error, termai_http.DeadlineExceeded)
        assert seen.error.phase == phase
    assert client.stats().idle_connections == 0


def test_the_handshake_with_an_https_proxy_keeps_the_deadline(bench: Bench) -> None:
    """A proxy whose own handshake trickles ends by the deadline, and by cancel()."""
    client = bench.client(proxies={"https": bench.serve(trickle_handshake).tls_url})
    seen = bench.chat(PROXIED, 0.3, client).must_keep_the_deadline()
    must_have_timed_out(seen, termai_http.DeadlineExceeded)
    begun = threading.Event()
    watched = bench.serve(watch(trickle_handshake, begun))
    must_cancel(bench, PROXIED, begun, bench.client(proxies={"https": watched.tls_url}))


def test_cancel_ends_tls_within_tls(bench: Bench, authority: Authority, origin: Server) -> None:
    """A call through an HTTPS proxy is cancelled in its handshake and in its wait."""
    settings: dict[str, Any] = {"ca_bundle": authority.bundle}
    slow = SecureProxy(bench, authority.context(), origin.port, interval=0.05)
    client = bench.client(**settings, proxies={"https": slow.url})
    must_cancel(bench, PROXIED, slow.begun, client)
    proxy = SecureProxy(bench, authority.context(), origin.port)
    client = bench.client(**settings, proxies={"https": proxy.url})
    arrived = threading.Event()

    def silent(_: object) -> Silent:
        arrived.set()
        return Silent()

    origin.fail_when(silent)
    must_cancel(bench, PROXIED, arrived, client, phase="headers")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "closed the connection"),
        (b"what?\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + (b"x: %s\r\n" % (b"y" * 9000)) * 60, "block is larger"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, "no HTTP"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "503 Service Unavailable"),
    ],
    ids=["close", "garbage", "many lines", "long line", "status"],
)
def test_a_proxy_that_gives_no_tunnel_is_blamed_itself(
    bench: Bench, answer: bytes, told: str
) -> None:
    """What goes wrong before the tunnel stands is a ProxyError that says what."""

    def handle(peer: Peer) -> None:
        peer.read_request()
        if answer:
            peer.send(answer)
            # Until the client closes: an early close could be a reset that eats the answer.
            peer.sock.recv(65536)

    server = bench.serve(handle)
    client = bench.client(proxies={"https": server.url})
    seen = bench.chat(PROXIED, 5, client).must_be("proxy")
    assert type(seen.error) is termai_http.ProxyError
    assert told in seen.error.message
    assert seen.error.attempts == server.connections == 3
    assert not seen.error.maybe_billed


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="a full queue refuses on Windows")
def test_an_address_that_does_not_answer_leaves_time_for_the_next(bench: Bench) -> None:
    """The first of two addresses gets its share of connect_timeout, and the second the rest."""
    alive = bench.answering(good_reply())
    addresses = [blackhole_port(bench), alive.port]
    resolve(bench, "localhost", lambda: addresses)
    # A clock that runs forty times as fast, so that seconds pass without a wait.
    swift = Clock(monotonic=lambda: time.monotonic() * 40)
    retry = RetryConfig(max_attempts=1)
    with Client(HttpClientConfig(retry=retry, trust_env=False), _clock=swift) as client:
        text = client.chat("hi", model="m", base_url="http://localhost", api_key="k").text
    assert text == "fine"
    assert alive.connections == 1


@pytest.mark.parametrize("proxied", [False, True])
def test_all_connections_share_one_context(
    bench: Bench, authority: Authority, origin: Server, proxied: bool
) -> None:
    """CAs are loaded once for a client, however many connections its threads open."""
    settings: dict[str, Any] = {"ca_bundle": authority.bundle, "pooling": 0.0}
    target = tls_server(bench, authority.context())
    url = target.tls_url
    if proxied:
        proxy = SecureProxy(bench, authority.context(), origin.port)
        settings["proxies"], url = {"https": proxy.url}, PROXIED
    loaded: list[str] = []

    def count(name: str) -> Any:
        real = getattr(ssl.SSLContext, name)

        def counting(self: ssl.SSLContext, *args: Any, **kwargs: Any) -> Any:
            loaded.append(name)
            return real(self, *args, **kwargs)

        return mock.patch.object(ssl.SSLContext, name, counting)

    with count("load_verify_locations"), count("load_default_certs"):
        client = bench.client(**settings)
        with ThreadPoolExecutor(8) as pool:
            texts = list(
                pool.map(
                    lambda _: client.chat("hi", model="m", base_url=url, api_key="k").text,
                    range(16),
                )
            )
    assert len(texts) == client.stats().opened == 16
    assert loaded == ["load_verify_locations"]


def test_the_systems_own_store_is_used_when_asked_for(
    bench: Bench, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ca_bundle="system" the CAs are those of the system, which SSL_CERT_FILE names here."""
    pytest.importorskip("truststore")
    if os.name == "nt" or not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("the store of this system is no file")
    monkeypatch.setenv("SSL_CERT_FILE", authority.bundle)
    client = bench.client(ca_bundle="system")
    bench.chat(tls_server(bench, authority.context()).tls_url, 5, client).must_be("reply")
    for context in (Authority(bench).context(), authority.context("127.0.0.2")):
        seen = bench.chat(tls_server(bench, context).tls_url, 5, client).must_be("tls")
        assert isinstance(seen.error, termai_http.TLSError)
        assert seen.error.attempts == 1


def test_the_systems_own_store_keeps_the_deadline(
    bench: Bench, authority: Authority, origin: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow handshake ends in time there too, also beside others, and within TLS."""
    pytest.importorskip("truststore")
    monkeypatch.setenv("SSL_CERT_FILE", authority.bundle)
    url = bench.serve(trickle_handshake).tls_url
    client = bench.client(ca_bundle="system")
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(bench.chat, url, 0.5, client) for _ in range(4)]
    for call in calls:
        seen = call.result().must_keep_the_deadline()
        must_have_timed_out(seen, termai_http.DeadlineExceeded)
    begun = threading.Event()
    must_cancel(bench, bench.serve(watch(trickle_handshake, begun)).tls_url, begun, client)
    slow = SecureProxy(bench, authority.context(), origin.port, interval=0.05)
    client = bench.client(ca_bundle="system", proxies={"https": slow.url})
    seen = bench.chat(PROXIED, 0.5, client).must_keep_the_deadline()
    must_have_timed_out(seen, termai_http.DeadlineExceeded)


def test_a_server_may_ask_for_a_client_certificate(
    bench: Bench, authority: Authority, tmp_path: Path
) -> None:
    """It is given the configured one, as a pair or one file; without it the call is a TLSError."""
    clients = trustme.CA()
    own = clients.issue_cert("client.example")
    cert, key, both = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "both.pem"
    own.cert_chain_pems[0].write_to_path(str(cert))
    own.private_key_pem.write_to_path(str(key))
    own.private_key_and_cert_chain_pem.write_to_path(str(both))
    context = authority.context()
    context.verify_mode = ssl.CERT_REQUIRED
    clients.configure_trust(context)
    url = tls_server(bench, context).tls_url
    for given in ((str(cert), str(key)), str(both)):
        client = bench.client(ca_bundle=authority.bundle, client_cert=given)
        bench.chat(url, 5, client).must_be("reply")
    seen = bench.chat(url, 5, bench.client(ca_bundle=authority.bundle)).must_be("tls")
    assert isinstance(seen.error, termai_http.TLSError)
    assert seen.error.attempts == 1


@pytest.mark.parametrize("way", ["plain", "tls", "proxy", "https proxy"])
def test_a_live_connection_notices_a_dead_path(
    bench: Bench, authority: Authority, origin: Server, way: str
) -> None:
    """Its socket sends keep-alive probes, and gives unacknowledged data up, where it can."""
    settings: dict[str, Any] = {"ca_bundle": authority.bundle}
    url = PROXIED
    if way == "plain":
        url = bench.answering(good_reply()).url
    elif way == "tls":
        url = tls_server(bench, authority.context()).tls_url
    elif way == "proxy":
        tunnel = authority.context("model.example")

        def establish(peer: Peer) -> None:
            peer.read_request()
            peer.send(ESTABLISHED)
            secure(peer, tunnel)
            peer.read_request()
            peer.send(good_reply())
            peer.wait()

        settings["proxies"] = {"https": bench.serve(establish).url}
    else:
        proxy = SecureProxy(bench, authority.context(), origin.port)
        settings["proxies"] = {"https": proxy.url}
    client = bench.client(**settings)
    bench.chat(url, 5, client).must_be("reply")
    (found,) = idle_sockets(client)
    sock = getattr(found, "socket", found)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for name, value in (
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPINTVL", 60),
        ("TCP_KEEPCNT", 5),
        ("TCP_USER_TIMEOUT", 30_000),
    ):
        if hasattr(socket, name):
            assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value, name


@pytest.mark.parametrize("way", ["tls", "https proxy", "system"])
def test_no_session_key_is_written_to_a_file(
    bench: Bench,
    authority: Authority,
    origin: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    way: str,
) -> None:
    """SSLKEYLOGFILE is not honoured: who reads that file could read keys and prompts."""
    keys = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    settings: dict[str, Any] = {"ca_bundle": authority.bundle}
    url = PROXIED
    if way == "https proxy":
        proxy = SecureProxy(bench, authority.context(), origin.port)
        settings["proxies"] = {"https": proxy.url}
    else:
        url = tls_server(bench, authority.context()).tls_url
    if way == "system":
        pytest.importorskip("truststore")
        monkeypatch.setenv("SSL_CERT_FILE", authority.bundle)
        settings["ca_bundle"] = "system"
    bench.chat(url, 5, bench.client(**settings)).must_be("reply")
    lines = keys.read_text().splitlines() if keys.exists() else []
    assert all(line.startswith("#") for line in lines if line)


@pytest.mark.parametrize("bundle", ["file", "certifi", "system"])
def test_tls_is_1_2_at_least(authority: Authority, bundle: str) -> None:
    """Whatever CAs are trusted, no older version is offered, and all is verified."""
    if bundle == "system":
        pytest.importorskip("truststore")
    given = {"file": authority.bundle, "certifi": None, "system": "system"}[bundle]
    context = make_context(given, None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_tls_1_2_is_spoken(bench: Bench, authority: Authority) -> None:
    """A server that knows nothing newer is called all the same."""
    context = authority.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = bench.client(ca_bundle=authority.bundle)
    bench.chat(tls_server(bench, context).tls_url, 5, client).must_be("reply")
    (sock,) = idle_sockets(client)
    assert sock.version() == "TLSv1.2"


def test_sending_keeps_the_deadline_over_tls(bench: Bench, authority: Authority) -> None:
    """A server that reads a long request slowly cannot hold the call past its deadline."""
    context = authority.context()

    def sip(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        secure(peer, context)
        while peer.sock.recv(4096):
            peer.wait(0.02)

    client = bench.client(ca_bundle=authority.bundle)
    url = bench.serve(sip).tls_url
    seen = bench.chat(url, 0.5, client, prompt="long " * 800_000).must_keep_the_deadline()
    assert isinstance(seen.error, termai_http.DeadlineExceeded)
    assert seen.error.phase == "send"
    assert seen.error.maybe_billed


def test_a_closed_proxy_port_is_a_proxy_error(bench: Bench) -> None:
    """So is one over TLS."""
    client = bench.client(proxies={"https": f"https://127.0.0.1:{closed_port()}"})
    seen = bench.chat(PROXIED, 5, client).must_be("proxy")
    assert "refused" in str(seen.error)
