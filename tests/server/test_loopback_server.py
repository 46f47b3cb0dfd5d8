"""The loopback server on the wire, asked by http.client and bare sockets."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import Any

import pytest
import trustme

from termai_http.testing import (
    CloseAfterRead,
    Delay,
    EmptyBody,
    Fault,
    Html,
    InvalidJson,
    Raw,
    ResetAfterRead,
    ResetBeforeRead,
    Server,
    Silent,
    Status,
    Text,
    Trickle,
    TrickleHeaders,
    TruncatedBody,
    TruncatedChunked,
)

OPENAI = {"Authorization": "Bearer k"}
CLAUDE = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
MESSAGES = [{"role": "user", "content": "first"}, {"role": "user", "content": "hello"}]
BODY = {"model": "m", "messages": MESSAGES, "max_tokens": 5}


def ask(
    server: Server,
    body: Any = None,
    headers: dict[str, str] | None = None,
    path: str = "/v1/chat/completions",
    method: str = "POST",
) -> tuple[int, dict[str, str], bytes]:
    """Make one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        payload = body if isinstance(body, (bytes, str)) else json.dumps(body or BODY)
        connection.request(method, path, payload, OPENAI if headers is None else headers)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_both_dialects_repeat_the_last_prompt(server: Server) -> None:
    """A good reply has the vendor's shape and headers, and says what was asked last."""
    status, headers, body = ask(server)
    reply = json.loads(body)
    assert status == 200
    assert reply["choices"][0]["message"]["content"] == "You said: hello"
    assert headers["x-request-id"].startswith("req_")
    assert "x-ratelimit-remaining-tokens" in headers
    status, headers, body = ask(server, headers=CLAUDE, path="/v1/messages")
    reply = json.loads(body)
    assert reply["content"] == [{"type": "text", "text": "You said: hello"}]
    assert headers["request-id"].startswith("req_")
    assert "anthropic-ratelimit-tokens-reset" in headers


def test_everything_is_recorded(server: Server) -> None:
    """Requests and connections can be asked for, and forgotten."""
    ask(server, path="/v1/chat/completions?trace=1")
    request = server.requests[0]
    assert (request.method, request.path, request.query) == (
        "POST",
        "/v1/chat/completions",
        "trace=1",
    )
    assert (request.model, request.prompt, request.dialect) == ("m", "hello", "openai")
    assert request.headers["authorization"] == "Bearer k"
    assert request.json == BODY
    assert (request.connection, server.connections[0].id) == (1, 1)
    assert server.connections[0].requests == 1
    server.reset()
    assert server.requests == []


def test_a_prompt_may_be_made_of_parts(server: Server) -> None:
    """Content parts are joined, and what is no JSON has no prompt."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    ask(server, {**BODY, "messages": [{"role": "user", "content": parts}]})
    ask(server, b"no json")
    assert [request.prompt for request in server.requests] == ["ab", ""]
    assert server.requests[1].model is None


@pytest.mark.parametrize(
    ("body", "headers", "path", "status", "part"),
    [
        (BODY, {}, "/v1/chat/completions", 401, "Authorization"),
        (BODY, {"anthropic-version": "x"}, "/v1/messages", 401, "x-api-key"),
        (b"{", OPENAI, "/v1/chat/completions", 400, "JSON"),
        (b"[1]", OPENAI, "/v1/chat/completions", 400, "JSON"),
        ({"model": "m"}, OPENAI, "/v1/chat/completions", 400, "messages"),
        ({"messages": MESSAGES}, OPENAI, "/v1/chat/completions", 400, "model"),
        ({"model": "m", "messages": MESSAGES}, CLAUDE, "/v1/messages", 400, "max_tokens"),
        (BODY, {"x-api-key": "k"}, "/v1/messages", 400, "anthropic-version"),
        (
            {**BODY, "temperature": 1},
            {**CLAUDE, "anthropic-version": "2026-10-21"},
            "/v1/messages",
            400,
            "temperature",
        ),
        (BODY, OPENAI, "/v1/nowhere", 404, "/v1/nowhere"),
        (BODY, CLAUDE, "/v1/nowhere", 404, "/v1/nowhere"),
    ],
)
def test_wrong_requests_get_the_vendors_error(
    server: Server, body: Any, headers: dict[str, str], path: str, status: int, part: str
) -> None:
    """The status and the message are the vendor's own."""
    answered, _, content = ask(server, body, headers, path)
    error = json.loads(content)["error"]
    assert answered == status
    assert part in error["message"]


def test_models_are_listed_in_both_forms(server: Server) -> None:
    """GET /v1/models answers each vendor's way, and needs a key."""
    for headers, field in ((OPENAI, "object"), (CLAUDE, "has_more")):
        status, _, body = ask(server, headers=headers, path="/v1/models", method="GET")
        assert (status, field in json.loads(body)) == (200, True)
    assert ask(server, headers={}, path="/v1/models", method="GET")[0] == 401


def test_a_status_is_answered_as_told(server: Server) -> None:
    """Body, headers, code and Retry-After go out as scripted; then replies are good again."""
    server.script(
        Status(429, retry_after=1.5, code="insufficient_quota", headers={"X-A": "b"}),
        Status(503, body="busy", retry_after="soon"),
        Status(500, body=b"raw"),
        Status(529),
        Status(418, body={"a": 1}),
    )
    status, headers, body = ask(server)
    assert (status, headers["retry-after"], headers["x-a"]) == (429, "1.5", "b")
    assert json.loads(body)["error"]["code"] == "insufficient_quota"
    assert ask(server)[2] == b"busy"
    assert ask(server)[2] == b"raw"
    assert ask(server, headers=CLAUDE, path="/v1/messages")[0] == 529
    assert json.loads(ask(server)[2]) == {"a": 1}
    assert ask(server)[0] == 200


def test_a_predicate_comes_before_the_script(server: Server) -> None:
    """fail_when() chooses by request, and what it leaves takes from the script."""
    server.fail_when(lambda request: Text("chosen") if request.prompt == "hello" else None)
    server.script(Text("scripted"))
    assert b"chosen" in ask(server)[2]
    assert ask(server, path="/v1/models", method="GET")[0] == 200
    other = {**BODY, "messages": [{"role": "user", "content": "other"}]}
    assert b"scripted" in ask(server, other)[2]


def test_a_predicate_chooses_for_gets_and_the_script_does_not(server: Server) -> None:
    """A list of models fails where fail_when() says so; no POST's fault is taken by a GET."""
    server.script(Status(429))
    assert ask(server, path="/v1/models", method="GET")[0] == 200
    server.fail_when(lambda request: Status(401) if request.path.endswith("/models") else None)
    status, _, body = ask(server, path="/v1/models", method="GET")
    assert (status, "error" in json.loads(body)) == (401, True)
    assert ask(server)[0] == 429


@pytest.mark.parametrize("wrong", ["hello", 429, Status, [Status(429)], None])
def test_what_is_no_fault_is_refused_where_it_is_scripted(server: Server, wrong: Any) -> None:
    """The error names what was given and shows what would be right; nothing is queued."""
    with pytest.raises(TypeError, match=r"as Status\(429\) or Text\('Hello'\), not "):
        server.script(Status(503), wrong)
    with pytest.raises(TypeError, match="must be a function of the request, not"):
        server.fail_when(wrong if not isinstance(wrong, type) else "Status")
    assert ask(server)[0] == 200


@pytest.mark.parametrize("option", ["delay", "connect_delay", "pace"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1"])
def test_times_of_a_server_are_validated(option: str, value: Any) -> None:
    """A server that cannot keep a time is refused where it is made."""
    with pytest.raises(ValueError, match=f"{option} must be seconds of at least 0"):
        Server(**{option: value})


def test_a_reply_of_a_server_is_a_function() -> None:
    """A text in its place is told where the server is made."""
    with pytest.raises(TypeError, match="reply must be a function of the request, not 'pong'"):
        Server(reply="pong")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        (Html(), b"<!doctype html>"),
        (EmptyBody(), b""),
        (InvalidJson(), b'{"id": "almost", "choices": [}'),
        (Delay(0.001), b'{"id"'),
        (Trickle(interval=0.0001, size=50), b'{"id"'),
        (TrickleHeaders(interval=0.00001), b'{"id"'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_odd_answer_is_whole(server: Server, fault: Fault, body: bytes) -> None:
    """These faults answer with 200 and a complete body."""
    server.script(fault)
    status, _, content = ask(server)
    assert status == 200
    assert content[: len(body)] == body


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ResetBeforeRead(), (ConnectionError, http.client.BadStatusLine)),
        (ResetAfterRead(), ConnectionError),
        (CloseAfterRead(), http.client.RemoteDisconnected),
        (TruncatedBody(missing=3), http.client.IncompleteRead),
        (TruncatedChunked(), http.client.IncompleteRead),
        (Raw(b"no http\r\n\r\n"), http.client.BadStatusLine),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_answer_is_broken(
    server: Server, fault: Fault, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    """These faults end the connection before the answer is complete; the next one is good."""
    server.script(fault)
    with pytest.raises(error):
        ask(server)
    assert ask(server)[0] == 200


def test_raw_bytes_may_leave_the_connection_open(server: Server) -> None:
    """Raw(close=False) sends its bytes, and the connection carries the next request."""
    server.script(Raw(b"HTTP/1.1 204 No Content\r\n\r\n", close=False))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for status in (204, 200):
        connection.request("POST", "/v1/chat/completions", json.dumps(BODY), OPENAI)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()
    assert len(server.connections) == 1


def test_silence_ends_with_the_server() -> None:
    """A silent connection, and a slow one, are closed when the server closes."""
    server = Server(connect_delay=0.001, delay=0.001).start()
    faults: dict[str, Fault] = {"silent": Silent(), "slow": Trickle(interval=30)}
    server.fail_when(lambda request: faults[request.prompt])
    head = b"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer k\r\nContent-Length: "
    sockets = []
    for prompt in faults:
        messages = [{"role": "user", "content": prompt}]
        body = json.dumps({**BODY, "messages": messages}).encode()
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        sock.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)
        sockets.append(sock)
    assert sockets[1].recv(9) == b"HTTP/1.1 "
    server.close()
    for sock in sockets:
        while sock.recv(65536):
            pass
        sock.close()
    assert [connection.open for connection in server.connections] == [False, False]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/2\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"X" * 300_000, b"400"),
        (b"GET / HTTP/1.0\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", b"100"),
    ],
)
def test_http_is_kept_to(server: Server, sent: bytes, status: bytes) -> None:
    """What is no HTTP is refused, and a connection that is not kept is closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(sent)
        received = b""
        while chunk := _received(sock):
            received += chunk
    assert received.startswith(b"HTTP/1.1 " + status)


def _received(sock: socket.socket) -> bytes:
    """Read; a reset, which unread input of the server may cause, ends it too."""
    try:
        return sock.recv(65536)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("sent", [b"GET /", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_request_cut_short_is_refused(server: Server, sent: bytes) -> None:
    """A client that stops in the middle gets a 400."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(65536).startswith(b"HTTP/1.1 400")
    assert server.requests == []


def test_a_chunked_body_is_read(server: Server) -> None:
    """A request may come in chunks."""
    body = json.dumps(BODY).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(
        "POST", "/v1/chat/completions", iter([body[:9], body[9:]]), OPENAI, encode_chunked=True
    )
    assert connection.getresponse().status == 200
    connection.close()
    assert server.requests[0].json == BODY


def test_tls_is_spoken() -> None:
    """With a context the server speaks TLS, and survives a client that does not."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with Server(tls=context, reply=lambda request: f"own {request.prompt}") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            _received(plain)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=30, context=trusting
        )
        connection.request("POST", "/v1/chat/completions", json.dumps(BODY), OPENAI)
        assert b"own hello" in connection.getresponse().read()
        connection.close()
        assert server.url.startswith("https://")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Status(99),
        lambda: Delay(-1),
        lambda: Delay(float("nan")),
        lambda: Trickle(interval=1, size=0),
        lambda: TruncatedBody(missing=0),
    ],
)
def test_a_fault_is_validated(make: Any) -> None:
    """A fault that cannot be played is refused where it is made."""
    with pytest.raises(ValueError, match="must be"):
        make()


def test_a_fault_of_no_kind_is_a_mistake() -> None:
    """The names are loaded lazily, and unknown ones are told."""
    import termai_http.testing as testing

    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="no_such_fault"):
        _ = testing.no_such_fault
