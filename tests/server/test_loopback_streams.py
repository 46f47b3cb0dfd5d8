"""Streams of the loopback server: whole in all dialects, paced, and broken on demand."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from termai_http.testing import (
    ChosenReply,
    CloseAfterRead,
    CloseDelimited,
    CutAfter,
    Delay,
    EmptyBody,
    ErrorEvent,
    Failed,
    Fault,
    Html,
    InvalidJson,
    NoEnd,
    Paced,
    Raw,
    Refusal,
    Server,
    Silent,
    Stall,
    Status,
    Text,
    ToolCalls,
    Trickle,
    TrickleHeaders,
    TruncatedBody,
    TruncatedChunked,
)
from tests.server.loopback import (
    HEADERS,
    PATHS,
    TOOLS,
    ask,
    assembled,
    body_of,
    events_of,
    streamed,
    told,
)

APIS = ("chat", "responses", "claude")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
CALLS = ToolCalls(("weather", {"city": "Oslo"}), ("weather", {"city": "Å \U0001f389"}), text="See:")
THINKING: dict[str, dict[str, Any]] = {
    "chat": {"reasoning_effort": "low"},
    "responses": {"reasoning": {"effort": "low", "summary": "auto"}},
    "claude": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
}
FORMATS: dict[str, dict[str, Any]] = {
    "chat": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
        }
    },
    "responses": {
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}
    },
    "claude": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
}


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    """A dialect."""
    return str(request.param)


@pytest.mark.parametrize(
    "chosen",
    [None, CALLS, ToolCalls("weather"), Refusal("No."), Text("cut", finish="length"), Text("")],
    ids=str,
)
@pytest.mark.parametrize("more", [{}, THINKING, FORMATS], ids=["plain", "thinking", "schema"])
def test_a_stream_is_the_reply_in_pieces(
    api: str, chosen: ChosenReply | None, more: dict[str, Any]
) -> None:
    """Put together, a stream is the reply that comes in one piece, usage included."""
    replies = []
    for read in (told, lambda *asked: assembled(api, streamed(*asked))):
        with Server() as server:
            if chosen is not None:
                server.script(chosen)
            body = body_of(api, "hello \U0001f389 there", **more.get(api, {}))
            if api == "chat" and read is not told:
                body["stream_options"] = {"include_usage": True}
            replies.append(read(server, api, body))
    whole, pieced = replies
    assert pieced == whole


def test_text_comes_word_by_word(server: Server, api: str) -> None:
    """Each event has a word, and a long one is cut."""
    server.script(Text("one two  three\n" + "x" * 40))
    content = json.dumps([data for _, data in streamed(server, api, body_of(api))])
    for piece in ("one ", "two  ", "three\\n", "x" * 16):
        assert f'"{piece}"' in content


def test_half_of_a_character_is_streamed(server: Server, api: str) -> None:
    """Half of a surrogate pair, which UTF-8 cannot say, is repeated as it was sent."""
    assert "\\ud83c" in json.dumps(streamed(server, api, body_of(api, "half \ud83c")))


def test_a_chat_stream_tells_its_usage_only_when_asked(server: Server) -> None:
    """Without include_usage no chunk has one; with it all have, the last one without choices."""
    chunks = [data for _, data in streamed(server, "chat", body_of("chat"))][:-1]
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)
    body = body_of("chat", stream_options={"include_usage": True})
    *chunks, last = [data for _, data in streamed(server, "chat", body)][:-1]
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    assert (last["choices"], last["usage"]["prompt_tokens"]) == ([], 9)


def test_every_choice_is_streamed(server: Server) -> None:
    """With ``n`` there are as many choices, each whole."""
    whole = assembled("chat", streamed(server, "chat", body_of("chat", n=3)))
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in whole["choices"]} == {"You said: hello"}


def test_claude_sends_a_ping(server: Server) -> None:
    """A ping comes early in Claude's stream, as the vendor sends it."""
    names = [name for name, _ in streamed(server, "claude", body_of("claude"))]
    assert names[:4] == ["message_start", "content_block_start", "ping", "content_block_delta"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_streamed_connection_carries_the_next_request(server: Server, api: str) -> None:
    """Streams and replies in one piece come over one connection, one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for stream in (True, False, True):
        body = json.dumps(body_of(api, stream=stream))
        connection.request("POST", PATHS[api], body, HEADERS[api])
        answer = connection.getresponse()
        assert answer.status == 200
        assert (answer.getheader("Transfer-Encoding") == "chunked") is stream
        answer.read()
    connection.close()
    assert [one.requests for one in server.connections] == [3]
    assert [request.stream for request in server.requests] == [True, False, True]


def test_a_wrong_request_for_a_stream_gets_an_error(server: Server, api: str) -> None:
    """What is refused is refused before a stream begins."""
    status, headers, _ = ask(
        server, PATHS[api], {**body_of(api, stream=True), "model": ""}, HEADERS[api]
    )
    assert (status, headers["content-type"]) == (400, "application/json")


class Reader:
    """A bare socket that asks for a stream and reads what comes."""

    def __init__(self, server: Server, api: str, **fields: Any) -> None:
        body = json.dumps(body_of(api, stream=True, **fields)).encode()
        lines = [f"POST {PATHS[api]} HTTP/1.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in HEADERS[api].items()]
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def until(self, mark: bytes) -> bytes:
        """Read up to a mark."""
        found = b""
        while mark not in found:
            received = self.sock.recv(1)
            assert received, found
            found += received
        return found

    def rest(self) -> bytes:
        """Read until the server closes."""
        found = b""
        while received := self.sock.recv(65536):
            found += received
        return found


@pytest.fixture
def reader(server: Server) -> Iterator[Any]:
    """A function that makes readers, which are closed in the end."""
    made: list[Reader] = []

    def make(api: str, at: Server = server, **fields: Any) -> Reader:
        made.append(Reader(at, api, **fields))
        return made[-1]

    yield make
    for one in made:
        one.sock.close()


@pytest.mark.parametrize("by_fault", [False, True])
def test_a_paced_stream_ends_with_the_server(reader: Any, api: str, by_fault: bool) -> None:
    """The first event comes at once, the others later, and closing the server ends the wait."""
    with Server(pace=0.0 if by_fault else 600) as server:
        if by_fault:
            server.script(Paced(600))
        slow = reader(api, server)
        first = slow.until(b"\n\n\r\n")
        assert b"HTTP/1.1 200" in first
        server.close()
        assert slow.rest() == b""


def test_a_paced_stream_is_whole(api: str) -> None:
    """Between its events a paced stream waits, and then it is the same."""
    with Server(pace=0.0001) as server:
        assert "hello" in json.dumps(assembled(api, streamed(server, api, body_of(api))))


def test_a_pace_is_validated() -> None:
    """A server that cannot keep its pace is refused where it is made."""
    for pace in (-1, float("nan")):
        with pytest.raises(ValueError, match="pace"):
            Server(pace=pace)


@pytest.mark.parametrize("after", [0, 2, 10_000])
def test_a_stalled_stream_stays_open(server: Server, reader: Any, api: str, after: int) -> None:
    """Its events come, then nothing, until the client goes away."""
    expected = streamed(server, api, body_of(api))[:after]
    server.script(Stall(after))
    slow = reader(api)
    slow.until(b"\r\n\r\n")
    for _ in expected:
        slow.until(b"\n\n\r\n")
    slow.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        slow.sock.recv(1)
    assert server.connections[-1].open


def test_a_stalled_reply_is_half_there(server: Server, reader: Any) -> None:
    """Of a reply in one piece half comes; the server's end is the end of the silence."""
    server.script(Stall())
    slow = reader("claude")
    slow.sock.shutdown(socket.SHUT_WR)
    assert b'"type"' not in slow.rest()
    server.script(Stall())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", PATHS["chat"], json.dumps(body_of("chat")), HEADERS["chat"])
    answer = connection.getresponse()
    assert answer.read(5) == b'{"id"'
    closing = threading.Thread(target=server.close)
    closing.start()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    closing.join()
    connection.close()


@pytest.mark.parametrize(
    ("fault", "tail"),
    [
        (CutAfter(3), b"\n\n\r\n"),
        (CutAfter(0), b"\r\n\r\n"),
        (CutAfter(2, how="end"), b"\n\n\r\n0\r\n\r\n"),
    ],
    ids=str,
)
def test_a_cut_stream_breaks_off_between_events(
    server: Server, reader: Any, api: str, fault: CutAfter, tail: bytes
) -> None:
    """So many events come whole; then the connection closes, or the body ends in good order."""
    server.script(fault)
    cut = reader(api)
    cut.sock.shutdown(socket.SHUT_WR)
    received = cut.rest()
    assert received.endswith(tail)
    assert received.count(b"data: ") == fault.events


def test_a_stream_is_cut_inside_an_event(server: Server, reader: Any, api: str) -> None:
    """Half of the next event comes, and then nothing."""
    server.script(CutAfter(1, how="inside"))
    received = reader(api).rest()
    assert received.count(b"\n\n\r\n") == 1
    assert not received.endswith(b"\n\n\r\n")


def test_a_stream_is_reset(server: Server, reader: Any, api: str) -> None:
    """A reset is no orderly end."""
    server.script(CutAfter(2, how="reset"))
    cut = reader(api)
    with pytest.raises(ConnectionResetError):
        cut.rest()


@pytest.mark.parametrize("how", ["close", "reset", "inside", "end"])
def test_a_reply_in_one_piece_is_cut_in_half(server: Server, how: str) -> None:
    """What cuts a stream leaves half of a reply, whose length says so or not."""
    server.script(CutAfter(3, how=how))
    if how == "end":
        status, _, content = ask(server, PATHS["chat"], body_of("chat"))
        assert (status, content[:5]) == (200, b'{"id"')
        with pytest.raises(ValueError, match="char"):
            json.loads(content)
        return
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        ask(server, PATHS["chat"], body_of("chat"))


ERRORS: list[tuple[str, ErrorEvent, str | None, dict[str, Any], int]] = [
    (
        "chat",
        ErrorEvent(2, code="c", message="m"),
        None,
        {"error": {"message": "m", "type": "server_error", "param": None, "code": "c"}},
        500,
    ),
    (
        "responses",
        ErrorEvent(2, type="rate_limit_exceeded", message="m"),
        "error",
        {
            "type": "error",
            "code": "rate_limit_exceeded",
            "message": "m",
            "param": None,
            "sequence_number": 2,
        },
        429,
    ),
    (
        "claude",
        ErrorEvent(2),
        "error",
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        529,
    ),
    (
        "claude",
        ErrorEvent(2, type="rate_limit_error", code="enforced_spend_limit_reached"),
        "error",
        {
            "type": "error",
            "error": {
                "type": "rate_limit_error",
                "message": "Overloaded",
                "details": {"error_code": "enforced_spend_limit_reached"},
            },
        },
        429,
    ),
]


@pytest.mark.parametrize(("api", "fault", "name", "data", "status"), ERRORS)
def test_an_error_event_is_the_vendors(
    server: Server, api: str, fault: ErrorEvent, name: str | None, data: Any, status: int
) -> None:
    """It comes after so many events, ends the stream, and is a status for other replies."""
    expected = streamed(server, api, body_of(api))
    server.reset()
    server.script(fault, fault)
    events = streamed(server, api, body_of(api))
    assert len(events) == 3
    assert [one for one, _ in events[:2]] == [one for one, _ in expected[:2]]
    assert events[2] == (name, data)
    answered, _, content = ask(server, PATHS[api], body_of(api), HEADERS[api])
    assert answered == status
    assert json.loads(content)["error"]["message"] == fault.message


def test_a_stream_may_have_no_end(server: Server, api: str) -> None:
    """Its body ends in good order, without what the dialect ends with."""
    marks = {"chat": "[DONE]", "responses": "response.completed", "claude": "message_stop"}
    reasons = {"chat": '"stop"', "responses": "response.completed", "claude": "end_turn"}
    whole = json.dumps(streamed(server, api, body_of(api)))
    server.script(NoEnd(), NoEnd(finished=True))
    unfinished, unmarked = (json.dumps(streamed(server, api, body_of(api))) for _ in range(2))
    for text, marked, finished in (
        (whole, True, True),
        (unmarked, False, api != "responses"),
        (unfinished, False, False),
    ):
        assert (marks[api] in text, reasons[api] in text) == (marked, finished)
        assert "hello" in text


def test_a_reply_in_one_piece_may_have_no_finish_reason(server: Server, api: str) -> None:
    """NoEnd() takes the finish reason out, and NoEnd(finished=True) leaves it."""
    server.script(NoEnd(), NoEnd(finished=True))
    replies = [told(server, api, body_of(api)) for _ in range(2)]
    found = {
        "chat": [reply.get("choices", [{}])[0].get("finish_reason") for reply in replies],
        "responses": [reply.get("status") for reply in replies],
        "claude": [reply.get("stop_reason") for reply in replies],
    }
    assert found[api] in ([None, "stop"], ["in_progress", "completed"], [None, "end_turn"])


@pytest.mark.parametrize("stream", [True, False])
def test_the_end_of_the_connection_may_be_the_end(server: Server, api: str, stream: bool) -> None:
    """Without a length and without chunks a body is as long as its connection."""
    server.script(CloseDelimited())
    status, headers, content = ask(server, PATHS[api], body_of(api, stream=stream), HEADERS[api])
    assert (status, headers["connection"]) == (200, "close")
    assert not {"content-length", "transfer-encoding"} & set(headers)
    text = json.dumps(list(events_of(content))) if stream else content.decode()
    assert "hello" in text


def test_an_error_may_stand_inside_a_success(server: Server, api: str) -> None:
    """Failed() is a failed response, and in the other dialects an error with status 200."""
    server.script(Failed(code="c", message="m"), Failed(code="c", message="m"))
    reply = told(server, api, body_of(api))
    events = streamed(server, api, body_of(api))
    if api == "responses":
        assert (reply["status"], reply["error"]) == ("failed", {"code": "c", "message": "m"})
        assert [name for name, _ in events][-1] == "response.failed"
        assert (reply["output"], reply["usage"]) == ([], None)
        return
    assert reply["error"]["message"] == "m"
    assert len(events) == 1
    assert events[0][1]["error"]["message"] == "m"


@pytest.mark.parametrize(
    ("fault", "begin"),
    [
        (Html(), b"<!doctype"),
        (EmptyBody(), b""),
        (InvalidJson(), None),
        (Trickle(interval=0, size=7), None),
        (TrickleHeaders(interval=0), None),
        (Delay(0), None),
        (Status(503), b'{"'),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), b"hi"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_of_every_reply_plays_on_a_stream(
    server: Server, api: str, fault: Fault, begin: bytes | None
) -> None:
    """What may befall a reply in one piece may befall a stream."""
    server.script(fault)
    _, _, content = ask(server, PATHS[api], body_of(api, stream=True), HEADERS[api])
    if begin is not None:
        assert content.startswith(begin)
    elif isinstance(fault, InvalidJson):
        assert content.endswith(b'data: {"id": "almost", "choices": [}\n\n')
    else:
        assert "hello" in json.dumps(assembled(api, list(events_of(content))))


@pytest.mark.parametrize("fault", [TruncatedBody(), TruncatedChunked(), CloseAfterRead()], ids=str)
def test_a_stream_is_broken_as_a_reply_is(server: Server, api: str, fault: Fault) -> None:
    """These faults end the connection before the stream is complete."""
    server.script(fault)
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
        ask(server, PATHS[api], body_of(api, stream=True), HEADERS[api])


def test_a_silent_stream_never_begins(server: Server, reader: Any, api: str) -> None:
    """The request is read, and the client that gives up ends it."""
    server.script(Silent())
    silent = reader(api)
    silent.sock.shutdown(socket.SHUT_WR)
    assert silent.rest() == b""


def test_a_client_that_goes_away_is_no_failure(server: Server, api: str) -> None:
    """A reset in the middle of a stream ends its connection, and nothing else."""
    server.script(Paced(0.0001), Stall(1))
    for _ in range(2):
        gone = Reader(server, api)
        gone.until(b"\n\n\r\n")
        gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.sock.close()
    assert streamed(server, api, body_of(api))


def test_a_stream_asks_for_tools(server: Server, api: str) -> None:
    """The tool that the first turn calls is asked for in a stream, too."""
    events = json.dumps(streamed(server, api, body_of(api, "Oslo", tools=TOOLS[api])))
    assert "weather" in events
    assert server.requests[0].tools == ("weather",)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CutAfter(-1),
        lambda: CutAfter(1, how="slowly"),
        lambda: ErrorEvent(-1),
        lambda: Paced(-1),
        lambda: Stall(1.5),
        lambda: Text("a", finish="soon"),
        lambda: ToolCalls(),
        lambda: ToolCalls(("a", 1)),
        lambda: ToolCalls(("a", {}, {})),
    ],
)
def test_a_fault_of_streams_is_validated(make: Any) -> None:
    """A fault that cannot be played is refused where it is made."""
    with pytest.raises(ValueError, match="must be"):
        make()


def test_text_has_to_be_text() -> None:
    """Text() takes no other value."""
    with pytest.raises(TypeError, match="text"):
        Text(1)  # type: ignore[arg-type]
