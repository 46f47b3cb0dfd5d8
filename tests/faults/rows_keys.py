"""Faults of keys and environment (F79 to F88)."""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import logging
import os
import pickle
import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import trustme

import termai_http

from .harness import (
    KEY,
    PROMPT,
    Bench,
    Peer,
    RawServer,
    Seen,
    closed_port,
    good_reply,
    row,
)

# Nobody has it, so no resolver is asked for it here.
NOWHERE = "api.invalid"
AUTHORIZATION = b"authorization: bearer " + KEY.encode()


def sent(server: RawServer) -> bytes:
    """Return all that a server read, in lower case."""
    return b"\n".join(server.requests).lower()


def environment(bench: Bench, **variables: str) -> None:
    """Set variables until the row ends, in both spellings where there are two."""
    both = {name.lower(): value for name, value in variables.items() if "PROXY" in name}
    bench.enter(mock.patch.dict(os.environ, {**variables, **both}))


def folder(bench: Bench) -> Path:
    """Make a folder that lasts until the row ends."""
    return Path(bench.enter(tempfile.TemporaryDirectory()))


def without_dns(bench: Bench, known: dict[str, str] | None = None) -> None:
    """Let no name but the given ones be resolved; addresses are."""
    real, names = socket.getaddrinfo, known or {}

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name.endswith(".invalid") and name not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(names.get(name, name), *args, **kwargs)

    bench.enter(mock.patch.object(socket, "getaddrinfo", look_up))


def proxy(bench: Bench) -> RawServer:
    """Run a proxy that notes what it is sent, and opens no tunnel."""
    return bench.answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", close=True)


@functools.cache
def authority() -> trustme.CA:
    """Make a CA that no system trusts."""
    return trustme.CA()


def tls_server(bench: Bench, handler: Callable[[Peer], None]) -> RawServer:
    """Run a raw server that speaks TLS with a certificate of ``authority()``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1").configure_cert(context)

    def handle(peer: Peer) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        handler(peer)

    return bench.serve(handle)


def answer_all(peer: Peer) -> None:
    """Answer every request of a connection."""
    while peer.read_request() is not None:
        peer.send(good_reply())


def own_bundle(bench: Bench) -> str:
    """Write the certificate of ``authority()`` to a file."""
    path = folder(bench) / "own-ca.pem"
    authority().cert_pem.write_to_path(str(path))
    return str(path)


def must_refuse(bench: Bench, server: RawServer, key: str) -> Seen:
    """Check that a key is refused before anything of it is sent."""
    seen = bench.chat(server.url, timeout=5, key=key)
    bench.must(not server.requests, "sent as it is")
    seen.must_be("refused")
    if bench.ours:
        assert isinstance(seen.error, termai_http.ConfigurationError)
        assert (seen.error.attempts, seen.error.provider) == (0, "openai")
        assert server.connections == 0
    return seen


@row(
    "F79",
    fault="the key ends in a line break, or holds a header line of its own",
    promise="one trailing line break is dropped, as a file has one; anything else is a "
    "ConfigurationError that does not show the key",
)
def key_with_line_breaks(bench: Bench) -> None:
    """Use a key as a file has it, and one that would smuggle a header in."""
    server = bench.answering(good_reply())
    for smuggled in (f"{KEY}\r\nX-Evil: 1", f"{KEY}\nX-Evil: 1", f"{KEY}\n\n", f"{KEY}\r"):
        seen = must_refuse(bench, server, smuggled)
        if bench.ours:
            assert f"position {len(KEY)}" in str(seen.error)
            assert "Evil" not in str(seen.error)
    for end in ("\n", "\r\n"):
        bench.chat(server.url, timeout=5, key=KEY + end).must_be("reply")
    assert [request.lower().count(AUTHORIZATION + b"\r\n") for request in server.requests] == [1, 1]


@row(
    "F80",
    fault="the key holds a NUL or a space, is too long, or is empty",
    promise="ConfigurationError before anything is sent; only printable ASCII is a key",
)
def key_with_invisible_characters(bench: Bench) -> None:
    """Use keys that no vendor made."""
    server = bench.answering(good_reply())
    for key in (KEY + "\0", KEY + " ", " " + KEY, f"{KEY}\t{KEY}", KEY * 400, "\x7f"):
        must_refuse(bench, server, key)
    for key in ("", "\n", "\r\n"):
        seen = must_refuse(bench, server, key)
        if bench.ours:
            assert isinstance(seen.error, termai_http.MissingKeyError)


@row(
    "F81",
    fault="the key holds a character that no header takes (a smart quote)",
    promise="ConfigurationError that names the position, never the key",
)
def key_outside_ascii(bench: Bench) -> None:
    """Use keys as a word processor or a wrong encoding leaves them."""
    server = bench.answering(good_reply())
    for stranger in ("\u2019", "\u00e9", "\u200b", "\ufeff", "\U0001f511", "\udc80"):
        seen = must_refuse(bench, server, f"{KEY}{stranger}{KEY}")
        if bench.ours:
            assert f"position {len(KEY)}" in str(seen.error)


@row(
    "F82",
    fault="a netrc file has an entry for the host",
    promise="never read: the key given is the one that goes out, also with trust_env",
    argument="trust_env is on by default, and takes proxies and CA bundle, never netrc.",
)
def netrc(bench: Bench) -> None:
    """Call a host that ~/.netrc, and the file that NETRC names, have a password for."""
    home = folder(bench)
    for name in (".netrc", "_netrc", "other-netrc"):
        entries = "machine 127.0.0.1 login me password of-netrc\ndefault login me password of-netrc"
        (home / name).write_text(entries)
        (home / name).chmod(0o600)
    environment(bench, HOME=str(home), USERPROFILE=str(home), NETRC=str(home / "other-netrc"))
    server = bench.answering(good_reply())
    client = bench.client(trust_env=True)
    bench.chat(server.url, timeout=5, client=client).must_be("reply")
    del os.environ["NETRC"]
    bench.chat(server.url, timeout=5, client=client).must_be("reply")
    bench.must(
        all(AUTHORIZATION in request.lower() for request in server.requests),
        "the password of netrc went out in the key's place",
    )
    if bench.ours:
        # A raw use of the session is not authenticated behind the user's back either.
        assert client.session.get(f"{server.url}/raw").ok
        assert b"authorization" not in server.requests[-1].lower()


@row(
    "F83",
    fault="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are set",
    promise="with trust_env a proxy carries https only, as a CONNECT tunnel that shows neither key "
    "nor prompt; loopback and NO_PROXY are reached directly; without it the variables are ignored",
    argument="Proxies come from the environment by default, once for each client.",
)
def proxies_of_the_environment(bench: Bench) -> None:
    """Name a proxy that notes all it sees, and call what it must and must not see."""
    server, spy = bench.answering(good_reply()), proxy(bench)
    without_dns(bench, known={"direct.invalid": "127.0.0.1"})
    named = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), spy.url)
    environment(bench, **named, NO_PROXY="direct.invalid")
    client = bench.client(trust_env=True, allow_http=True, retries=0)
    seen = bench.chat(server.url, timeout=5, client=client)
    bench.must(spy.connections == 0, "loopback went through the proxy, which saw key and prompt")
    seen.must_be("reply")
    direct = server.url.replace("127.0.0.1", "direct.invalid")
    seen = bench.chat(direct, timeout=5, client=client)
    bench.must(spy.connections == 0, "NO_PROXY went through the proxy")
    seen.must_be("reply")
    bench.chat(f"https://{NOWHERE}", timeout=5, client=client).must_be("proxy", "connection")
    bench.must(spy.requests, "the proxy was not used")
    lines = sent(spy)
    bench.must(lines.startswith(b"connect api.invalid:443 "), "no CONNECT went to the proxy")
    bench.must(KEY.encode() not in lines and b"canary" not in lines, "the proxy saw the key")
    if bench.ours:
        _check_what_ours_leaves_out(bench, spy)


def _check_what_ours_leaves_out(bench: Bench, spy: RawServer) -> None:
    seen = bench.seen[-1]
    assert isinstance(seen.error, termai_http.ProxyError)
    assert not seen.error.maybe_billed
    before = spy.connections
    ignoring = bench.client(trust_env=False, retries=0)
    assert isinstance(
        bench.chat(f"https://{NOWHERE}", timeout=5, client=ignoring).error, termai_http.DNSError
    )
    # In the clear, and through a proxy: refused like any http:// that leaves the machine.
    strict = bench.client(trust_env=True, retries=0)
    bench.chat(f"http://{NOWHERE}", timeout=5, client=strict).must_be("refused")
    assert spy.connections == before


@row(
    "F84",
    fault="REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names a bundle, or a file that is none",
    promise="with trust_env the bundle is used, read once for each client; ca_bundle= beats it; "
    "what cannot be loaded is a ConfigurationError when the client is made",
    argument="The CA bundle may come from the environment too.",
)
def ca_bundle_of_the_environment(bench: Bench) -> None:
    """Trust a server's own CA by a variable, and meet variables that name nothing."""
    server, bundle = tls_server(bench, answer_all), own_bundle(bench)
    environment(bench, REQUESTS_CA_BUNDLE=bundle)
    trusting = bench.client(trust_env=True)
    seen = bench.chat(server.tls_url, timeout=5, client=trusting)
    bench.must(seen.kind == "reply", "the variable is not read")
    environment(bench, REQUESTS_CA_BUNDLE="/nowhere/ca.pem")
    if bench.ours:
        _check_what_cannot_be_loaded(bench, server)
    explicit = bench.client(trust_env=True, ca_bundle=bundle)
    bench.chat(server.tls_url, timeout=5, client=explicit).must_be("reply")
    environment(bench, REQUESTS_CA_BUNDLE="", CURL_CA_BUNDLE="")
    seen = bench.chat(server.tls_url, timeout=5, client=bench.client(trust_env=True))
    bench.must(seen.kind != "reply", "a certificate of an unknown CA was taken")
    bench.chat(server.tls_url, timeout=5, client=trusting).must_be("reply")


def _check_what_cannot_be_loaded(bench: Bench, server: RawServer) -> None:
    empty = folder(bench) / "empty.pem"
    empty.write_text("")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        for path in ("/nowhere/ca.pem", str(empty)):
            variables = {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "", name: path}
            with mock.patch.dict(os.environ, variables):
                refused = _error_of(lambda: bench.client(trust_env=True))
                assert isinstance(refused, termai_http.ConfigurationError)
                assert path in str(refused)
                # And only there: who does not trust the environment does not look at it.
                ignoring = bench.client(trust_env=False)
                assert bench.chat(server.tls_url, timeout=5, client=ignoring).kind == "tls"


def _error_of(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@row(
    "F85",
    fault="an error, or the client, is pickled (Celery, multiprocessing)",
    promise="an error keeps its fields and holds no key, prompt or request; a client refuses",
)
def pickles(bench: Bench) -> None:
    """Pickle what a server's echo of the whole request left in an error."""

    def echo(peer: Peer, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        page = head.replace(b"\r\n", b" ") + body
        peer.send(b"HTTP/1.1 400 Bad\r\nX-Request-Id: req_1\r\nContent-Length: %d\r\n" % len(page))
        peer.send(b"\r\n" + page)

    client = bench.client()
    seen = bench.chat(bench.answering(echo).url, timeout=5, client=client).must_be("status")
    assert seen.error is not None
    again: Any = None
    # Whatever a class's own code raises there: that the error is lost is what counts.
    with contextlib.suppress(Exception):
        again = pickle.loads(pickle.dumps(seen.error))
    bench.must(type(again) is type(seen.error), "the error does not survive a pickle")
    if bench.ours:
        assert vars(again) == vars(seen.error)
        assert (again.status_code, again.request_id, again.attempts) == (400, "req_1", 1)
        for held in (client, client.session):
            assert isinstance(_error_of(lambda held=held: pickle.dumps(held)), TypeError)


@row(
    "F86",
    fault="a traceback is dumped with the locals of its frames (Sentry)",
    promise="our frames show neither key nor prompt, also where a hook's failure or a Ctrl-C "
    "passes through them",
)
def tracebacks_with_locals(bench: Bench) -> None:
    """Fail in every depth, and dump the frames."""
    server = bench.answering(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
    bench.chat(f"http://127.0.0.1:{closed_port()}", timeout=5).must_be("connection")
    bench.chat(server.url, timeout=5).must_be("status")
    if not bench.ours:
        return
    bench.chat(server.url, timeout=5, key=f"{KEY}\0{KEY}").must_be("refused")
    client = bench.client()
    for failure in (KeyboardInterrupt, SystemExit, RuntimeError, MemoryError):
        client.session.hooks["response"] = [mock.Mock(side_effect=failure)]
        for begin in (bench.driver.chat, _first_piece(bench)):
            error = _error_of(lambda begin=begin: begin(client, server.url, 5.0))
            assert isinstance(error, failure)
            bench.must_show_nothing(error)


def _first_piece(bench: Bench) -> Callable[[Any, str, float], str]:
    return lambda client, url, timeout: next(iter(bench.driver.stream(client, url, timeout)))


@row(
    "F87",
    fault="every logger is at DEBUG; http.client.debuglevel is 1",
    promise="no logger shows key or prompt; debuglevel prints both, is the program's own switch, "
    "and nothing here sets it",
    argument="What http.client prints goes to stdout past every logger; the documentation warns.",
)
def debug_logs(bench: Bench) -> None:
    """Log everything of a success, a retry, a refusal and a failure."""
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    logging.getLogger().addHandler(handler)
    bench.cleanup(logging.getLogger().removeHandler, handler)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.DEBUG)
    answers = iter([b"503 Busy", b"200 OK", b"401 No"])

    def answer(peer: Peer, request: bytes) -> None:
        status = next(answers)
        if status.startswith(b"200"):
            peer.send(good_reply())
        else:
            page = b'{"error": {"message": "Incorrect API key provided: %s"}}' % KEY.encode()
            peer.send(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(page), page))

    server = bench.answering(answer)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        bench.chat(server.url, timeout=5).must_be("reply")
        bench.chat(server.url, timeout=5).must_be("status")
        bench.chat(f"http://127.0.0.1:{closed_port()}", timeout=5).must_be("connection")
    for secret in (KEY, PROMPT):
        bench.must(secret not in shown.getvalue(), "a logger shows key or prompt")
    if bench.ours:
        assert "urllib3" in {name.partition(".")[0] for name in logging.root.manager.loggerDict}
        assert "POST /v1/chat/completions" in shown.getvalue()
        assert (printed.getvalue(), http.client.HTTPConnection.debuglevel) == ("", 0)


@row(
    "F88",
    fault="SSLKEYLOGFILE is set, so that urllib3 would write the keys of every TLS session",
    promise="our contexts write none",
)
def key_log_file(bench: Bench) -> None:
    """Call over TLS with a file to write the session's keys to."""
    log = folder(bench) / "tls-keys"
    environment(bench, SSLKEYLOGFILE=str(log), REQUESTS_CA_BUNDLE="", CURL_CA_BUNDLE="")
    server, bundle = tls_server(bench, answer_all), own_bundle(bench)
    client = bench.client(ca_bundle=bundle)
    bench.chat(server.tls_url, timeout=5, client=client).must_be("reply")
    bench.must(not _logged_keys(log), "the session's keys were written")
    if bench.ours:
        assert client.session.get(f"{server.tls_url}/raw").ok
        assert not _logged_keys(log)


def _logged_keys(log: Path) -> list[str]:
    """Return what stands in such a file beside its heading."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if line and not line.startswith("#")]
