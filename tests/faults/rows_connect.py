"""Faults of connecting and TLS (F01 to F15)."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import termai_http

from . import drivers
from .connecting import (
    ESTABLISHED,
    Authority,
    blackhole_port,
    must_cancel,
    must_have_timed_out,
    read_hello,
    resolve,
    secure,
    tls_server,
    trickle_handshake,
    watch,
)
from .harness import (
    KEY,
    OVERRUN,
    PROMPT,
    Bench,
    Peer,
    RawServer,
    closed_port,
    good_body,
    good_reply,
    row,
)

_PASSWORD = "pw-canary-9876543210-zyxwvut"
_PROXIED = "https://model.example"
_ALERT_PROTOCOL_VERSION = bytes.fromhex("15 0301 0002 02 46")
# Version 3.2, the random, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
_TLS11_HELLO = (
    bytes.fromhex("16 0302 002a 02 000026 0302") + bytes(32) + bytes.fromhex("00 002f 00")
)


@row(
    "F01",
    fault="the connection is refused",
    promise="tried again after a jittered wait, since nothing was sent; then APIConnectionError",
)
def refused(bench: Bench) -> None:
    """Call a port that nobody listens on."""
    seen = bench.chat(f"http://127.0.0.1:{closed_port()}", timeout=5)
    seen.must_be("connection")
    if bench.ours:
        assert isinstance(seen.error, termai_http.APIConnectionError)
        assert seen.error.attempts == 3
        assert not seen.error.maybe_billed


@row(
    "F02",
    fault="the server neither accepts nor refuses the connection",
    promise="ends by connect_timeout (ConnectTimeout, tried again) or by the deadline, whichever "
    "comes first; cancel() ends it at once",
    linux=True,
)
def blackhole(bench: Bench) -> None:
    """Call a port whose queue is full."""
    port = blackhole_port(bench)
    url = f"http://127.0.0.1:{port}"
    seen = bench.chat(url, timeout=0.4).must_be("timeout").must_keep_the_deadline()
    if not bench.ours:
        return
    must_have_timed_out(seen, termai_http.DeadlineExceeded)
    hasty = bench.client(connect_timeout=0.1)
    must_have_timed_out(bench.chat(url, 5, hasty), termai_http.ConnectTimeout, attempts=3)
    begun = threading.Event()

    def look_up() -> list[int]:
        begun.set()
        return [port]

    resolve(bench, "localhost", look_up)
    must_cancel(bench, "http://localhost", begun, bench.client())


@row(
    "F03",
    fault="a name with four addresses, all of them dead",
    promise="all addresses share one connect_timeout and the deadline; one that refuses is "
    "passed over for the next",
    linux=True,
)
def dead_addresses(bench: Bench) -> None:
    """Call a name whose addresses do not answer, and one whose last address does."""
    addresses = [blackhole_port(bench) for _ in range(4)]
    looked_up = resolve(bench, "localhost", lambda: addresses)
    alive = bench.answering(good_reply())
    url = "http://localhost"
    seen = bench.chat(url, timeout=0.4).must_be("timeout").must_keep_the_deadline()
    if bench.ours:
        must_have_timed_out(seen, termai_http.DeadlineExceeded)
        assert len(looked_up) == 1
        hasty = bench.client(connect_timeout=0.2, retries=0)
        seen = bench.chat(url, 5, hasty)
        must_have_timed_out(seen, termai_http.ConnectTimeout)
        bench.must(seen.seconds - seen.late < 0.2 + OVERRUN, f"it took {seen.seconds:.1f} s")
    addresses[:] = [closed_port(), closed_port(), closed_port(), alive.port]
    bench.chat(url, timeout=5).must_be("reply")
    bench.must(len(alive.requests) == 1, f"{len(alive.requests)} requests came")


@row(
    "F04",
    fault="the name does not exist",
    promise="DNSError, tried again, since the resolver may only be unwell",
)
def unknown_name(bench: Bench) -> None:
    """Call a name that the resolver does not know."""

    def unknown() -> list[int]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    looked_up = resolve(bench, "model.invalid", unknown)
    seen = bench.chat("https://model.invalid", timeout=5)
    seen.must_be("dns", "connection")
    if bench.ours:
        assert type(seen.error) is termai_http.DNSError
        assert "model.invalid" in str(seen.error)
        assert seen.error.attempts == len(looked_up) == 3
        assert not seen.error.maybe_billed


@row(
    "F05",
    fault="the resolver hangs",
    promise="the one thing that cannot be interrupted: the deadline is checked right after it, "
    "nothing is sent, and it is not asked again",
)
def hanging_resolver(bench: Bench) -> None:
    """Call a name whose look-up outlasts the deadline, and then succeeds or fails."""
    server = bench.answering(good_reply())
    outcome: list[int] | None = [server.port]

    def late() -> list[int]:
        # The fault itself: the resolver sleeps, and takes no timeout.
        time.sleep(0.4)
        if outcome is None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return outcome

    looked_up = resolve(bench, "localhost", late)
    seen = bench.chat("http://localhost", timeout=0.3)
    seen.must_be("timeout").must_keep_the_deadline()
    bench.must(server.connections == 0, "connected after the deadline")
    bench.must(len(looked_up) == 1, f"{len(looked_up)} look-ups")
    if bench.ours:
        must_have_timed_out(seen, termai_http.DeadlineExceeded)
    outcome = None
    looked_up.clear()
    seen = bench.chat("http://localhost", timeout=0.3)
    seen.must_be("timeout", "dns", "connection").must_keep_the_deadline()
    bench.must(len(looked_up) == 1, f"{len(looked_up)} look-ups")


@row(
    "F06",
    fault="a base URL that is none: a label of more than 63 characters, a bad port, no host",
    promise="ConfigurationError before anything is looked up or sent",
)
def bad_url(bench: Bench) -> None:
    """Call what cannot be called."""
    client = bench.client()
    looked_up = resolve(bench, "a" * 64 + ".example", lambda: [closed_port()])
    for url in (
        f"https://{'a' * 64}.example",
        "https://model.example:99999",
        "https://model.example:port",
        "https://[::1",
        "https://",
        "https://mo del.example",
        "ftp://127.0.0.1",
        "model.example",
    ):
        seen = bench.chat(url, 5, client).must_be("refused")
        if bench.ours:
            assert type(seen.error) is termai_http.ConfigurationError, url
            assert seen.error.attempts == 0
    bench.must(not looked_up, "the name was looked up")


@row(
    "F07",
    fault="the certificate is for another host, expired, or of an unknown CA",
    promise="TLSError that says which, after one handshake: never tried again",
)
def bad_certificate(bench: Bench) -> None:
    """Call servers whose certificates must not be trusted."""
    authority, stranger = Authority(bench), Authority(bench)
    yesterday = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1)
    contexts = {
        "mismatch": authority.context("127.0.0.2"),
        "expired": authority.context(not_after=yesterday),
        "unable to get local issuer certificate": stranger.context(),
    }
    client = bench.client(ca_bundle=authority.bundle)
    for reason, context in contexts.items():
        server = tls_server(bench, context)
        seen = bench.chat(server.tls_url, 5, client).must_be("tls", "connection")
        bench.must(server.connections == 1, f"{server.connections} handshakes")
        if bench.ours:
            assert type(seen.error) is termai_http.TLSError
            assert reason in str(seen.error)
            assert seen.error.attempts == 1
            assert not seen.error.maybe_billed
    bench.chat(tls_server(bench, authority.context()).tls_url, 5, client).must_be("reply")


@row(
    "F08",
    fault="https:// to a port that speaks plain HTTP",
    promise="TLSError after one try, with a hint at plain HTTP",
    argument="A plain server that stays silent cannot be told from one whose handshake hangs: it "
    "ends as F11, by connect_timeout or the deadline.",
)
def plain_on_tls_port(bench: Bench) -> None:
    """Call a plain server that answers, and one that waits for more."""

    def complain(peer: Peer) -> None:
        read_hello(peer)
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        # Until the client closes: an early close could be a reset that eats the answer.
        peer.sock.recv(65536)

    talking = bench.serve(complain)
    seen = bench.chat(talking.tls_url, timeout=5).must_be("tls", "connection")
    bench.must(talking.connections == 1, f"{talking.connections} handshakes")
    if bench.ours:
        assert type(seen.error) is termai_http.TLSError
        assert "plain HTTP" in str(seen.error)
        assert seen.error.attempts == 1
    silent = bench.answering(good_reply())
    seen = bench.chat(silent.tls_url, timeout=0.3).must_be("timeout").must_keep_the_deadline()
    if bench.ours:
        must_have_timed_out(seen, termai_http.DeadlineExceeded)


@row(
    "F09",
    fault="http:// to a port that speaks TLS",
    promise="refused before anything is sent (ConfigurationError) where the host is not loopback "
    "and allow_http is off; else APIConnectionError or ProtocolError",
)
def tls_on_plain_port(bench: Bench) -> None:
    """Call a TLS server in the clear, under a foreign name and on loopback."""
    first: list[bytes] = []
    context = Authority(bench).context()

    def handle(peer: Peer) -> None:
        first.append(peer.sock.recv(65536, socket.MSG_PEEK))
        secure(peer, context)

    server = bench.serve(handle)
    looked_up = resolve(bench, "model.example", lambda: [server.port])
    seen = bench.chat("http://model.example", timeout=5)
    bench.must(not any(KEY.encode() in data for data in first), "the key went out in the clear")
    seen.must_be("refused")
    if bench.ours:
        assert type(seen.error) is termai_http.ConfigurationError
        assert "allow_http" in str(seen.error)
        assert not looked_up
        assert server.connections == 0
        seen = bench.chat(server.url, timeout=5).must_be("connection", "invalid")
        allowed = bench.client(allow_http=True)
        bench.chat("http://model.example", 5, allowed).must_be("connection", "invalid")


@row(
    "F10",
    fault="the connection is reset or closed during the TLS handshake",
    promise="tried again, since nothing was sent; then APIConnectionError",
)
def broken_handshake(bench: Bench) -> None:
    """Call servers that go away after the ClientHello, and one that does so twice."""

    def reset(peer: Peer) -> None:
        read_hello(peer)
        peer.reset()

    def close(peer: Peer) -> None:
        read_hello(peer)

    for handler in (reset, close):
        server = bench.serve(handler)
        seen = bench.chat(server.tls_url, timeout=5).must_be("connection", "tls")
        bench.must(server.connections == 3, f"{server.connections} handshakes")
        if bench.ours:
            assert type(seen.error) is termai_http.APIConnectionError
            assert seen.error.attempts == 3
            assert not seen.error.maybe_billed
    authority = Authority(bench)
    context = authority.context()

    def recover(peer: Peer) -> None:
        if peer.number <= 2:
            reset(peer)
            return
        secure(peer, context)
        while peer.read_request() is not None:
            peer.send(good_reply())

    client = bench.client(ca_bundle=authority.bundle)
    bench.chat(bench.serve(recover).tls_url, 5, client).must_be("reply")


@row(
    "F11",
    fault="the TLS handshake hangs, or trickles byte by byte",
    promise="ends by connect_timeout (ConnectTimeout, tried again) or by the deadline, whichever "
    "comes first; cancel() ends it at once",
)
def slow_handshake(bench: Bench) -> None:
    """Call a server that says nothing, and one whose first message never ends."""

    def hang(peer: Peer) -> None:
        read_hello(peer)
        peer.wait()

    for handler in (hang, trickle_handshake):
        url = bench.serve(handler).tls_url
        seen = bench.chat(url, timeout=0.3).must_be("timeout").must_keep_the_deadline()
        if not bench.ours:
            continue
        must_have_timed_out(seen, termai_http.DeadlineExceeded)
        hasty = bench.client(connect_timeout=0.1)
        must_have_timed_out(bench.chat(url, 5, hasty), termai_http.ConnectTimeout, attempts=3)
        begun = threading.Event()
        watched = bench.serve(watch(handler, begun))
        must_cancel(bench, watched.tls_url, begun, bench.client())


@row(
    "F12",
    fault="the server speaks no TLS newer than 1.1",
    promise="TLSError after one handshake",
)
def old_tls(bench: Bench) -> None:
    """Call a server that refuses our versions, and one that answers with TLS 1.1."""

    def answer(data: bytes) -> Callable[[Peer], None]:
        def handle(peer: Peer) -> None:
            read_hello(peer)
            peer.send(data)
            peer.sock.recv(65536)

        return handle

    for data in (_ALERT_PROTOCOL_VERSION, _TLS11_HELLO):
        server = bench.serve(answer(data))
        seen = bench.chat(server.tls_url, timeout=5).must_be("tls", "connection")
        bench.must(server.connections == 1, f"{server.connections} handshakes")
        if bench.ours:
            assert type(seen.error) is termai_http.TLSError
            assert seen.error.attempts == 1


@row(
    "F13",
    fault="a TLS connection cut without a goodbye, in an answer that has no length",
    promise="what came counts only where it is a whole JSON document; else TruncatedResponse",
)
def cut_without_goodbye(bench: Bench) -> None:
    """Read an answer that ends with the connection, cut short and whole."""
    authority = Authority(bench)
    client = bench.client(ca_bundle=authority.bundle)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    body = good_body()
    cut = tls_server(bench, authority.context(), head + body[:-20], abrupt=True)
    seen = bench.chat(cut.tls_url, 5, client).must_be("invalid")
    if bench.ours:
        assert type(seen.error) is termai_http.TruncatedResponse
        assert seen.error.maybe_billed
        assert seen.error.attempts == len(cut.requests) == 2
    whole = tls_server(bench, authority.context(), head + body, abrupt=True)
    bench.chat(whole.tls_url, 5, client).must_be("reply")


@row(
    "F14",
    fault="the process has no file descriptor left",
    promise="a warm connection goes on; a new one is ResourceError, not tried again; all works "
    "once there are descriptors again",
    linux=True,
)
def no_descriptors(bench: Bench) -> None:
    """Call from a process that may open no more files."""
    warm, cold = bench.answering(good_reply()), bench.answering(good_reply())
    command = "from tests.faults import rows_connect; rows_connect.starve()"
    run = subprocess.run(
        [sys.executable, "-c", command, type(bench.driver).__name__, warm.url, str(cold.port)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    bench.must(told["warm"]["kind"] == "reply", f"warm: {told['warm']['name']}")
    bench.must(told["recovered"]["kind"] == "reply", f"afterwards: {told['recovered']['name']}")
    for ending in ("cold", "named"):
        seen = told[ending]
        bench.must(seen["kind"] == "connection", f"{ending}: {seen['name']}")
        bench.must(not seen["shows"], "the key or prompt stands in the error")
        if bench.ours:
            assert (seen["name"], seen["attempts"]) == ("ResourceError", 1)
            assert told["active"] == 0
    bench.must(len(cold.requests) == 1, f"{len(cold.requests)} requests came to the cold server")


def starve() -> None:
    """Call in want of descriptors and print how it ended; runs in a process of its own."""
    import resource

    name, warm, port = sys.argv[1:]
    driver = getattr(drivers, name)()
    client = driver.open()
    told: dict[str, Any] = {"first": _tell(driver, client, warm)}
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    held: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    told["warm"] = _tell(driver, client, warm)
    told["cold"] = _tell(driver, client, f"http://127.0.0.1:{port}")
    told["named"] = _tell(driver, client, f"http://localhost:{port}")
    for number in held:
        os.close(number)
    told["recovered"] = _tell(driver, client, f"http://127.0.0.1:{port}")
    if driver.ours:
        told["active"] = client.stats().active_connections
    driver.close(client)
    sys.stdout.write(json.dumps(told))


def _tell(driver: Any, client: Any, url: str) -> dict[str, Any]:
    try:
        driver.chat(client, url, 10)
    except Exception as error:
        shown = f"{error!s} {error!r} {vars(error)!r}"
        return {
            "kind": driver.kind(error),
            "name": type(error).__name__,
            "attempts": getattr(error, "attempts", None),
            "shows": KEY in shown or PROMPT in shown,
        }
    return {"kind": "reply", "name": "reply"}


def _proxy(bench: Bench, port: int | None = None) -> dict[str, str]:
    """Return the setting for a proxy with a password, which must then be shown nowhere."""
    login = f"user:{_PASSWORD}"
    bench.hide(_PASSWORD, "proxy's password")
    bench.hide(base64.b64encode(login.encode()).decode(), "proxy's password (base64)")
    return {"https": f"http://{login}@127.0.0.1:{port or closed_port()}"}


def _proxy_server(bench: Bench, answer: Callable[[Peer], None]) -> RawServer:
    """Run a proxy that reads each CONNECT, records it, and does ``answer``."""

    def handle(peer: Peer) -> None:
        head = peer.read_request()
        if head is not None:
            server.requests.append(head)
            answer(peer)

    server = bench.serve(handle)
    return server


@row(
    "F15",
    fault="the proxy cannot be reached, refuses (407, 403), hangs or trickles",
    promise="ProxyError that names its status; a slow one ends by connect_timeout or the "
    "deadline, or at once by cancel(); its password is shown nowhere",
)
def bad_proxy(bench: Bench) -> None:
    """Call through a good proxy, and through bad ones."""
    _call_through_a_good_proxy(bench)
    seen = bench.chat(_PROXIED, 5, bench.client(proxies=_proxy(bench)))
    seen.must_be("proxy", "connection")
    if bench.ours:
        assert type(seen.error) is termai_http.ProxyError
        assert seen.error.attempts == 3
        assert not seen.error.maybe_billed
    for status in (b"407 Proxy Authentication Required", b"403 Forbidden"):
        answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
        server = _proxy_server(bench, lambda peer, answer=answer: peer.send(answer))  # type: ignore[misc]
        client = bench.client(proxies=_proxy(bench, server.port))
        seen = bench.chat(_PROXIED, 5, client).must_be("proxy", "connection")
        if bench.ours:
            assert type(seen.error) is termai_http.ProxyError
            assert seen.error.status_code == int(status[:3])
            assert status.decode() in str(seen.error)
            assert not seen.error.maybe_billed
    _call_through_slow_proxies(bench)
    if bench.ours:
        # requests can send no such password, and shows it where it fails to.
        proxies = {"https": f"http://user:{_PASSWORD}€@127.0.0.1:9"}
        seen = bench.chat(_PROXIED, 5, bench.client(proxies=proxies)).must_be("refused")
        assert type(seen.error) is termai_http.ConfigurationError


def _call_through_a_good_proxy(bench: Bench) -> None:
    authority = Authority(bench)
    context = authority.context("model.example")
    inside: list[bytes] = []

    def establish(peer: Peer) -> None:
        peer.send(ESTABLISHED)
        secure(peer, context)
        while (request := peer.read_request()) is not None:
            inside.append(request)
            peer.send(good_reply())

    server = _proxy_server(bench, establish)
    client = bench.client(proxies=_proxy(bench, server.port), ca_bundle=authority.bundle)
    bench.chat(_PROXIED, 5, client).must_be("reply")
    bench.chat(_PROXIED, 5, client).must_be("reply")
    connects = server.requests
    bench.must(len(connects) == 1, f"{len(connects)} tunnels for two calls")
    bench.must(connects[0].startswith(b"CONNECT model.example:443 "), "no CONNECT came")
    bench.must(b"proxy-authorization: basic" in connects[0].lower(), "no login came")
    bench.must(KEY.encode() not in connects[0], "the proxy was given the key")
    bench.must(
        not any(b"proxy-authorization" in request.lower() for request in inside),
        "the server was given the proxy's password",
    )


def _call_through_slow_proxies(bench: Bench) -> None:
    def hang(peer: Peer) -> None:
        peer.wait()

    def trickle(peer: Peer) -> None:
        peer.drip(ESTABLISHED[:-2] + b"X-Long: " + b"x" * 1000, 0.05)

    for answer in (hang, trickle):
        proxies = _proxy(bench, _proxy_server(bench, answer).port)
        client = bench.client(proxies=proxies)
        seen = bench.chat(_PROXIED, 0.3, client).must_be("timeout").must_keep_the_deadline()
        if not bench.ours:
            continue
        must_have_timed_out(seen, termai_http.DeadlineExceeded)
        hasty = bench.client(proxies=proxies, connect_timeout=0.1)
        seen = bench.chat(_PROXIED, 5, hasty)
        must_have_timed_out(seen, termai_http.ConnectTimeout, attempts=3)
        begun = threading.Event()
        watched = bench.serve(watch(answer, begun))
        client = bench.client(proxies=_proxy(bench, watched.port))
        must_cancel(bench, _PROXIED, begun, client)
