"""The doctor: real servers, certificates and proxies, each with the fault that it has to find."""

from __future__ import annotations

import datetime as dt
import json
import re
import select
import socket
import ssl
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
import trustme

from termai_http import HttpClientConfig
from termai_http._call import Clock
from termai_http._doctor import Check, all_is_well, as_fields, examine
from termai_http._doctor_certificate import read_certificate
from termai_http._doctor_setup import bare_url, version_checks
from termai_http.cli import main
from termai_http.cli._doctor import rendered
from termai_http.errors import ConfigurationError
from termai_http.testing import CloseDelimited, Html, Server, Silent, Status
from tests.faults.harness import Peer, RawServer, closed_port

NOW = dt.datetime.now(dt.timezone.utc)
PATIENCE = 20.0
# Of no digits: a port may have four of a row.
KEY = "sk-canary-qxvwzjkhqpwxvjzk"
PASSWORD = "proxy-canary-0123456789"
HOST = "model.example"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Report:
    """The checks of one examination, by name, those of the settings and of the one endpoint."""

    def __init__(self, **options: Any) -> None:
        self.checks = list(examine(**{"timeout": PATIENCE, **options}))
        self._by_name = {check.name: check for check in self.checks}
        assert len(self._by_name) == len(self.checks), "one endpoint only, please"

    def __getitem__(self, name: str) -> Check:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @property
    def states(self) -> dict[str, str]:
        """State by name, without versions and settings."""
        endpoint = [check for check in self.checks if "http" in check.part]
        return {check.name: check.state for check in endpoint}

    @property
    def failed(self) -> list[str]:
        """The names of what failed."""
        return [check.name for check in self.checks if check.state == "fail"]


@pytest.fixture(autouse=True)
def whatever_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no variable of the whole run be one that the doctor tells of."""
    monkeypatch.delenv("TERMAI_HTTP_DIRECT", raising=False)


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[Peer], None]], RawServer]]:
    """Make servers of a handler's own, closed after the test."""
    made: list[RawServer] = []

    def serve(handler: Callable[[Peer], None]) -> RawServer:
        made.append(RawServer(handler))
        return made[-1]

    yield serve
    for server in made:
        server.close()


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set both vendors' keys."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


@pytest.fixture
def secure(context: ssl.SSLContext) -> Iterator[Server]:
    """A TLS server."""
    with Server(tls=context) as running:
        yield running


def context_for(authority: trustme.CA, *names: str, **fields: Any) -> ssl.SSLContext:
    """Return what a server with a certificate for these names makes TLS with."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **fields).configure_cert(made)
    return made


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("provider", ["openai", "claude"])
def test_all_is_well(secure: Server, bundle: str, provider: str) -> None:
    """With a good server each step is ok, has its time, and the second call reuses the first's."""
    report = Report(
        provider=provider, base_url=secure.url, config=HttpClientConfig(ca_bundle=bundle)
    )
    steps = ["key", "DNS", "TCP", "TLS", "call", "reuse", "path"]
    assert report.states == dict.fromkeys(steps, "ok")
    assert all_is_well(report.checks)
    assert all((report[name].seconds or 0) > 0 for name in ("DNS", "TCP", "TLS", "call", "reuse"))
    assert "127.0.0.1" in report["DNS"].what
    assert "TLSv1.3, TLS_AES" in report["TLS"].what
    assert "by trustme" in report["TLS"].what
    for part in ("200, ", "DNS ", "TCP ", "TLS ", "answer "):
        assert part in report["call"].what
    assert "used the first's connection" in report["reuse"].what
    calls = [request.connection for request in secure.requests if request.path == "/v1/models"]
    assert len(calls) == 2
    assert len(set(calls)) == 1


def test_without_a_key_the_way_is_tried(server: Server) -> None:
    """No key is a warning, the refusal of the server is what has to come, and nothing fails."""
    server.fail_when(lambda request: Status(401))
    report = Report(base_url=server.openai_url)
    assert report.states["key"] == "warn"
    assert "Set OPENAI_API_KEY" in report["key"].advice
    assert report.states["call"] == "ok"
    assert "401, as it has to be without a key" in report["call"].what
    assert report.states["reuse"] == "ok"
    assert all_is_well(report.checks)


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("status", "state", "told", "advice"),
    [
        (401, "fail", "401, AuthenticationError", "OPENAI_API_KEY is wrong, revoked"),
        (403, "fail", "403, PermissionDeniedError", "its permissions"),
        (404, "fail", "404, NotFoundError", "Is /v1 missing"),
        (302, "fail", "302, UnexpectedRedirect", "leads elsewhere: check --base-url"),
        (429, "warn", "429, RateLimitError", "Slow down"),
        (500, "fail", "500, InternalServerError", "status.openai.com"),
        (529, "fail", "529, OverloadedError", "try again later"),
    ],
)
def test_what_the_server_answers(
    server: Server, status: int, state: str, told: str, advice: str
) -> None:
    """Each status is named, with what to do about it; the connection is looked at nevertheless."""
    server.fail_when(lambda request: Status(status))
    report = Report(base_url=server.openai_url)
    assert report.states["call"] == state
    assert told in report["call"].what
    assert advice in report["call"].advice
    assert report.states["reuse"] == "ok"
    assert len(server.requests) == 2


@pytest.mark.usefixtures("key")
def test_a_page_in_the_place_of_the_api(server: Server) -> None:
    """What a captive portal answers is no success, and is told as what it is."""
    server.fail_when(lambda request: Html())
    report = Report(base_url=server.openai_url)
    assert report.failed == ["call"]
    assert "200, but InvalidResponseError" in report["call"].what
    assert "login page" in report["call"].advice


@pytest.mark.usefixtures("key")
def test_a_server_that_closes_each_connection(server: Server) -> None:
    """Where the second call cannot reuse the first's connection, that is a warning."""
    server.fail_when(lambda request: CloseDelimited())
    report = Report(base_url=server.openai_url)
    assert report.states["reuse"] == "warn"
    assert "(1 opened, 0 reused)" in report["reuse"].what
    assert "every call pays for a new one" in report["reuse"].advice
    assert all_is_well(report.checks)


def test_a_server_that_is_silent(server: Server) -> None:
    """A call that nobody answers ends with the time given, and nothing more is tried."""
    server.fail_when(lambda request: Silent())
    report = Report(base_url=server.openai_url, timeout=0.4)
    assert report.failed == ["call"]
    assert "DeadlineExceeded" in report["call"].what
    assert "The server is silent" in report["call"].advice
    assert report.states["reuse"] == "skip"
    assert len(server.requests) == 1


def test_a_server_that_never_shakes_hands(
    raw: Callable[[Callable[[Peer], None]], RawServer],
) -> None:
    """A TLS handshake that nobody answers ends with the time given, and the call is not tried."""
    server = raw(lambda peer: peer.wait())
    report = Report(base_url=server.tls_url, timeout=0.4)
    assert report.failed == ["TLS"]
    assert "no answer in time" in report["TLS"].what
    assert "says nothing" in report["TLS"].advice
    assert (report.states["call"], report.states["reuse"]) == ("skip", "skip")


def test_a_certificate_of_an_unknown_ca(secure: Server) -> None:
    """The issuer of what was refused is named, and both ways to trust it; nothing is sent."""
    report = Report(base_url=secure.url)
    assert report.failed == ["TLS"]
    assert "unable to get local issuer certificate" in report["TLS"].what
    assert "by trustme" in report["TLS"].what
    assert "into REQUESTS_CA_BUNDLE" in report["TLS"].advice
    assert "TERMAI_HTTP_CA_BUNDLE=system" in report["TLS"].advice
    assert "If you trust trustme" in report["TLS"].advice
    assert report["call"].what == "not tried: TLS failed"
    assert secure.requests == []


@pytest.mark.parametrize(
    ("names", "fields", "told", "advice"),
    [
        (
            ["127.0.0.1"],
            {"not_before": NOW - dt.timedelta(9), "not_after": NOW - dt.timedelta(2)},
            "certificate has expired",
            "this machine's clock",
        ),
        (
            ["127.0.0.1"],
            {"not_before": NOW + dt.timedelta(2), "not_after": NOW + dt.timedelta(9)},
            "certificate is not yet valid",
            "this machine's clock",
        ),
        (["other.example"], {}, "certificate is not valid for '127.0.0.1'", "another host's"),
    ],
    ids=["expired", "not yet", "another host"],
)
def test_a_certificate_that_is_refused(
    authority: trustme.CA,
    bundle: str,
    names: list[str],
    fields: dict[str, Any],
    told: str,
    advice: str,
) -> None:
    """What is wrong with a certificate of a CA that is trusted is told, with its own date."""
    with Server(tls=context_for(authority, *names, **fields)) as server:
        report = Report(base_url=server.url, config=HttpClientConfig(ca_bundle=bundle))
    assert report.failed == ["TLS"]
    assert told in report["TLS"].what
    assert advice in report["TLS"].advice
    if fields:
        assert f"valid to {fields['not_after']:%Y-%m-%d}" in report["TLS"].what


def test_a_certificate_that_ends_soon(authority: trustme.CA, bundle: str) -> None:
    """One that ends within two weeks works, and is a warning."""
    fields = {"not_before": NOW - dt.timedelta(80), "not_after": NOW + dt.timedelta(9)}
    with Server(tls=context_for(authority, "127.0.0.1", **fields)) as server:
        report = Report(base_url=server.url, config=HttpClientConfig(ca_bundle=bundle))
    assert report.states["TLS"] == "warn"
    assert "renew it" in report["TLS"].advice
    assert report.states["call"] == "ok"


def test_a_port_that_speaks_no_tls(server: Server) -> None:
    """A plain port asked by https is told as that, long before the time is over."""
    report = Report(base_url=server.url.replace("http:", "https:"))
    assert report.failed == ["TLS"]
    assert report["TLS"].what.endswith("it answers in plain HTTP")
    assert f"127.0.0.1:{server.port} speaks no TLS" in report["TLS"].advice
    assert (report["TLS"].seconds or PATIENCE) < PATIENCE / 2
    assert [request.method for request in server.requests] == ["HEAD"]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 plain HTTP to an HTTPS port\r\n\r\n"])
def test_a_handshake_that_is_slow(
    raw: Callable[[Callable[[Peer], None]], RawServer],
    authority: trustme.CA,
    bundle: str,
    answer: bytes,
) -> None:
    """A TLS server that is slow is waited for, even where it answers plain HTTP as nginx does."""
    context = context_for(authority, "127.0.0.1")
    looked, said = threading.Event(), threading.Event()

    def handle(peer: Peer) -> None:
        if peer.sock.recv(1, socket.MSG_PEEK) == b"H":
            looked.set()
            assert said.wait(PATIENCE)
            peer.send(answer)
            return
        assert looked.wait(PATIENCE)
        taken, given = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(taken, given, server_side=True)
        taken.write(peer.sock.recv(65536))
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        peer.send(given.read())
        said.set()
        taken.write(peer.sock.recv(65536))
        tls.do_handshake()

    config = HttpClientConfig(ca_bundle=bundle)
    checks = examine(base_url=raw(handle).tls_url, config=config, timeout=PATIENCE)
    tls = next(check for check in checks if check.name == "TLS")
    assert (tls.state, tls.what[:7]) == ("ok", "TLSv1.3")
    checks.close()  # type: ignore[attr-defined]


def test_a_handshake_that_is_broken_off(
    raw: Callable[[Callable[[Peer], None]], RawServer],
) -> None:
    """A peer that goes away in the handshake is told as that."""

    def handle(peer: Peer) -> None:
        peer.sock.recv(1)
        peer.reset()

    report = Report(base_url=raw(handle).tls_url)
    assert report.failed == ["TLS"]
    assert "broke it off" in report["TLS"].advice


def test_a_server_that_wants_a_client_certificate(authority: trustme.CA, bundle: str) -> None:
    """With TLS 1.2 its refusal ends the handshake, and the setting for it is named."""
    context = context_for(authority, "127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    with Server(tls=context) as server:
        report = Report(base_url=server.url, config=HttpClientConfig(ca_bundle=bundle))
    assert report.failed == ["TLS"]
    assert "TERMAI_HTTP_CLIENT_CERT" in report["TLS"].advice


def test_a_port_that_nobody_listens_on() -> None:
    """A refused connection names the port, and the steps after it are skipped."""
    port = closed_port()
    report = Report(base_url=f"https://127.0.0.1:{port}/v1")
    assert report.failed == ["TCP"]
    assert f"Nothing listens on 127.0.0.1:{port}" in report["TCP"].advice
    assert {report.states[name] for name in ("TLS", "call", "reuse")} == {"skip"}


def test_a_name_that_nobody_knows() -> None:
    """An unknown host fails at its name, and the steps after it are skipped."""
    report = Report(base_url="https://no-such-host.invalid/v1")
    assert report.failed == ["DNS"]
    assert "no-such-host.invalid could not be resolved" in report["DNS"].what
    assert "Check the host in the base URL" in report["DNS"].advice
    assert {report.states[name] for name in ("TCP", "TLS", "call", "reuse")} == {"skip"}


def test_a_name_server_that_is_silent() -> None:
    """A look-up that never ends is left behind when the time is over."""
    answer = threading.Event()

    def look_up(*_: Any, **__: Any) -> Any:
        answer.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, "too late")

    with mock.patch.object(socket, "getaddrinfo", look_up):
        try:
            report = Report(base_url="https://model.example/v1", timeout=0.2)
        finally:
            answer.set()
            for thread in threading.enumerate():
                if thread.name == "termai-doctor-dns":
                    thread.join(PATIENCE)
    assert report.failed == ["DNS"]
    assert "no answer in time" in report["DNS"].what
    assert "name server does not answer" in report["DNS"].advice


@pytest.mark.parametrize("slow", [False, True])
def test_a_host_with_an_address_that_is_dead(server: Server, slow: bool) -> None:
    """Every address is tried: one that costs no time is told, one that does is a warning."""
    dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", closed_port()))
    good = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))
    # Each reading of the clock is half a second later than the one before.
    ticks = iter(range(1000))
    clock = Clock(monotonic=lambda: next(ticks) / 2) if slow else Clock()
    with mock.patch.object(socket, "getaddrinfo", return_value=[dead, good]):
        checks = examine(base_url=server.openai_url, timeout=60, clock=clock)
        tcp = next(check for check in checks if check.name == "TCP")
    assert tcp.state == ("warn" if slow else "ok")
    assert f"connected to 127.0.0.1:{server.port}" in tcp.what
    assert "refused" in tcp.what
    assert ("may lose time" in tcp.advice) is slow


class Proxy:
    """An HTTP proxy on loopback, whatever host it is asked for leads to one port.

    Attributes:
        heads: What it was asked, one each tunnel.
        url: With a login in it.
    """

    def __init__(
        self,
        raw: Callable[[Callable[[Peer], None]], RawServer],
        port: int,
        answer: bytes = ESTABLISHED,
    ) -> None:
        self._port, self._answer = port, answer
        self.heads: list[bytes] = []
        self._server = raw(self._handle)
        self.url = f"http://somebody:{PASSWORD}@127.0.0.1:{self._server.port}"

    def _handle(self, peer: Peer) -> None:
        head = peer.read_request()
        self.heads.append(head or b"")
        peer.send(self._answer)
        if self._answer != ESTABLISHED:
            return
        with socket.create_connection(("127.0.0.1", self._port)) as upstream:
            ends = {peer.sock: upstream, upstream: peer.sock}
            while not peer.ended.is_set():
                for ready in select.select(list(ends), [], [], PATIENCE)[0]:
                    if not (data := ready.recv(65536)):
                        return
                    ends[ready].sendall(data)


@pytest.mark.usefixtures("key")
def test_through_a_proxy(
    raw: Callable[[Callable[[Peer], None]], RawServer], authority: trustme.CA, bundle: str
) -> None:
    """The tunnel is a step of its own, the login goes to the proxy, and is shown nowhere."""
    with Server(tls=context_for(authority, HOST)) as server:
        proxy = Proxy(raw, server.port)
        config = HttpClientConfig(ca_bundle=bundle, proxies={"https": proxy.url})
        report = Report(base_url=f"https://{HOST}/v1", config=config)
    steps = ["key", "DNS", "TCP", "tunnel", "TLS", "call", "reuse", "path"]
    assert {name: report.states[name] for name in steps} == dict.fromkeys(steps, "ok")
    assert "127.0.0.1" in report["DNS"].what
    assert f"opened one to {HOST}:443" in report["tunnel"].what
    assert "tunnel " in report["call"].what
    assert len(proxy.heads) == 2
    assert all(b"Proxy-Authorization: Basic " in head for head in proxy.heads)
    shown = json.dumps([as_fields(check) for check in report.checks])
    assert "(with a login)" in shown
    assert PASSWORD not in shown
    assert "somebody" not in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "The proxy wants a login"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", f"have its owner allow {HOST}:443"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", f"The proxy cannot reach {HOST}:443"),
        (b"HTTP/1.1 200", "seems to be no HTTP proxy"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "seems to be no HTTP proxy"),
        (b"\0" * 70000, "seems to be no HTTP proxy"),
    ],
    ids=["407", "403", "502", "cut off", "ssh", "endless"],
)
def test_a_proxy_that_refuses(
    raw: Callable[[Callable[[Peer], None]], RawServer], answer: bytes, advice: str
) -> None:
    """What a proxy answers in the place of a tunnel is told, and nothing after it is tried."""
    proxy = Proxy(raw, closed_port(), answer)
    config = HttpClientConfig(proxies={"https": proxy.url})
    report = Report(base_url=f"https://{HOST}/v1", config=config)
    assert report.failed == ["tunnel"]
    assert advice in report["tunnel"].advice
    assert {report.states[name] for name in ("TLS", "call", "reuse")} == {"skip"}
    assert PASSWORD not in json.dumps([as_fields(check) for check in report.checks])


def test_a_proxy_that_is_silent(raw: Callable[[Callable[[Peer], None]], RawServer]) -> None:
    """A tunnel that never comes ends with the time given."""
    proxy = raw(lambda peer: peer.wait())
    config = HttpClientConfig(proxies={"https": proxy.url})
    report = Report(base_url=f"https://{HOST}/v1", config=config, timeout=0.3)
    assert report.failed == ["tunnel"]
    assert "no answer in time" in report["tunnel"].what
    assert "The proxy is silent" in report["tunnel"].advice


def test_a_proxy_that_is_not_there() -> None:
    """A proxy's refused port and unknown name are blamed on the proxy."""
    config = HttpClientConfig(proxies={"https": f"http://127.0.0.1:{closed_port()}"})
    report = Report(base_url=f"https://{HOST}/v1", config=config)
    assert report.failed == ["TCP"]
    assert "host and port in the configuration's proxies" in report["TCP"].advice
    config = HttpClientConfig(proxies={"https": "http://no-such-proxy.invalid:3128"})
    report = Report(base_url=f"https://{HOST}/v1", config=config)
    assert report.failed == ["DNS"]
    assert "the proxy's host" in report["DNS"].advice


def test_behind_a_proxy_that_opens_tls_the_issuer_is_told(
    raw: Callable[[Callable[[Peer], None]], RawServer], authority: trustme.CA
) -> None:
    """A company's own CA behind a proxy: whose it is is told, from the handshake that failed."""
    with Server(tls=context_for(authority, HOST)) as server:
        proxy = Proxy(raw, server.port)
        config = HttpClientConfig(proxies={"https": proxy.url})
        report = Report(base_url=f"https://{HOST}/v1", config=config)
    assert report.failed == ["TLS"]
    assert "by trustme" in report["TLS"].what
    assert "If you trust trustme" in report["TLS"].advice
    assert len(proxy.heads) == 1


@pytest.mark.parametrize("system", [False, True], ids=["own store", "the system's"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_issuer_of_what_is_refused(
    authority: trustme.CA, version: ssl.TLSVersion, system: bool
) -> None:
    """Either version of TLS, and either kind of store, shows the certificate that it refused."""
    context = context_for(authority, "127.0.0.1")
    context.minimum_version = context.maximum_version = version
    config = HttpClientConfig(ca_bundle="system" if system else None)
    with Server(tls=context) as server:
        report = Report(base_url=server.url, config=config)
    assert report.failed == ["TLS"]
    assert "by trustme" in report["TLS"].what
    assert ("operating system's store" in report["TLS"].advice) is system
    assert server.requests == []


def test_a_plain_port_behind_a_proxy(
    raw: Callable[[Callable[[Peer], None]], RawServer], server: Server
) -> None:
    """That a port speaks no TLS is found out through the tunnel, too."""
    proxy = Proxy(raw, server.port)
    config = HttpClientConfig(proxies={"https": proxy.url})
    report = Report(base_url=f"https://{HOST}/v1", config=config)
    assert report.failed == ["TLS"]
    assert f"{HOST}:443 speaks no TLS" in report["TLS"].advice
    assert all(b"CONNECT model.example:443" in head for head in proxy.heads)


@pytest.mark.parametrize(
    "variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "TERMAI_HTTP_PROXIES"]
)
def test_a_proxy_without_tls_that_was_set_as_one_with(
    monkeypatch: pytest.MonkeyPatch,
    raw: Callable[[Callable[[Peer], None]], RawServer],
    variable: str,
) -> None:
    """The commonest slip in a proxy's URL is told, and which setting it stands in."""

    def handle(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    proxy = raw(handle)
    monkeypatch.setenv(variable, f"https://somebody:{PASSWORD}@127.0.0.1:{proxy.port}")
    report = Report(base_url=f"https://{HOST}/v1")
    assert f"(with a login) ({variable})" in report["proxies"].what
    assert report.failed == ["proxy TLS"]
    advice = f"The proxy speaks no TLS: write http://127.0.0.1:{proxy.port} in {variable};"
    assert report["proxy TLS"].advice.startswith(advice)
    assert PASSWORD not in json.dumps([as_fields(check) for check in report.checks])


def test_a_proxy_with_tls_of_its_own(
    raw: Callable[[Callable[[Peer], None]], RawServer], authority: trustme.CA, bundle: str
) -> None:
    """TLS with the proxy is a step of its own; the tunnel within it is one, too."""
    context = context_for(authority, "127.0.0.1")

    def handle(peer: Peer) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        peer.read_request()
        peer.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    proxy = raw(handle)
    config = HttpClientConfig(ca_bundle=bundle, proxies={"https": proxy.tls_url})
    report = Report(base_url=f"https://{HOST}/v1", config=config)
    assert report.states["proxy TLS"] == "ok"
    assert report.failed == ["tunnel"]


def test_a_socks_proxy_is_seen_by_the_call(
    monkeypatch: pytest.MonkeyPatch, raw: Callable[[Callable[[Peer], None]], RawServer]
) -> None:
    """Behind a SOCKS proxy the steps end with its port, and the call says what came of it."""

    def handle(peer: Peer) -> None:
        peer.sock.recv(1)
        peer.reset()

    monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{raw(handle).port}")
    report = Report(base_url=f"https://{HOST}/v1")
    assert list(report.states) == ["key", "proxy", "DNS", "TCP", "call", "reuse", "path"]
    assert report.failed == ["call"]
    assert "ProxyError" in report["call"].what
    assert "does not answer: check ALL_PROXY" in report["call"].advice


@pytest.mark.parametrize(
    ("value", "state", "told"),
    [
        (KEY, "ok", "set (not shown)"),
        ("", "skip", "not set"),
        (f"{KEY} ", "fail", "at position"),
        (f"{KEY}\u00fc", "fail", "at position"),
        (f"'{KEY}'", "warn", "with quotes around it"),
    ],
)
def test_a_key_is_judged_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, server: Server, value: str, state: str, told: str
) -> None:
    """No four characters of a key stand anywhere in the report, good, broken or quoted."""
    monkeypatch.setenv("OPENAI_API_KEY", value)
    report = Report(base_url=server.openai_url)
    assert report["OPENAI_API_KEY"].state == state
    assert told in report["OPENAI_API_KEY"].what
    shown = json.dumps([as_fields(check) for check in report.checks])
    assert not any(KEY[at : at + 4] in shown for at in range(3, len(KEY) - 4))


def test_a_setting_that_is_wrong_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    """A variable that cannot be read fails with its name, and the way is tried all the same."""
    monkeypatch.setenv("TERMAI_HTTP_TIMEOUT", "soon")
    report = Report(base_url=server.openai_url)
    assert report.states["call"] == "ok"
    assert report.failed == ["TERMAI_HTTP_*"]
    assert "TERMAI_HTTP_TIMEOUT" in report["TERMAI_HTTP_*"].what


def test_settings_are_shown_without_what_may_be_secret(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    """Variables are shown with their values, those of proxies and certificates by name alone."""
    monkeypatch.setenv("TERMAI_HTTP_TIMEOUT", "33")
    monkeypatch.setenv("TERMAI_HTTP_PROXIES", f"http://u:{PASSWORD}@proxy.example:3128")
    report = Report(base_url=server.openai_url)
    assert report["TERMAI_HTTP_*"].what == "TERMAI_HTTP_PROXIES, TERMAI_HTTP_TIMEOUT=33"
    assert PASSWORD not in json.dumps([as_fields(check) for check in report.checks])


def test_a_variable_that_nothing_reads(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """It is a warning, with the name that is close, and without its value: that may be a key."""
    monkeypatch.setenv("TERMAI_HTTP_API_KEY", KEY)
    monkeypatch.setenv("TERMAI_HTTP_TIMOUT", "33")
    monkeypatch.setenv("TERMAI_HTTP_MODEL", "gpt-5.5")
    found = Report(base_url=server.openai_url)["TERMAI_HTTP_*"]
    assert found.state == "warn"
    assert found.what == (
        "TERMAI_HTTP_MODEL=gpt-5.5; read by nothing: TERMAI_HTTP_API_KEY, TERMAI_HTTP_TIMOUT"
    )
    assert "TERMAI_HTTP_TIMOUT (TERMAI_HTTP_TIMEOUT?)" in found.advice


def test_a_ca_bundle_that_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server
) -> None:
    """A missing file fails with its path, and no connection is tried with what is not there."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    report = Report(base_url=server.openai_url)
    assert report.failed == ["CA bundle"]
    assert "none.pem" in report["CA bundle"].what
    assert report.states == {"connection": "skip"}
    assert server.requests == []


def test_which_cas_are_trusted(
    monkeypatch: pytest.MonkeyPatch, server: Server, bundle: str
) -> None:
    """The bundle is named with the setting that it comes from, and a variable that is not read."""
    assert "certifi" in Report(base_url=server.openai_url)["CA bundle"].what
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    found = Report(base_url=server.openai_url)["CA bundle"]
    assert found.state == "warn"
    assert "set REQUESTS_CA_BUNDLE" in found.advice
    monkeypatch.setenv("CURL_CA_BUNDLE", bundle)
    found = Report(base_url=server.openai_url)["CA bundle"]
    assert (found.state, found.what) == ("ok", f"{bundle} (from CURL_CA_BUNDLE), 1 CAs")
    config = HttpClientConfig(ca_bundle="system")
    assert "truststore" in Report(base_url=server.openai_url, config=config)["CA bundle"].what


@pytest.mark.parametrize(
    ("proxies", "told"),
    [
        ({"https": "http://u:p#w@[::1"}, "is no URL like"),
        ({"https": "gopher://proxy.example"}, "is no URL like"),
    ],
)
def test_a_proxy_that_cannot_be_used(proxies: dict[str, str], told: str) -> None:
    """A proxy that is no URL is a failed setting, and shown by nothing of its own."""
    report = Report(base_url=f"https://{HOST}", config=HttpClientConfig(proxies=proxies))
    assert report.failed == ["proxies", "proxy"]
    assert told in report["proxies"].what
    assert told in report["proxy"].what
    assert proxies["https"] not in json.dumps([as_fields(check) for check in report.checks])


@pytest.mark.parametrize(
    ("base_url", "told"),
    [
        ("ftp://model.example", "must begin with https://"),
        (f"https://u:{PASSWORD}@model.example", "must not hold a user name"),
        ("http://model.example", "in the clear"),
        ("https://[", "no URL that can be read"),
    ],
)
def test_a_base_url_that_cannot_be_used(base_url: str, told: str) -> None:
    """It fails with the reason and no password, and no connection is tried."""
    report = Report(base_url=base_url)
    assert report.failed == ["base URL"]
    assert told in report["base URL"].what
    assert "--base-url" in report["base URL"].advice
    assert PASSWORD not in json.dumps([as_fields(check) for check in report.checks])


@pytest.mark.usefixtures("key")
def test_why_calls_go_the_ordinary_way(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """The path names the variable, or the tool that stands between the calls and the socket."""
    send = requests.Session.send

    def traced(*given: Any, **named: Any) -> Any:
        return send(*given, **named)

    with mock.patch.object(requests.Session, "send", traced):
        told = Report(base_url=server.openai_url)["path"].what
    assert told.startswith("through requests and urllib3: ")
    assert __name__.rpartition(".")[2] in told
    monkeypatch.setenv("TERMAI_HTTP_DIRECT", "0")
    told = Report(base_url=server.openai_url)["path"].what
    assert told == "through requests and urllib3: TERMAI_HTTP_DIRECT is 0"


def test_both_vendors_are_looked_at(termai_server: Server) -> None:
    """Without an argument the environment's base URLs are, each with a part of its own."""
    checks = list(examine(timeout=PATIENCE))
    parts = list(dict.fromkeys(check.part for check in checks))
    assert parts == [
        *("versions", "settings"),
        *(f"openai {termai_server.openai_url}", f"claude {termai_server.claude_url}"),
    ]
    assert all_is_well(checks)
    assert {request.headers.get("x-api-key") for request in termai_server.requests} == {
        *(None, "sk-ant-loopback"),
    }


def test_nothing_is_done_before_the_first_check(server: Server) -> None:
    """Arguments are checked at once; the server sees nothing until somebody asks."""
    for given in ({"provider": "mistral"}, {"timeout": 0.0}, {"timeout": float("nan")}):
        with pytest.raises(ConfigurationError, match=next(iter(given))):
            examine(**given)  # type: ignore[arg-type]
    examine(base_url=server.openai_url)
    assert server.requests == []


def test_a_reader_that_leaves_early_closes_all(server: Server) -> None:
    """Left after any check, no connection of the doctor's stays open."""
    for name in ("TCP", "call"):
        checks = examine(base_url=server.openai_url)
        assert next(check for check in checks if check.name == name).state == "ok"
        checks.close()  # type: ignore[attr-defined]
        end = time.monotonic() + PATIENCE
        while any(connection.open for connection in server.connections):
            assert time.monotonic() < end
            select.select([], [], [], 0.01)


def test_old_libraries_and_missing_ones_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library older than what is supported fails with the command that mends it."""
    from importlib import metadata

    version = metadata.version

    def told(name: str) -> str:
        if name == "backoff":
            raise metadata.PackageNotFoundError(name)
        return "1.26.20" if name == "urllib3" else version(name)

    monkeypatch.setattr(metadata, "version", told)
    found = {check.name: check for check in version_checks()}
    assert "1.26.20, older than" in found["urllib3"].what
    assert 'pip install --upgrade "urllib3>=' in found["urllib3"].advice
    assert found["backoff"].advice == "pip install backoff"
    assert found["requests"].state == "ok"


def test_a_failed_check_needs_an_advice() -> None:
    """A check cannot be made without what to do, nor with a state that is none."""
    with pytest.raises(ValueError, match="advice must not be empty"):
        Check(part="x", name="y", state="fail", what="z")
    with pytest.raises(ValueError, match="state must be one of"):
        Check(part="x", name="y", state="good", what="z")


def test_a_certificate_is_read_or_is_none(authority: trustme.CA) -> None:
    """A whole certificate gives its fields; cut anywhere, or changed, it does no harm."""
    der = ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())
    found = read_certificate(der)
    assert found is not None
    assert found.issuer.startswith("trustme")
    assert found.begins < NOW < found.ends
    assert read_certificate(None) is None
    assert not any(read_certificate(der[:at]) for at in range(len(der)))
    for at in range(len(der)):
        read_certificate(der[:at] + bytes([der[at] ^ 0xFF]) + der[at + 1 :])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host.example:8443/v1?key=1#x", "https://host.example:8443/v1"),
        ("https://[::1]:8443/v1", "https://[::1]:8443/v1"),
        ("https://host:99999", "a URL that cannot be read"),
        ("sk-canary", "no URL with http:// or https://"),
    ],
)
def test_a_url_is_shown_bare(url: str, shown: str) -> None:
    """Login, query and fragment are left out, and what is no URL is not shown at all."""
    assert bare_url(url) == shown


@pytest.mark.usefixtures("key")
def test_the_command_shows_each_check(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """A heading for each part, a line for each check, a sum at the end, exit 0, and no key."""
    assert main(["doctor", "--provider", "claude", "--base-url", server.claude_url]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        *("versions", "settings", f"claude {server.claude_url}", "All is well."),
    ]
    assert "  ok   key                   from ANTHROPIC_API_KEY" in lines
    assert any(line.startswith("  ok   reuse                 the second call") for line in lines)
    assert KEY not in told.out + told.err
    assert "\x1b" not in told.out
    assert told.err == ""


def test_the_command_tells_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """What failed is counted and has its arrow, and the exit code is 1."""
    port = closed_port()
    assert main(["doctor", "--base-url", f"http://127.0.0.1:{port}/v1"]) == 1
    told = capsys.readouterr().out
    assert "  fail TCP                   no connection to" in told
    assert f"       -> Nothing listens on 127.0.0.1:{port}: " in told
    assert told.endswith("1 failed, 1 to look at; what to do stands behind each arrow.\n")


@pytest.mark.usefixtures("key")
def test_the_command_as_json(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """One object with all checks and whether all is well, and the same exit codes."""
    server.fail_when(lambda request: Status(403))
    assert main(["doctor", "--base-url", server.openai_url, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    failed = [check for check in found["checks"] if check["state"] == "fail"]
    assert [check["name"] for check in failed] == ["call"]
    assert set(failed[0]) == {"part", "name", "state", "what", "advice", "seconds"}
    assert KEY not in json.dumps(found)


def test_the_command_with_a_time_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """A timeout of 0 is a wrong usage, told on stderr."""
    assert main(["doctor", "--timeout", "0"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err[:27]) == ("", "termai-http: timeout must b")


@pytest.mark.parametrize("colored", [False, True])
def test_a_check_on_a_terminal(colored: bool) -> None:
    """Lines keep to the width, an address is never cut, and nothing steers the terminal."""
    where = "https://a-host-with-a-name.example/that/is/longer/than/a/line/of/the/terminal"
    what = f"first {where} \x1b[2Jlast words of a server"
    check = Check(part="x", name="call", state="fail", what=what, advice="Do it. " * 20)
    lines = list(rendered(check, 70, colored=colored))
    assert ("\x1b[1;31mfail\x1b[0m" in lines[0]) is colored
    shown = [line.replace("\x1b[1;31m", "").replace("\x1b[0m", "") for line in lines]
    assert not any("\x1b" in line for line in shown)
    assert any(line.strip() == where for line in shown)
    assert all(len(line) <= 70 for line in shown if where not in line)
    assert sum(line.lstrip().startswith("->") for line in shown) == 1


@pytest.mark.usefixtures("key")
def test_the_page_shows_what_the_command_prints(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample on the page is this version's, but for numbers and what a machine has."""

    def rows(text: str) -> list[str]:
        return [name.strip() for name in re.findall(r"^  (?:ok  |warn|skip) (.{22})", text, re.M)]

    def of_the_endpoint(text: str) -> str:
        text = re.sub(r"\d[\w.]*", "0", text.partition("openai http")[2])
        return " ".join(text.split())

    monkeypatch.setenv("COLUMNS", "80")
    assert main(["doctor", "--base-url", server.openai_url]) == 0
    printed = capsys.readouterr().out
    page = (Path(__file__).parents[2] / "docs" / "cli.rst").read_text("utf-8")
    sample = page.partition("$ OPENAI_API_KEY=x termai-http doctor")[2].partition("\n\n``ok``")[0]
    sample = textwrap.dedent(sample.partition("\n")[2])
    assert rows(sample) == rows(printed)
    assert len(rows(sample)) == 20
    assert of_the_endpoint(sample) == of_the_endpoint(printed)
