"""A server's echo is shown nowhere, and no call is traced with its content (S6, S12).

The numbers are those of the security checklist.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import termai_http
from termai_http import ClaudeAdapter, Client, HttpClientConfig, OpenAIAdapter
from tests.contract.security_tools import FAST, Recorder, answer, call, everything, must_hide
from tests.faults.harness import KEY, PROMPT, Peer, RawServer, good_reply


def echoes(request: bytes) -> dict[str, bytes]:
    """Return answers that repeat a request in the ways that servers and proxies do."""
    head, _, body = request.partition(b"\r\n\r\n")
    both = head.replace(b"\r\n", b" ") + b" " + body
    text = both.decode()
    as_json = json.dumps({"error": {"message": text, "type": "x", "code": KEY}}).encode()
    twice = json.dumps({"error": {"message": json.dumps(text)}}).encode()
    page = b"<html><pre>" + both.replace(b'"', b"&quot;") + b"</pre></html>"
    return {
        "plain 400": answer("400 Bad", both),
        "json 400": answer("400 Bad", as_json),
        "json in json 400": answer("400 Bad", twice),
        "page 500": answer("500 Bad", page, "Content-Type: text/html\r\n"),
        "quota 429": answer("429 No", as_json.replace(KEY.encode(), b"insufficient_quota")),
        "page 200": answer("200 OK", page, "Content-Type: text/html\r\n"),
        "error in a 200": answer("200 OK", as_json),
        "cut short": answer("200 OK", as_json)[:-10],
        "redirect": answer("302 There", both, f"Location: https://a.example/?q={KEY}\r\n"),
        "id header": answer("400 Bad", b"{}", f"X-Request-Id: {KEY}\r\nRequest-Id: {KEY}\r\n"),
        "reason": answer(f"400 {KEY}", b""),
        "status line": f"HTTP/1.1 {KEY} {PROMPT}\r\n\r\n".encode(),
        "version": f"HTTP/2.{KEY} 200 OK\r\n\r\n".encode(),
        "no http": both,
        "header line": answer("200 OK", b"{}", f"{PROMPT} {KEY}\r\n"),
        "coding": answer("200 OK", b"{}", f"Content-Encoding: {KEY}\r\n"),
        "length": answer("200 OK", b"{}").replace(b"Length: ", f"Length: {KEY}".encode()),
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + both + b"\r\n",
        "retry after": answer("503 Busy", b"", f"Retry-After: {KEY}\r\n"),
        "claude's id": answer("400 Bad", json.dumps({"request_id": KEY}).encode()),
    }


KINDS = sorted(echoes(b"\r\n\r\n"))
TRACED = [
    *("chunks", "coding", "cut short", "error in a 200", "header line", "id header", "json 400"),
    *("length", "page 200", "page 500", "plain 400", "quota 429", "reason", "redirect"),
]


def echo_server(kind: str) -> RawServer:
    """Run a server that repeats each request in one of these ways."""

    def handle(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            peer.send(echoes(request)[kind])
            if kind in ("cut short", "no http", "status line", "version"):
                return

    return RawServer(handle)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What OpenTelemetry's instrumentation of requests exports."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    RequestsInstrumentor().instrument(tracer_provider=provider)
    yield exporter
    RequestsInstrumentor().uninstrument()
    provider.shutdown()


@pytest.mark.parametrize("kind", KINDS)
def test_s6_a_servers_echo_is_shown_nowhere(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Errors, logs at DEBUG, warnings, events, figures and reprs have neither key nor prompt."""
    server, heard = echo_server(kind), list[Any]()
    caplog.set_level(logging.DEBUG)
    config = HttpClientConfig(retry=FAST, trust_env=False, timeout=5)
    with warnings.catch_warnings(record=True) as warned, Client(config) as client:
        warnings.simplefilter("always")
        client.listen(heard.append)
        for model in ("gpt-5.5", "claude-opus-5-5"):
            for begin in (client.chat, client.stream):
                with pytest.raises(termai_http.TermaiHttpError) as caught:
                    begin(PROMPT, model=model, api_key=KEY, base_url=server.url)
                must_hide(everything(caught.value), model)
                assert caught.value.__cause__ is caught.value.__context__ is None
        for adapter in (OpenAIAdapter, ClaudeAdapter):
            made = adapter(client, api_key=KEY, base_url=server.url)
            made.health_check()
            must_hide(repr(made))
        must_hide(f"{client!r} {client.config!r} {client.stats()!r} {client.session!r}")
    server.close()
    must_hide(caplog.text, "logs")
    must_hide(repr([vars(record) for record in caplog.records]), "log records")
    must_hide(repr([str(item.message) for item in warned]), "warnings")
    must_hide(repr(heard), "events")


@pytest.mark.parametrize("kind", TRACED)
def test_s6_an_echo_is_not_traced(kind: str, spans: InMemorySpanExporter) -> None:
    """What OpenTelemetry's instrumentation of requests notes of a failure has neither of them."""
    server = echo_server(kind)
    config = HttpClientConfig(retry=FAST, trust_env=False, timeout=5)
    with Client(config) as client, pytest.raises(termai_http.TermaiHttpError):
        call(client, server.url)
    server.close()
    finished = spans.get_finished_spans()
    assert finished
    must_hide("".join(span.to_json() for span in finished))


def test_s12_a_successful_call_is_traced_without_its_content(
    spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither spans nor events nor logs hold prompt, reply or key; the reply's text is its own."""
    caplog.set_level(logging.DEBUG)
    reply = "The canary reply that only the caller may see."
    heard: list[Any] = []
    with Recorder(good_reply(reply)) as server, Client(HttpClientConfig(trust_env=False)) as client:
        client.listen(heard.append)
        answered = client.chat(PROMPT, model="gpt-5.5", api_key=KEY, base_url=server.url)
        assert answered.text == reply
        shown = "".join(span.to_json() for span in spans.get_finished_spans())
        shown += f"{heard!r} {caplog.text} {client.stats()!r} {answered!r}"
    assert len(heard) >= 5
    must_hide(shown)
    assert reply not in shown
