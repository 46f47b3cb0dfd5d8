"""Whoever patches requests or urllib3, or hangs a hook on the session, sees every attempt."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
import requests_mock
import responses
import vcr
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connectionpool import HTTPConnectionPool

import termai_http
from termai_http import ChatResponse, Client, HttpClientConfig, RequestHandler, RetryConfig
from termai_http._call import Clock
from termai_http.testing import Server, Status

FAST = RetryConfig(base_delay=0.001, max_delay=0.002)


def call(client: Client, base_url: str) -> ChatResponse:
    """Ask for a reply."""
    return client.chat("hi", model="gpt-5.5", base_url=base_url, api_key="sk-test")


@pytest.mark.parametrize(
    ("owner", "name"),
    [(requests.Session, "send"), (HTTPAdapter, "send"), (HTTPConnectionPool, "urlopen")],
)
def test_a_patched_method_sees_every_attempt(
    client: Client, server: Server, owner: Any, name: str
) -> None:
    """A wrapper around the libraries' own methods is called once an attempt."""
    server.script(Status(503), Status(503))
    original = getattr(owner, name)
    with mock.patch.object(owner, name, autospec=True, side_effect=original) as patched:
        assert call(client, server.url).attempts == 3
    assert patched.call_count == 3


def test_a_hook_on_the_session_sees_every_attempt(client: Client, server: Server) -> None:
    """A response hook hears each answer, refused ones too."""
    seen: list[int] = []
    client.session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
    server.script(Status(503), Status(429, retry_after=0.001))
    call(client, server.url)
    assert seen == [503, 429, 200]


def test_a_hook_may_read_the_body(client: Client, server: Server) -> None:
    """A hook that reads answers, good ones and refused ones, takes nothing from the call."""
    seen: list[int] = []
    client.session.hooks["response"].append(
        lambda response, **_: seen.append(len(response.content))
    )
    server.script(Status(503), Status(503))
    reply = call(client, server.url)
    assert (reply.text, reply.attempts) == ("You said: hi", 3)
    assert len(seen) == 3
    assert 0 not in seen


@pytest.mark.parametrize("error", [ValueError("own"), RuntimeError("own")])
def test_a_hook_that_fails_fails_as_itself(
    client: Client, server: Server, error: Exception
) -> None:
    """What a user's hook raises reaches the user as it is, and leaks no slot."""

    def failing(response: requests.Response, **_: Any) -> None:
        raise error

    client.session.hooks["response"].append(failing)
    with pytest.raises(type(error), match="own"):
        call(client, server.url)
    client.session.hooks["response"].clear()
    assert call(client, server.url).text == "You said: hi"
    stats = client.stats()
    assert (stats.active_connections, stats.calls.in_flight) == (0, 0)


def test_headers_and_auth_on_the_session_go_out(client: Client, server: Server) -> None:
    """What a user hangs on the session goes with every call; the call's own headers win."""

    class Signed(AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["X-Signature"] = "signed"
            return request

    client.session.headers["X-Team"] = "blue"
    client.session.headers["Content-Type"] = "text/plain"
    client.session.params = {"tenant": "7"}
    client.session.auth = Signed()
    call(client, server.url)
    request = server.requests[0]
    assert request.headers["x-team"] == "blue"
    assert request.headers["x-signature"] == "signed"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Bearer sk-test"
    assert request.query == "tenant=7"


def test_another_adapter_on_the_session_carries_the_calls(client: Client, server: Server) -> None:
    """A user's own HTTPAdapter, mounted for a host, is the one that sends."""
    sent: list[str] = []

    class Own(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            sent.append(request.url or "")
            return super().send(request, **kwargs)

    client.session.mount(server.url, Own())
    server.script(Status(503))
    assert call(client, server.url).attempts == 2
    assert len(sent) == 2


def test_requests_mock_sees_every_attempt(client: Client) -> None:
    """requests-mock, which replaces the adapter, answers each attempt."""
    good = {"choices": [{"message": {"content": "mocked"}}]}
    answers = [{"status_code": 503}, {"status_code": 503}, {"json": good}]
    with requests_mock.Mocker() as mocker:
        mocker.post("https://api.example/v1/chat/completions", answers)
        reply = call(client, "https://api.example/v1")
    assert (reply.text, reply.attempts, mocker.call_count) == ("mocked", 3, 3)


def test_vcrpy_records_and_replays(client: Client, server: Server, tmp_path: Path) -> None:
    """Vcrpy records every attempt, over connections opened before too, and replays them."""
    cassette = tmp_path / "cassette.yaml"
    call(client, server.url)
    server.script(Status(503))
    recorder = vcr.VCR(filter_headers=["authorization"], match_on=["method", "uri"])
    with recorder.use_cassette(str(cassette)) as recording:
        recorded = call(client, server.url)
    assert (recorded.attempts, len(recording)) == (2, 2)
    assert "sk-test" not in cassette.read_text()
    before = len(server.requests)
    with (
        recorder.use_cassette(str(cassette)) as replaying,
        Client(HttpClientConfig(retry=FAST, trust_env=False)) as other,
    ):
        replayed = call(other, server.url)
    assert (replayed.text, replayed.attempts, replaying.play_count) == (recorded.text, 2, 2)
    assert len(server.requests) == before


def test_a_call_inside_a_hook_leaves_the_outer_one_whole(client: Client, server: Server) -> None:
    """A hook that makes a call of its own disturbs neither deadline nor retries."""
    depth = threading.local()

    def nested(response: requests.Response, **_: Any) -> None:
        if not getattr(depth, "inside", False):
            depth.inside = True
            assert call(client, server.url).text == "You said: hi"
            depth.inside = False

    client.session.hooks["response"].append(nested)
    server.script(Status(503))
    assert call(client, server.url).attempts == 2
    assert client.stats().active_connections == 0


def test_the_wait_is_the_clocks(server: Server) -> None:
    """Time and chance come from outside: a recorded wait takes no time."""
    waits: list[float] = []
    clock = Clock(
        wait=lambda _, seconds: bool(waits.append(seconds)),
        uniform=lambda low, high: (low + high) / 2,
    )
    server.script(Status(503), Status(503))
    with Client(HttpClientConfig(trust_env=False), _clock=clock) as client:
        call(client, server.url)
    assert waits == [0.5, 1.0]


def test_a_wrapper_on_the_one_session_sees_every_attempt(client: Client, server: Server) -> None:
    """A method patched on the session itself, in the way of mock's wraps=, is what is called."""
    server.script(Status(503), Status(503))
    session = client.session
    with mock.patch.object(session, "send", wraps=session.send) as patched:
        assert call(client, server.url).attempts == 3
    assert patched.call_count == 3


def test_responses_sees_every_attempt(client: Client) -> None:
    """Responses, which replaces HTTPAdapter.send, counts three for two refusals and a reply."""
    url = "https://api.example/v1/chat/completions"
    with responses.RequestsMock() as mocked:
        for status in (503, 503):
            mocked.post(url, status=status)
        mocked.post(url, json={"choices": [{"message": {"content": "mocked"}}]})
        assert call(client, "https://api.example/v1").attempts == 3
        assert mocked.assert_call_count(url, 3)
    assert client.stats().active_connections == 0


def test_requests_mock_may_raise(client: Client) -> None:
    """What requests-mock is told to raise counts as the attempt's own failure."""
    url = "https://api.example/v1/chat/completions"
    with requests_mock.Mocker() as mocker:
        mocker.post(url, exc=requests.ConnectionError)
        with pytest.raises(termai_http.APIConnectionError) as caught:
            call(client, "https://api.example/v1")
        assert (caught.value.attempts, mocker.call_count) == (3, 3)
        mocker.post(url, exc=requests.ReadTimeout)
        with pytest.raises(termai_http.ReadTimeout):
            call(client, "https://api.example/v1")
        assert mocker.call_count == 4


def hand_made(status: int = 200) -> requests.Response:
    """Return an answer as many tests build one: by hand, with a body and no socket."""
    response = requests.Response()
    response.status_code = status
    response._content = b'{"choices": [{"message": {"content": "by hand"}}]}'
    return response


@pytest.mark.parametrize("owner", [requests.Session, HTTPAdapter])
def test_an_answer_made_by_hand_is_read(client: Client, owner: Any) -> None:
    """A patched send() may give back a plain Response whose body is set, not read."""
    answers = [hand_made(503), hand_made()]
    with mock.patch.object(owner, "send", side_effect=answers) as patched:
        reply = call(client, "https://api.example/v1")
    assert (reply.text, reply.attempts, patched.call_count) == ("by hand", 2, 2)


def test_a_hook_may_replace_the_answer(client: Client, server: Server) -> None:
    """A response hook that returns another answer decides what the call reads."""
    client.session.hooks["response"].append(lambda *_, **__: hand_made())
    assert call(client, server.url).text == "by hand"
    client.session.hooks["response"].clear()
    assert call(client, server.url).text == "You said: hi"
    assert client.stats().active_connections == 0


def test_a_hook_that_drops_the_body_leaks_nothing(client: Client, server: Server) -> None:
    """A hook that reads the body as a stream and keeps nothing gives an error, never a leak."""
    client.session.hooks["response"].append(
        lambda response, **_: [len(chunk) for chunk in response.iter_content(16)] and None
    )
    with pytest.raises(termai_http.InvalidResponseError):
        call(client, server.url)
    stats = client.stats()
    assert (stats.active_connections, stats.calls.in_flight) == (0, 0)


def test_vcrpy_replays_with_the_server_gone(client: Client, tmp_path: Path) -> None:
    """What was recorded comes again, a refusal and a quota 429 too, with no server there."""
    recorder = vcr.VCR(filter_headers=["authorization"], match_on=["method", "uri"])
    cassette = str(tmp_path / "cassette.yaml")
    with Server() as server:
        server.script(Status(503), Status(429), Status(429, code="insufficient_quota"))
        with recorder.use_cassette(cassette), pytest.raises(termai_http.QuotaExceededError):
            call(client, server.url)
        url = server.url
    with (
        recorder.use_cassette(cassette, record_mode="none") as replaying,
        Client(HttpClientConfig(retry=FAST, trust_env=False)) as other,
        pytest.raises(termai_http.QuotaExceededError) as caught,
    ):
        call(other, url)
    assert (caught.value.attempts, replaying.play_count) == (3, 3)


def test_the_handlers_attempts_are_seen_too(client: Client, server: Server) -> None:
    """RequestHandler goes the same way: a hook hears each of its attempts."""
    seen: list[int] = []
    client.session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
    server.script(*[Status(503)] * 3)
    url, headers = f"{server.openai_url}/chat/completions", {"Authorization": "Bearer k"}
    assert RequestHandler(client).post_json(url, headers, {"model": "m"}).status_code == 503
    assert seen == [503, 503, 503]


def test_opentelemetry_has_a_span_for_every_attempt(client: Client, server: Server) -> None:
    """OpenTelemetry's instrumentation of requests sees three attempts."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        server.script(Status(503), Status(503))
        assert call(client, server.url).attempts == 3
    finally:
        instrumentor.uninstrument()
        provider.shutdown()
    spans = exporter.get_finished_spans()
    codes = [span.attributes["http.status_code"] for span in spans]
    assert codes == [503, 503, 200]
    assert all("traceparent" in request.headers for request in server.requests)
