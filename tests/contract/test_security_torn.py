"""What a server, a torn call or a file could make show: nothing of key and prompt."""

from __future__ import annotations

import gc
import json
import os
import select
import ssl
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import termai_http
from termai_http import Client, HttpClientConfig
from tests.contract.security_tools import (
    PACKAGE,
    SECRETS,
    Recorder,
    answer,
    call,
    everything,
    faces,
    must_hide,
)
from tests.faults.harness import KEY, PROMPT, Peer, RawServer


@pytest.mark.parametrize("url", [f"https://me:{KEY}@a.example/v1", f"https://a.example/?k={KEY}"])
def test_s5_an_adapter_shows_no_password_of_its_url(url: str) -> None:
    """A base URL is refused at the first call; the repr shows it before that."""
    for adapter in (termai_http.OpenAIAdapter, termai_http.ClaudeAdapter):
        assert "a.example" in repr(adapter(base_url=url))
        must_hide(repr(adapter(base_url=url)))


@pytest.mark.parametrize("begin", ["chat", "stream"])
def test_s6_a_content_type_is_masked(begin: str) -> None:
    """dialects/_base.decode_object and _stream.not_a_stream show the header as it came."""
    kind = f"Content-Type: application/json; charset={KEY}\r\n"
    with (
        Recorder(answer("200 OK", b"[]", kind)) as server,
        Client(HttpClientConfig(trust_env=False)) as client,
        pytest.raises(termai_http.InvalidResponseError) as caught,
    ):
        getattr(client, begin)(PROMPT, model="m", api_key=KEY, base_url=server.url)
    must_hide(everything(caught.value))


@pytest.mark.parametrize("kind", ["echo", "status line", "version"])
def test_s6_a_line_that_is_no_status_is_not_traced(kind: str) -> None:
    """BadStatusLine and UnknownProtocol carry the server's line to whoever traces requests."""

    def handle(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            lines = {
                "echo": request,
                "status line": f"HTTP/1.1 {KEY} {PROMPT}\r\n\r\n".encode(),
                "version": f"HTTP/2.{KEY} 200 OK\r\n\r\n".encode(),
            }
            peer.send(lines[kind])
            return

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    RequestsInstrumentor().instrument(tracer_provider=provider)
    server = RawServer(handle)
    try:
        with (
            Client(HttpClientConfig(trust_env=False)) as client,
            pytest.raises(termai_http.TermaiHttpError),
        ):
            call(client, server.url)
    finally:
        RequestsInstrumentor().uninstrument()
        server.close()
    must_hide("".join(span.to_json() for span in exporter.get_finished_spans()))


class Torn:
    """Raises a KeyboardInterrupt at the n-th instant at which the interpreter could.

    CPython looks for signals where a function of Python's is entered and where one of C returns.
    """

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ("", "", "")

    def __call__(self, frame: Any, event: str, arg: object) -> None:
        """Count an instant, and tear at the one that was asked for."""
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        self.left -= 1
        if self.left == 0:
            sys.setprofile(None)
            code = frame.f_code
            self.where = (os.path.basename(code.co_filename), code.co_name, event)
            raise KeyboardInterrupt


def shown_in(error: BaseException) -> list[tuple[str, str]]:
    """Return which locals of our frames show a secret; a half-made object may have no repr."""
    found = []
    step = error.__traceback__
    while step is not None:
        frame, step = step.tb_frame, step.tb_next
        if frame.f_code.co_filename.startswith(PACKAGE):
            for name, value in frame.f_locals.items():
                try:
                    text = repr(value)
                except AttributeError:
                    continue
                if any(secret in text for secret in SECRETS):
                    found.append((frame.f_code.co_name, name))
    return found


SSE = b"".join(
    b"data: %s\n\n" % json.dumps(event).encode() if event else b"data: [DONE]\n\n"
    for event in (
        {"choices": [{"index": 0, "delta": {"content": "one"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        None,
    )
)
STREAM = answer("200 OK", SSE, "Content-Type: text/event-stream\r\n")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hear nothing of what is torn in finalizers, nor of a socket torn away from its maker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
        yield
        gc.collect()


def play(make: Callable[[], Any]) -> None:
    """Make a call, read it where it is a stream, and keep nothing of it."""
    made = make()
    if isinstance(made, termai_http.Stream):
        with made:
            list(made)


def torn(make: Callable[[], Any]) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Tear a call at every instant in turn; yield where, and which locals then show a secret."""
    at = 0
    while True:
        at += 1
        profile, shown = Torn(at), list[tuple[str, str]]()
        try:
            try:
                sys.setprofile(profile)
                play(make)
            finally:
                sys.setprofile(None)
        except KeyboardInterrupt as error:
            shown = shown_in(error)
        except termai_http.InvalidResponseError:
            # The face that speaks to Claude is answered by OpenAI's events.
            pass
        if profile.left > 0:
            return
        yield profile.where, shown


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "face",
    [
        "Client.chat",
        "Client.stream",
        "fallback",
        "fallback, stream",
        "chat",
        "stream",
        "OpenAIAdapter",
        "OpenAIAdapter.stream",
        "ClaudeAdapter",
        "post_json",
        "get_json",
    ],
)
def test_an_interrupt_at_any_instant_shows_no_secret(face: str) -> None:
    """All but the entry of what is around the face, which no Python function can guard."""
    with (
        Recorder(STREAM if "stream" in face else None) as server,
        Client(HttpClientConfig(trust_env=False)) as client,
    ):
        make = faces(client, server.url)[face]
        found = {
            (where, one)
            for where, shown in torn(make)
            for one in shown
            if where != ("_frames.py", "call", "call")
        }
    assert sorted(found) == [], sorted(found)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("face", ["Client.chat", "Client.stream"])
def test_an_interrupt_at_any_instant_gives_the_call_back(face: str) -> None:
    """In Core.leave() the call stays in flight while its idle connection lives."""
    left = []
    with (
        Recorder(STREAM if "stream" in face else None) as server,
        Client(HttpClientConfig(trust_env=False)) as client,
    ):
        for where, _ in torn(faces(client, server.url)[face]):
            stats = client.stats()
            if stats.active_connections or stats.calls.in_flight:
                gc.collect()
                stats = client.stats()
            if stats.active_connections or stats.calls.in_flight:
                left.append((where, stats.active_connections, stats.calls.in_flight))
    assert left == [], left


@pytest.mark.parametrize("bundle", [True, False])
def test_a_key_log_that_cannot_be_written_is_no_concern_of_ours(
    bundle: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """create_urllib3_context opens SSLKEYLOGFILE before make_context takes it away."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "nowhere" / "keys"))
    with Recorder(context=context) as server:
        config = HttpClientConfig(trust_env=False, ca_bundle=str(path) if bundle else None)
        with Client(config) as client:
            if bundle:
                assert call(client, server.tls_url) == "fine"
            else:
                with pytest.raises(termai_http.TLSError):
                    call(client, server.tls_url)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with Client(HttpClientConfig(trust_env=False, ca_bundle=str(path))) as client:
        assert client.session is not None
    assert not (tmp_path / "keys").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of its own needs a pty")
def test_an_encrypted_client_key_never_asks_the_terminal(tmp_path: Path) -> None:
    """Without password= OpenSSL asks on the terminal, and the process stands still."""
    import pty

    leaf = trustme.CA().issue_cert("a.example")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pw"),
    )
    path = tmp_path / "client.pem"
    path.write_bytes(encrypted + leaf.cert_chain_pems[0].bytes())
    code = (
        "import sys, termai_http as t\n"
        "try: t.Client(t.HttpClientConfig(trust_env=False, client_cert=sys.argv[1]))\n"
        "except t.ConfigurationError as error: print('refused')\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", code, str(path)])
    said, end = b"", time.monotonic() + 20
    while b"refused" not in said and b"pass phrase" not in said and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                said += os.read(terminal, 1000)
            except OSError:
                break
    os.close(terminal)
    os.waitpid(child, 0)
    assert b"pass phrase" not in said
    assert b"refused" in said
