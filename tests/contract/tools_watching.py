"""Tools that watch or answer requests, and a script in which each is put on before our import.

Nothing here may import termai_http when it is loaded.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

__all__ = [
    "FACES",
    "METHODS",
    "NEVER_OFF",
    "TOOLS",
    "Seen",
    "count_direct",
    "counted",
    "talk",
    "talks",
]

Seen = Callable[[], list[int]]
"""Returns the status of every attempt that was seen so far."""

FACES = ("chat", "stream")
# Sentry patches http.client for the life of the process.
NEVER_OFF = ("sentry",)

# What one attempt on a new connection calls, once each, whatever it is answered.
METHODS: dict[str, tuple[type[Any], str]] = {
    "Session.send": (requests.Session, "send"),
    "Session.get_adapter": (requests.Session, "get_adapter"),
    "HTTPAdapter.send": (HTTPAdapter, "send"),
    "urlopen": (HTTPConnectionPool, "urlopen"),
    "_make_request": (HTTPConnectionPool, "_make_request"),
    "urllib3 request": (HTTPConnection, "request"),
    "urllib3 putrequest": (HTTPConnection, "putrequest"),
    "urllib3 getresponse": (HTTPConnection, "getresponse"),
    "putrequest": (http.client.HTTPConnection, "putrequest"),
    "endheaders": (http.client.HTTPConnection, "endheaders"),
    "getresponse": (http.client.HTTPConnection, "getresponse"),
    "begin": (http.client.HTTPResponse, "begin"),
}


def good_body(asked: bytes | str | None) -> tuple[str, str]:
    """Return the media type and the text of a good answer: a stream where one was asked for."""
    if json.loads(asked or "{}").get("stream"):
        event = {"choices": [{"index": 0, "delta": {"content": "seen"}, "finish_reason": "stop"}]}
        return "text/event-stream", f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"
    return "application/json", json.dumps({"choices": [{"message": {"content": "seen"}}]})


@contextlib.contextmanager
def with_responses(url: str) -> Iterator[Seen]:
    """Let ``responses`` answer, every other time with a 503."""
    import responses

    seen: list[int] = []

    def answer(request: Any) -> tuple[int, dict[str, str], str]:
        seen.append(503 if len(seen) % 2 == 0 else 200)
        media, text = good_body(request.body)
        return seen[-1], {"Content-Type": media}, text if seen[-1] == 200 else "{}"

    with responses.RequestsMock() as mocked:
        mocked.add_callback("POST", f"{url}/v1/chat/completions", answer, content_type=None)
        yield lambda: list(seen)
        assert len(mocked.calls) == len(seen)


@contextlib.contextmanager
def with_requests_mock(url: str) -> Iterator[Seen]:
    """Let requests-mock answer, every other time with a 503."""
    import requests_mock

    seen: list[int] = []

    def answer(request: Any, context: Any) -> str:
        seen.append(503 if len(seen) % 2 == 0 else 200)
        context.status_code = seen[-1]
        context.headers["Content-Type"], text = good_body(request.text)
        return text if seen[-1] == 200 else "{}"

    with requests_mock.Mocker() as mocker:
        mocker.post(f"{url}/v1/chat/completions", text=answer)
        yield lambda: list(seen)
        assert mocker.call_count == len(seen)


@contextlib.contextmanager
def with_vcrpy(_: str) -> Iterator[Seen]:
    """Let vcrpy record."""
    import vcr

    with tempfile.TemporaryDirectory() as folder:
        recorder = vcr.VCR(filter_headers=["authorization"], match_on=["method", "uri"])
        with recorder.use_cassette(str(Path(folder, "cassette.yaml"))) as recording:
            yield lambda: [answer["status"]["code"] for answer in recording.responses]


@contextlib.contextmanager
def with_opentelemetry(module: str, name: str, _: str) -> Iterator[Seen]:
    """Let an instrumentation of OpenTelemetry make spans."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = getattr(importlib.import_module(module), name)()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield lambda: [
            span.attributes["http.status_code"] for span in exporter.get_finished_spans()
        ]
    finally:
        instrumentor.uninstrument()
        provider.shutdown()


@contextlib.contextmanager
def with_sentry(_: str) -> Iterator[Seen]:
    """Let Sentry make spans, whose envelopes stay here."""
    import sentry_sdk
    from sentry_sdk.transport import Transport

    envelopes: list[Any] = []

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            envelopes.append(envelope)

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Kept,
        traces_sample_rate=1.0,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
    )
    transaction = sentry_sdk.start_transaction(name="calls")
    transaction.__enter__()

    def seen() -> list[int]:
        """End what was traced so far, read it, and begin anew."""
        nonlocal transaction
        transaction.__exit__(None, None, None)
        transaction = sentry_sdk.start_transaction(name="calls")
        transaction.__enter__()
        events = [event for envelope in envelopes if (event := envelope.get_transaction_event())]
        spans = [span for event in events for span in event["spans"] if span["op"] == "http.client"]
        spans.sort(key=lambda span: span["start_timestamp"])
        return [span["data"]["http.response.status_code"] for span in spans]

    try:
        yield seen
    finally:
        transaction.__exit__(None, None, None)
        sentry_sdk.get_client().close()


TOOLS: dict[str, Callable[[str], AbstractContextManager[Seen]]] = {
    "responses": with_responses,
    "requests_mock": with_requests_mock,
    "vcrpy": with_vcrpy,
    "opentelemetry requests": functools.partial(
        with_opentelemetry, "opentelemetry.instrumentation.requests", "RequestsInstrumentor"
    ),
    "opentelemetry urllib3": functools.partial(
        with_opentelemetry, "opentelemetry.instrumentation.urllib3", "URLLib3Instrumentor"
    ),
    "sentry": with_sentry,
}


@contextlib.contextmanager
def counted(owner: type[Any], name: str) -> Iterator[list[int]]:
    """Put a wrapper in a method's place, in the plain way; what it yields grows by each call."""
    original, calls = getattr(owner, name), []

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        calls.append(0)
        return original(*args, **kwargs)

    with mock.patch.object(owner, name, wrapper):
        yield calls


@contextlib.contextmanager
def count_direct() -> Iterator[Callable[[], int]]:
    """Count the attempts that go the direct way."""
    from termai_http import _transport

    real = _transport.send_direct
    with mock.patch.object(_transport, "send_direct", side_effect=real) as spy:
        yield lambda: spy.call_count


def talk(client: Any, face: str, url: str) -> tuple[str, int]:
    """Make a call; return its text and its attempts."""
    options: dict[str, Any] = {
        "model": "gpt-5.5",
        "base_url": f"{url}/v1",
        "api_key": "sk-test",
    }
    if face == "chat":
        reply = client.chat("hi", **options)
        return reply.text, reply.attempts
    with client.stream("hi", **options) as stream:
        text = "".join(stream)
        return text, stream.response.attempts


def new_client() -> Any:
    """Return a client that retries without long waits."""
    import termai_http

    retry = termai_http.RetryConfig(base_delay=0.001, max_delay=0.002)
    return termai_http.Client(termai_http.HttpClientConfig(retry=retry, trust_env=False))


def talks(client: Any, url: str, seen: Seen) -> dict[str, Any]:
    """Make a call of each face; report its text and attempts, what was seen, what went direct."""
    report: dict[str, Any] = {}
    for face in FACES:
        before = len(seen())
        with count_direct() as direct:
            report[face] = [*talk(client, face, url), seen()[before:], direct()]
    return report


def put_on_before(name: str, url: str) -> dict[str, Any]:
    """Put a tool on, import termai_http, make calls with it on, and again with it off."""
    assert "termai_http" not in sys.modules
    tool = TOOLS[name](url)
    seen = tool.__enter__()
    with new_client() as client:
        report = {"on": talks(client, url, seen)}
        if name not in NEVER_OFF:
            tool.__exit__(None, None, None)
            report["off"] = talks(client, url, seen)
    return report


def put_on_after(name: str, url: str) -> dict[str, Any]:
    """Make calls, put a tool on, and make calls again on the connections that are open."""
    with new_client() as client:
        report = {"off": talks(client, url, list)}
        with TOOLS[name](url) as seen:
            report["on"] = talks(client, url, seen)
    return report


def wrapped_before(_: str, url: str) -> dict[str, Any]:
    """Wrap each method in its turn, import termai_http anew, and make a call of each face."""
    report: dict[str, Any] = {}
    for name, (owner, method) in METHODS.items():
        for module in [found for found in sys.modules if found.split(".")[0] == "termai_http"]:
            del sys.modules[module]
        with counted(owner, method) as calls:
            client = new_client()
            on = talks(client, url, lambda: calls)
        with client:
            report[name] = {"on": on, "off": talks(client, url, lambda: calls)}
    return report


if __name__ == "__main__":
    tasks = {"before": put_on_before, "after": put_on_after, "wrapped": wrapped_before}
    sys.stdout.write(json.dumps(tasks[sys.argv[1]](*sys.argv[2:])))
