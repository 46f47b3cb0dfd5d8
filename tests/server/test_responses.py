"""OpenAI's responses on sockets: whole replies and streams, failures inside a success, tools."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import termai_http
from termai_http import (
    APIStatusError,
    BadRequestError,
    ChatRequest,
    Client,
    HttpClientConfig,
    InternalServerError,
    InvalidRequestError,
    OpenAIAdapter,
    RateLimitError,
    RetryConfig,
    Stream,
    StreamInterrupted,
    TermaiHttpError,
    TruncatedResponse,
    _open_body,
    openai,
)
from tests.faults.harness import Peer, RawServer
from tests.faults.streaming import CHUNKED, TO_THE_CLOSE, Step, answer_with
from tests.unit.test_streams_responses import Responses, function_call, message, reasoning, upto

_PATIENCE = 20.0
_RETRY = RetryConfig(base_delay=0.001, max_delay=0.002)
_KEY = "sk-canary-0123456789-abcdef"
_PROMPT = "The canary prompt that nothing may show."
Answer = Callable[[Peer, bytes], object]


class Server:
    """Answers one request after the other with the answers it was given, the last of them for good.

    Attributes:
        requests: The requests, whole.
    """

    def __init__(self, *answers: Answer | bytes) -> None:
        self._answers = list(answers)
        self.requests: list[bytes] = []
        self.raw = RawServer(self._handle)
        self.url = self.raw.url

    def _handle(self, peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (request := peer.read_request()) is not None:
            at = min(len(self.requests), len(self._answers) - 1)
            self.requests.append(request)
            answer = self._answers[at]
            peer.send(answer) if isinstance(answer, bytes) else answer(peer, request)

    def bodies(self) -> list[Any]:
        """Return the bodies of the requests."""
        return [json.loads(request.split(b"\r\n\r\n", 1)[1]) for request in self.requests]


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Run servers until the test ends."""
    with contextlib.ExitStack() as stack:

        def run(*answers: Answer | bytes) -> Server:
            server = Server(*answers)
            stack.callback(server.raw.close)
            return server

        yield run


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that takes nothing from the environment, and retries without long waits."""
    with Client(HttpClientConfig(retry=_RETRY, trust_env=False)) as made:
        yield made


def whole(payload: Any, kind: bytes = b"application/json", headers: bytes = b"") -> bytes:
    """Return a good answer with a body."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\nX-Request-Id: req_1\r\n"
    return head % (kind, len(body)) + headers + b"\r\n" + body


def response(*output: Any, **more: Any) -> dict[str, Any]:
    """Return a whole response."""
    fields = {"status": "completed", "output": [*output], "usage": Responses.usage}
    return {**Responses.top, **fields, **more}


def failed(code: str, message: str = "Sorry.") -> bytes:
    """Return a failed response inside a success."""
    return whole(response(status="failed", error={"code": code, "message": message}))


def transcript(*pieces: str) -> bytes:
    """Return the events of a whole stream."""
    vendor = Responses()
    return vendor.begin() + vendor.texts(*(pieces or ("one ", "two"))) + vendor.finish()


def streamed(*steps: Step) -> Answer:
    """Answer with a stream, and its end."""
    return answer_with(CHUNKED, *steps, lambda peer: peer.send(CHUNKED.end))


def options(server: Server) -> dict[str, Any]:
    """Return the options of a call to a server."""
    known = {"model": "gpt-5.5", "api": "responses", "api_key": _KEY, "timeout": _PATIENCE}
    return {**known, "base_url": server.url}


def must_be_at_rest(client: Client, calls: int = 1) -> None:
    """Check that nothing is in use, and that so many calls were counted."""
    stats = client.stats()
    assert (stats.active_connections, stats.waiting, stats.calls.in_flight) == (0, 0, 0)
    assert stats.calls.total_requests == calls


class TestWhole:
    """Whole replies."""

    def test_a_reply_is_that_of_every_api(self, serve: Serve, client: Client) -> None:
        """The request goes to its path in its form, and the reply is read as any other."""
        server = serve(whole(response(reasoning(0, "hm"), message(1, "Hi"))))
        reply = client.chat(
            "hi", system="Be kind.", max_tokens=9, previous_response_id="r0", **options(server)
        )
        assert server.requests[0].startswith(b"POST /v1/responses HTTP/1.1\r\n")
        assert server.bodies() == [
            {
                "model": "gpt-5.5",
                "input": "hi",
                "instructions": "Be kind.",
                "max_output_tokens": 9,
                "previous_response_id": "r0",
            }
        ]
        assert (str(reply), reply.thinking, reply.finish_reason) == ("Hi", "hm", "completed")
        assert (reply.usage.total_tokens, reply.request_id, reply.provider) == (
            17,
            "req_1",
            "openai",
        )
        assert reply.messages == (reasoning(0, "hm"), message(1, "Hi"))

    def test_respond_is_the_same(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """The vendor's function takes a request or the vendor's own body, on the shared client."""
        server = serve(whole(response(message(0, "Hi"))))
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k0")
        assert openai.respond(ChatRequest("m", "hi")).text == "Hi"
        assert openai.respond({"model": "m", "input": "hi"}, _KEY).text == "Hi"
        assert server.bodies() == [{"model": "m", "input": "hi"}] * 2
        heads = [request.partition(b"Authorization: ")[2] for request in server.requests]
        keys = [head.partition(b"\r\n")[0] for head in heads]
        assert keys == [b"Bearer k0", b"Bearer " + _KEY.encode()]
        assert termai_http.stats().calls.total_requests == 2

    def test_an_adapter_responds(self, serve: Serve, client: Client) -> None:
        """On its client, with its key and URL, and the options of every call."""
        server = serve(whole(response(message(0, "Hi"))))
        adapter = OpenAIAdapter(client, api_key=_KEY, base_url=server.url, organization="o")
        body = {"model": "m", "previous_response_id": "r0"}
        assert adapter.respond(body, timeout=_PATIENCE, extra_body={"store": False}).text == "Hi"
        assert server.bodies() == [{**body, "store": False}]
        assert b"OpenAI-Organization: o\r\n" in server.requests[0]
        with pytest.raises(TypeError, match="api= is no option"):
            adapter.respond(body, api="chat")

    @pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded"])
    def test_a_failure_that_may_pass_is_tried_again(
        self, serve: Serve, client: Client, code: str
    ) -> None:
        """As the status would be, that it should have had."""
        server = serve(failed(code), whole(response(message(0, "Hi"))))
        reply = client.chat("hi", **options(server))
        assert (reply.text, reply.attempts) == ("Hi", 2)
        must_be_at_rest(client)

    @pytest.mark.parametrize(
        ("code", "cls", "status", "attempts"),
        [
            ("server_error", InternalServerError, 500, 3),
            ("rate_limit_exceeded", RateLimitError, 429, 3),
            ("invalid_prompt", BadRequestError, 400, 1),
            ("image_too_small", BadRequestError, 400, 1),
            ("brand_new", APIStatusError, 200, 1),
        ],
    )
    def test_a_failed_response_is_an_error(
        self,
        serve: Serve,
        client: Client,
        code: str,
        cls: type[APIStatusError],
        status: int,
        attempts: int,
    ) -> None:
        """Its class, code and id are those of any refusal, and it repeats nothing."""
        server = serve(failed(code, f"Not this: {_PROMPT} {_KEY}"))
        with pytest.raises(cls) as caught:
            client.chat(_PROMPT, **options(server))
        error = caught.value
        assert type(error) is cls
        assert (error.status_code, error.code, error.request_id) == (status, code, "req_1")
        assert (error.attempts, len(server.requests)) == (attempts, attempts)
        assert "canary" not in f"{error} {vars(error)}"
        must_be_at_rest(client)

    def test_what_is_refused_is_never_sent(self, serve: Serve, client: Client) -> None:
        """A clear error before the request, also for the vendor's own body."""
        server = serve(whole(response()))
        for refused in ({"seed": 1}, {"background": True}, {"stop": "x"}, {"verbosity": "low"}):
            with pytest.raises(InvalidRequestError):
                client.chat(_PROMPT, **options(server), **refused)
        adapter = OpenAIAdapter(client, api_key=_KEY, base_url=server.url)
        for body in ({"model": "m"}, {"model": "m", "messages": [{"role": "user"}]}):
            with pytest.raises(InvalidRequestError):
                adapter.respond(body)
        assert server.raw.connections == 0

    def test_output_is_parsed(self, serve: Serve, client: Client) -> None:
        """The final message alone is the value; a refusal is an error in the model's words."""
        schema = {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        }
        refusal = {**message(0, ""), "content": [{"type": "refusal", "refusal": "I can't."}]}
        server = serve(
            whole(response(message(0, "So:", phase="commentary"), message(1, '{"a": 1}'))),
            whole(response(refusal)),
        )
        reply = client.chat("hi", output=schema, text={"verbosity": "low"}, **options(server))
        assert reply.parsed == {"a": 1}
        sent = server.bodies()[0]["text"]
        assert (sent["verbosity"], sent["format"]["type"]) == ("low", "json_schema")
        with pytest.raises(termai_http.OutputError) as caught:
            client.chat("hi", output=schema, **options(server))
        assert caught.value.text == "I can't."

    def test_a_conversation_goes_on_with_its_items(self, serve: Serve, client: Client) -> None:
        """The reply's messages and the tool's result are what the next request begins with."""
        asked = [reasoning(0, "hm"), function_call(1, "c0", "add", '{"a": 1, "b": 2}')]
        server = serve(whole(response(*asked)), whole(response(message(0, "3"))))
        tool = {"type": "function", "name": "add", "parameters": None, "strict": False}
        turns: list[Any] = [{"role": "user", "content": "1 + 2?"}]
        reply = client.chat(turns, tools=[tool], tool_choice="add", **options(server))
        (call,) = reply.tool_calls
        assert call.arguments == {"a": 1, "b": 2}
        turns += [*reply.messages, {"role": "tool", "tool_call_id": call.id, "content": "3"}]
        assert client.chat(turns, tools=[tool], **options(server)).text == "3"
        first, second = server.bodies()
        assert first["tool_choice"] == {"type": "function", "name": "add"}
        result = {"type": "function_call_output", "call_id": "c0", "output": "3"}
        assert second["input"] == [turns[0], *asked, result]


class TestEventsForAWhole:
    """Servers that answer every request with events."""

    def test_they_are_read_as_the_reply(self, serve: Serve, client: Client) -> None:
        """The reply is that of the same stream."""
        server = serve(whole(transcript(), b"text/event-stream; charset=utf-8"))
        reply = client.chat("hi", **options(server))
        assert (reply.text, reply.finish_reason, reply.usage.total_tokens) == (
            "one two",
            "completed",
            17,
        )
        must_be_at_rest(client)

    def test_events_that_end_early_are_no_reply(self, serve: Serve, client: Client) -> None:
        """Cut short, it is tried again as any reply that is."""
        cut = upto("output_text.delta", transcript())
        server = serve(whole(cut, b"text/event-stream"), whole(transcript(), b"text/event-stream"))
        reply = client.chat("hi", **options(server))
        assert (reply.text, reply.attempts) == ("one two", 2)
        server = serve(whole(cut, b"text/event-stream"))
        with pytest.raises(TruncatedResponse, match="before their end mark"):
            client.chat("hi", retry=RetryConfig(max_attempts=1), **options(server))

    def test_an_error_among_them_is_one(self, serve: Serve, client: Client) -> None:
        """Typed, and tried again where that may help."""
        vendor = Responses()
        error = vendor.event("error", code="server_error", message="Sorry.", param=None)
        broken = whole(vendor.begin() + error, b"text/event-stream")
        server = serve(broken, whole(response(message(0, "Hi"))))
        assert client.chat("hi", **options(server)).attempts == 2
        server = serve(broken)
        with pytest.raises(InternalServerError, match="Sorry"):
            client.chat("hi", **options(server))


class TestStream:
    """Streams."""

    def test_pieces_come_as_they_are_sent(self, serve: Serve, client: Client) -> None:
        """Each is there before the next one is sent; at the end there is the whole reply."""
        vendor, turn = Responses(), threading.Semaphore(0)
        steps: list[Step] = []
        for event in (vendor.begin() + vendor.texts("a", "b", "c")).split(b"\n\n")[:-1]:
            if b"text.delta" in event:
                steps.append(lambda _: turn.acquire(timeout=_PATIENCE))
            steps.append(event + b"\n\n")
        server = serve(streamed(*steps, vendor.finish()))
        turn.release()
        stream = client.stream("hi", **options(server))
        seen = []
        for piece in stream:
            seen.append(piece)
            turn.release()
        assert seen == ["a", "b", "c"]
        assert server.bodies() == [{"model": "gpt-5.5", "input": "hi", "stream": True}]
        reply = stream.response
        assert reply is not None
        assert (reply.text, reply.finish_reason, reply.usage.total_tokens) == (
            "abc",
            "completed",
            17,
        )
        assert reply.raw == vendor.reply()
        must_be_at_rest(client)

    def test_it_is_the_reply_of_a_chat(self, serve: Serve, client: Client) -> None:
        """The same response, whole or in pieces, is the same reply."""
        vendor = Responses()
        events = vendor.begin() + vendor.thoughts("hm") + vendor.call(0, "{", "}")
        server = serve(streamed(events + vendor.finish()), whole(vendor.reply()))
        stream = client.stream("hi", **options(server))
        kinds = [event.type for event in stream.events() if event.type != "other"]
        assert kinds == ["thinking", *["tool_call_delta"] * 3, "tool_call", "finish", "usage"]
        reply = client.chat("hi", **options(server))
        got = stream.response
        assert got is not None
        for name in ("text", "thinking", "tool_calls", "messages", "usage", "raw", "id", "model"):
            assert getattr(got, name) == getattr(reply, name)

    def test_openais_stream_speaks_it_too(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The vendor's function takes the API by its name."""
        server = serve(streamed(transcript()))
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        body = {"model": "m", "input": "hi"}
        assert list(openai.stream(body, _KEY, api="responses")) == ["one ", "two"]
        assert server.bodies() == [{**body, "stream": True}]

    def test_twenty_in_a_row_use_one_connection(
        self, serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a server sends after the last event is read, and the connection kept."""
        monkeypatch.setattr(_open_body, "_DRAIN_SECONDS", _PATIENCE)
        server = serve(streamed(transcript(), b"data: [DONE]\n\n"))
        for _ in range(20):
            assert list(client.stream("hi", **options(server))) == ["one ", "two"]
        stats = client.stats()
        assert (stats.opened, stats.reused, stats.discarded) == (1, 19, 0)
        must_be_at_rest(client, 20)

    def test_left_early_it_is_closed(self, serve: Serve, client: Client) -> None:
        """Its connection is not used again."""
        cut = upto("output_text.delta", transcript())
        server = serve(answer_with(CHUNKED, cut, lambda peer: peer.wait()))
        with client.stream("hi", **options(server)) as stream:
            assert next(stream) == "one "
        assert client.stats().discarded == 1
        must_be_at_rest(client)

    @pytest.mark.parametrize("kind", ["response.failed", "error"])
    def test_a_failure_before_the_reply_is_tried_again(
        self, serve: Serve, client: Client, kind: str
    ) -> None:
        """The events before it say only that the request came."""
        vendor = Responses()
        error = {"code": "server_error", "message": "Sorry."}
        fields = {"response": {"status": "failed", "error": error}} if "." in kind else error
        broken = vendor.begin() + vendor.event(kind, **fields)
        server = serve(streamed(broken), streamed(transcript()))
        stream = client.stream("hi", **options(server))
        assert list(stream) == ["one ", "two"]
        assert stream.response is not None
        assert stream.response.attempts == 2
        must_be_at_rest(client)

    @pytest.mark.parametrize("how", ["failed", "cut", "reset"])
    def test_a_failure_within_the_reply_is_not(
        self, serve: Serve, client: Client, how: str
    ) -> None:
        """What came is told with the error, and nothing is sent twice."""
        vendor, read = Responses(), threading.Event()
        begun = upto("output_text.delta", vendor.begin() + vendor.texts("so far"))
        error = {"code": "rate_limit_exceeded", "message": "Slow down."}
        failure = vendor.event("response.failed", response={"status": "failed", "error": error})
        last: dict[str, Step] = {
            "failed": failure,
            "cut": lambda peer: peer.sock.shutdown(socket.SHUT_WR),
            "reset": Peer.reset,
        }
        framing = TO_THE_CLOSE if how == "cut" else CHUNKED
        server = serve(answer_with(framing, begun, lambda _: read.wait(_PATIENCE), last[how]))
        stream = client.stream("hi", **options(server))
        assert next(stream) == "so far"
        read.set()
        with pytest.raises(StreamInterrupted) as caught:
            next(stream)
        assert caught.value.partial == "so far"
        assert caught.value.code == ("rate_limit_exceeded" if how == "failed" else None)
        assert len(server.requests) == 1
        must_be_at_rest(client)

    def test_a_chat_completion_is_no_stream_of_responses(
        self, serve: Serve, client: Client
    ) -> None:
        """Chunks of the other API are told apart at their end."""
        chunk = {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "x"}}]}
        events = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(chunk).encode()
        server = serve(streamed(events))
        with pytest.raises(TermaiHttpError, match="ended without a response"):
            client.stream("hi", **options(server))

    def test_a_dropped_stream_leaks_nothing(self, serve: Serve, client: Client) -> None:
        """What nobody holds is closed."""
        cut = upto("output_text.delta", transcript())
        server = serve(answer_with(CHUNKED, cut, lambda peer: peer.wait()))
        stream: Stream | None = client.stream("hi", **options(server))
        assert stream is not None
        del stream
        must_be_at_rest(client)
