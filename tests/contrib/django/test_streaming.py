"""Server-sent events: what a browser gets, and what ends when it goes."""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import pytest
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import Client, override_settings
from django.urls import path

import termai_http
from termai_http import ConfigurationError, Stream, StreamEvent
from termai_http.contrib.django import sse_response
from termai_http.testing import ErrorEvent, Paced, Server, Stall, Text, ToolCalls

Browse = Callable[..., Client]
Event = tuple[str, Any]


def parse(body: bytes) -> list[Event]:
    """Read events as a browser does: name and JSON value, comments as ``("", text)``."""
    events: list[Event] = []
    for block in body.decode().split("\n\n"):
        name, data = "message", None
        for line in block.split("\n"):
            field, _, value = line.partition(": ")
            if line.startswith(":"):
                events.append(("", line[2:]))
            elif field == "event":
                name = value
            elif field == "data":
                data = json.loads(value)
        if data is not None:
            events.append((name, data))
    return events


def body_of(response: HttpResponseBase) -> bytes:
    """Read a response to its end and close it."""
    assert isinstance(response, StreamingHttpResponse)
    content = b"".join(response.streaming_content)  # type: ignore[arg-type]
    response.close()
    return content


@pytest.fixture(autouse=True)
def heartbeat(request: pytest.FixtureRequest) -> Iterator[float | None]:
    """Set the heartbeat of the test, 5 seconds where it has no other."""
    seconds = getattr(request, "param", 5.0)
    with override_settings(TERMAI_HTTP={"HEARTBEAT": seconds}):
        yield seconds


def respond(model: str = "gpt-5.5", **options: Any) -> StreamingHttpResponse:
    """Answer with the stream of a prompt."""
    return sse_response(termai_http.stream("one two three", model=model), **options)


@pytest.mark.parametrize("heartbeat", [None, 5.0], indirect=True)
def test_a_reply_comes_as_events(termai_server: Server, heartbeat: float | None) -> None:
    """Pieces of text, one event each, then the summary; the connection can be used again."""
    response = respond("claude-opus-5-5")
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    body = body_of(response)
    assert body.startswith(b"retry: 86400000\ndata: ")
    assert body.count(b"retry:") == 1
    *pieces, (name, summary) = parse(body)
    assert {kind for kind, _ in pieces} == {"message"}
    assert "".join(value["text"] for _, value in pieces) == "You said: one two three"
    assert name == "done"
    assert summary["text"] == "You said: one two three"
    assert summary["finish_reason"] == "end_turn"
    assert summary["usage"]["output_tokens"] > 0
    assert summary["request_id"]
    assert (termai_http.stats().active_connections, termai_http.stats().idle_connections) == (0, 1)


def test_any_text_stays_one_event(termai_server: Server) -> None:
    """Line ends of every kind, and what is no ASCII, neither end an event nor begin one."""
    text = "a\nb\r\nc\rd\u2028e\n\nevent: error\ndata: {}\n\n\N{SNOWMAN}\ud83d\ude00 <b>"
    text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    termai_server.script(Text(text))
    *pieces, (name, summary) = parse(body_of(respond()))
    assert "".join(value["text"] for _, value in pieces) == text
    assert (name, summary["text"]) == ("done", text)


def test_what_an_event_says_can_be_chosen(termai_server: Server) -> None:
    """``encode`` sees every event, and leaves some out with None."""
    termai_server.script(ToolCalls(("look", {"at": "sky"})))

    def encode(event: StreamEvent) -> Any:
        if event.tool_call is None or event.type != "tool_call":
            return None
        return {"tool": event.tool_call.name, "with": event.tool_call.arguments}

    *calls, (name, _) = parse(body_of(respond(encode=encode)))
    assert calls == [("message", {"tool": "look", "with": {"at": "sky"}})]
    assert name == "done"


def test_a_break_is_an_event_without_secrets(
    termai_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The browser learns kind and request id; the vendor's words and the prompt stay here."""
    termai_server.script(ErrorEvent(after=3, message="account 4711 is out of luck"))
    with caplog.at_level(logging.WARNING, "termai_http"):
        body = body_of(respond())
    *_, (name, value) = parse(body)
    assert name == "error"
    assert value["type"] == "StreamInterrupted"
    assert value["message"] == "The reply broke off before its end."
    assert value["request_id"]
    assert set(value) == {"type", "message", "request_id", "retry_after"}
    assert b"4711" not in body
    assert "StreamInterrupted" in caplog.text
    assert "three" not in caplog.text
    assert termai_http.stats().active_connections == 0


class Who(TypedDict):
    """What is asked for."""

    name: str


def test_a_reply_that_does_not_fit_is_an_error_too(termai_server: Server) -> None:
    """The text was shown already; the event says that it is not what was asked for."""
    termai_server.script(Text('{"name": 3'))
    stream = termai_http.stream("who", model="gpt-5.5", output=Who)
    *_, (name, value) = parse(body_of(sse_response(stream)))
    assert (name, value["type"]) == ("error", "OutputError")
    assert value["message"] == "The reply is not what was asked for."


@pytest.mark.parametrize("heartbeat", [0.05], indirect=True)
def test_silence_brings_comments(termai_server: Server) -> None:
    """A model that thinks for long does not look like a dead connection."""
    termai_server.script(Stall(3))
    response = respond()
    chunks = iter(response)
    assert b"data: " in next(chunks)
    while (chunk := next(chunks)) != b": waiting\n\n":
        assert b"data: " in chunk
    assert next(chunks) == b": waiting\n\n"
    response.close()
    assert termai_http.stats().active_connections == 0


@pytest.mark.parametrize("heartbeat", [None, 5.0], indirect=True)
@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_closed_response_cancels_its_stream(
    termai_server: Server, heartbeat: float | None, read: int
) -> None:
    """However much was read of it, slot and connection are free."""
    termai_server.script(Stall(4))
    response = respond()
    chunks = iter(response)
    for _ in range(read):
        next(chunks)
    assert termai_http.stats().active_connections == 1
    response.close()
    response.close()
    figures = termai_http.stats()
    assert (figures.active_connections, figures.idle_connections) == (0, 0)
    assert figures.calls.in_flight == 0
    assert list(chunks) == []


@pytest.mark.parametrize("heartbeat", [0.05], indirect=True)
def test_no_thread_reads_a_reply(termai_server: Server) -> None:
    """Heartbeats come from the thread that answers: a worker gets no more threads by them."""
    termai_server.script(Stall(3))
    chunks = iter(respond())
    next(chunks)
    before = set(threading.enumerate())
    while next(chunks) != b": waiting\n\n":
        pass
    assert set(threading.enumerate()) == before


def test_a_dropped_response_ends_its_call(termai_server: Server) -> None:
    """A server that never closes it leaks no connection."""
    termai_server.script(Stall(4))
    response = respond()
    chunks = iter(response)
    next(chunks)
    del chunks, response
    gc.collect()
    gc.collect()
    assert termai_http.stats().active_connections == 0


def test_an_error_of_encode_is_the_projects_own(termai_server: Server) -> None:
    """It is raised as it is, for the server to log, and the stream is cancelled."""
    termai_server.script(Paced(0.01))

    def encode(event: StreamEvent) -> Any:
        raise ZeroDivisionError("mine")

    response = respond(encode=encode)
    with pytest.raises(ZeroDivisionError, match="mine"):
        list(response)
    response.close()
    assert termai_http.stats().active_connections == 0


def test_a_stream_that_was_cancelled_says_so(termai_server: Server) -> None:
    """Cancelled by the program or closed with its client, it is no good end."""
    termai_server.script(Stall(4))
    stream = termai_http.stream("one two three", model="gpt-5.5")
    response = sse_response(stream)
    chunks: Iterator[bytes] = iter(response)  # type: ignore[assignment]
    next(chunks)
    stream.cancel()
    *_, (name, value) = parse(b"".join(chunks))
    assert (name, value["type"]) == ("error", "CallCancelled")
    response.close()
    with termai_http.stream("again", model="gpt-5.5") as stream:
        pass
    assert [name for name, _ in parse(b"".join(sse_response(stream)))] == ["error"]  # type: ignore[arg-type]


def test_no_middleware_holds_events_back(browse: Browse, termai_server: Server) -> None:
    """Compression would wait for the end of the reply; it leaves these responses alone."""
    termai_server.script(Stall(4))
    client = browse(
        path("", lambda request: respond()),
        MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"],
    )
    response = client.get("/", headers={"Accept-Encoding": "gzip"})
    chunks = iter(response.streaming_content)  # type: ignore[attr-defined]
    assert next(chunks).startswith(b"retry: 86400000\ndata: ")
    response.close()


def test_a_head_request_reads_nothing(browse: Browse, termai_server: Server) -> None:
    """A response whose body nobody asks for cancels its stream when it is closed."""
    termai_server.script(Stall(4))

    def view(request: HttpRequest) -> StreamingHttpResponse:
        return respond(headers={"X-Accel-Buffering": "yes", "X-Mine": "1"})

    response = browse(path("", view)).head("/")
    assert (response.headers["X-Accel-Buffering"], response.headers["X-Mine"]) == ("yes", "1")
    response.close()
    assert termai_http.stats().active_connections == 0


def test_wrong_arguments_are_refused() -> None:
    """A text is no stream, and a site with a wrong heartbeat hears of it."""
    with pytest.raises(ConfigurationError, match=r"what stream\(\) returned, not str"):
        sse_response("text")  # type: ignore[arg-type]
    with (
        override_settings(TERMAI_HTTP={"HEARTBEAT": 0}),
        pytest.raises(ConfigurationError, match="heartbeat must be a number of seconds above 0"),
    ):
        sse_response(object.__new__(Stream))


@pytest.mark.parametrize("heartbeat", [0.05], indirect=True)
def test_what_encode_leaves_out_is_silence_to_the_browser(termai_server: Server) -> None:
    """A model that thinks for long says much of which nothing is sent."""
    termai_server.script(Paced(0.02))
    stream = termai_http.stream("word " * 60, model="gpt-5.5")
    chunks = iter(sse_response(stream, encode=lambda event: None))
    assert b": waiting" in next(chunks)
    assert next(chunks) == b": waiting\n\n"
    stream.close()
