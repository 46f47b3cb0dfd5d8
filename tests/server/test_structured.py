"""``output=`` on sockets, in every dialect: what goes out, what comes back, and every failure."""

from __future__ import annotations

import json
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pydantic
import pytest

import termai_http
from termai_http import ChatResponse, Client, InvalidRequestError, OutputError
from tests.faults.harness import Peer, RawServer

KEY = "sk-test-0123456789abcdef"
PROMPT = "what nobody else may ever read"
GOOD = '{"city":"Oslo","degrees":-3,"sky":null}'
MISFIT = '{"city":"Oslo","degrees":"cold","sky":null}'
CUT = '{"city":"Osl'


@attrs.define
class Weather:
    """The weather of a city."""

    city: str
    degrees: int
    sky: str = "grey"


class Model(pydantic.BaseModel):
    """The same as a model."""

    city: str
    degrees: int
    sky: str = "grey"


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "degrees": {"type": "integer"},
        "sky": {"type": "string"},
    },
    "required": ["city", "degrees"],
}


def event(payload: Any, name: str = "") -> bytes:
    """Return one event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(payload)}\n\n".encode()


def halves(text: str) -> tuple[str, str]:
    """Cut a text in two."""
    return text[: len(text) // 2], text[len(text) // 2 :]


class OpenAIChat:
    """Chat completions.

    Attributes:
        options: What a call says to speak this dialect.
        cut: Why a reply ends that was cut off.
    """

    options: ClassVar[dict[str, Any]] = {"model": "gpt-5.5"}
    cut = "length"

    def asked(self, body: Any) -> Any:
        """Return the schema that a request asks for."""
        form = body["response_format"]
        assert form["type"] == "json_schema"
        assert form["json_schema"]["strict"] is True
        assert form["json_schema"]["name"]
        return form["json_schema"]["schema"]

    def reply(self, text: str, end: str = "stop") -> Any:
        """Return a whole reply."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": end,
        }
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return {
            "id": "r1",
            "object": "chat.completion",
            "model": "m1",
            "choices": [choice],
            "usage": usage,
        }

    def refusal(self, words: str) -> Any:
        """Return a reply in which the model refuses."""
        body = self.reply("")
        body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": words}
        return body

    def stream(self, text: str, end: str = "stop") -> bytes:
        """Return the events of a reply."""
        deltas: list[Any] = [{"content": piece} for piece in halves(text)]
        return self._events([{"role": "assistant", "content": ""}, *deltas], end)

    def streamed_refusal(self, words: str) -> bytes:
        """Return the events of a refusal."""
        return self._events([{"refusal": piece} for piece in halves(words)], "stop")

    def _events(self, deltas: list[Any], end: str) -> bytes:
        head = {"id": "r1", "object": "chat.completion.chunk", "model": "m1"}
        chunks = [
            {**head, "choices": [{"index": 0, "delta": one, "finish_reason": None}]}
            for one in deltas
        ]
        last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": end}]}
        return b"".join(map(event, [*chunks, last])) + b"data: [DONE]\n\n"


class Claude:
    """Claude messages; attributes and methods are those of ``OpenAIChat``."""

    options: ClassVar[dict[str, Any]] = {"model": "claude-opus-5-5"}
    cut = "max_tokens"

    def asked(self, body: Any) -> Any:
        """Return the schema that a request asks for."""
        form = body["output_config"]["format"]
        assert form["type"] == "json_schema"
        return form["schema"]

    def reply(self, text: str, end: str = "end_turn") -> Any:
        """Return a whole reply."""
        usage = {"input_tokens": 3, "output_tokens": 2}
        head = {"id": "r1", "type": "message", "role": "assistant", "model": "m1", "usage": usage}
        return {**head, "content": [{"type": "text", "text": text}], "stop_reason": end}

    def refusal(self, words: str) -> Any:
        """Return a reply in which the model refuses."""
        return self.reply(words, "refusal")

    def stream(self, text: str, end: str = "end_turn") -> bytes:
        """Return the events of a reply."""
        message = {**self.reply(""), "content": [], "stop_reason": None}
        deltas = [{"type": "text_delta", "text": piece} for piece in halves(text)]
        events: list[Any] = [
            {"type": "message_start", "message": message},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": end}, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ]
        return b"".join(event(one, one["type"]) for one in events)

    def streamed_refusal(self, words: str) -> bytes:
        """Return the events of a refusal."""
        return self.stream(words, "refusal")


class OpenAIResponses:
    """OpenAI responses; attributes and methods are those of ``OpenAIChat``."""

    options: ClassVar[dict[str, Any]] = {"model": "gpt-5.5", "api": "responses"}
    cut = "max_output_tokens"

    def asked(self, body: Any) -> Any:
        """Return the schema that a request asks for."""
        form = body["text"]["format"]
        assert (form["type"], form["strict"]) == ("json_schema", True)
        assert form["name"]
        return form["schema"]

    def reply(self, text: str, end: str = "stop") -> Any:
        """Return a whole reply."""
        return self._whole({"type": "output_text", "text": text, "annotations": []}, end)

    def refusal(self, words: str) -> Any:
        """Return a reply in which the model refuses."""
        return self._whole({"type": "refusal", "refusal": words}, "stop")

    def _whole(self, part: Any, end: str) -> Any:
        message = {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }
        usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        whole = {
            "id": "r1",
            "object": "response",
            "status": "completed",
            "model": "m1",
            "usage": usage,
        }
        cut = (
            {"status": "incomplete", "incomplete_details": {"reason": end}} if end != "stop" else {}
        )
        return {**whole, **cut, "output": [message]}

    def stream(self, text: str, end: str = "stop") -> bytes:
        """Return the events of a reply."""
        return self._events(
            "output_text", {"type": "output_text", "text": ""}, text, self.reply(text, end)
        )

    def streamed_refusal(self, words: str) -> bytes:
        """Return the events of a refusal."""
        return self._events(
            "refusal", {"type": "refusal", "refusal": ""}, words, self.refusal(words)
        )

    def _events(self, kind: str, part: Any, text: str, whole: Any) -> bytes:
        place = {"item_id": "m1", "output_index": 0, "content_index": 0}
        item = {**whole["output"][0], "content": [], "status": "in_progress"}
        begun = {**whole, "status": "in_progress", "output": [], "incomplete_details": None}
        last = "response.incomplete" if whole["status"] == "incomplete" else "response.completed"
        events: list[Any] = [
            {"type": "response.created", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.content_part.added", **place, "part": part},
            *(
                {"type": f"response.{kind}.delta", **place, "delta": piece}
                for piece in halves(text)
            ),
            {"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]},
            {"type": last, "response": whole},
        ]
        numbered = [{**one, "sequence_number": at} for at, one in enumerate(events)]
        return b"".join(event(one, one["type"]) for one in numbered)


Dialect = OpenAIChat | Claude | OpenAIResponses
each_dialect = pytest.mark.parametrize(
    "dialect", [OpenAIChat(), Claude(), OpenAIResponses()], ids=lambda one: type(one).__name__
)
each_way = pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])


class Canned:
    """A server that answers everything with the same body."""

    def __init__(self) -> None:
        self.body = b""
        self.requests: list[Any] = []
        self._raw = RawServer(self._handle)

    def answer(self, reply: Any) -> str:
        """Set what it answers with, a JSON object or the bytes of events; return its URL."""
        self.body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        return self._raw.url

    def close(self) -> None:
        """End it."""
        self._raw.close()

    def _handle(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            self.requests.append(json.loads(request.partition(b"\r\n\r\n")[2]))
            kind = b"text/event-stream" if self.requests[-1].get("stream") else b"application/json"
            head = b"HTTP/1.1 200 OK\r\nx-request-id: req_1\r\nrequest-id: req_1\r\n"
            head += b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(self.body))
            peer.send(head + self.body)


@pytest.fixture
def canned() -> Iterator[Canned]:
    """A server with a canned answer."""
    server = Canned()
    yield server
    server.close()


Ask = Callable[..., ChatResponse]


@pytest.fixture
def ask(client: Client, canned: Canned) -> Ask:
    """Ask for an output, whole or streamed, and return the whole reply."""

    def ask(
        dialect: Dialect, answer: Any, streamed: bool, output: Any = Weather, **more: Any
    ) -> Any:
        options: ClassVar[dict[str, Any]] = {
            **dialect.options,
            "api_key": KEY,
            "base_url": canned.answer(answer),
            **more,
        }
        if not streamed:
            return client.chat(PROMPT, output=output, **options)
        with client.stream(PROMPT, output=output, **options) as stream:
            for _ in stream:
                assert stream.response is None
        assert stream.response is not None
        return stream.response

    return ask


def said(dialect: Dialect, text: str, streamed: bool, *end: str) -> Any:
    """Return the answer that says a text."""
    return dialect.stream(text, *end) if streamed else dialect.reply(text, *end)


def refusing(dialect: Dialect, words: str, streamed: bool) -> Any:
    """Return the answer that refuses."""
    return dialect.streamed_refusal(words) if streamed else dialect.refusal(words)


@each_way
@each_dialect
class TestGood:
    """Replies that fit."""

    @pytest.mark.parametrize(
        ("output", "parsed"),
        [
            (Weather, Weather("Oslo", -3)),
            (Model, Model(city="Oslo", degrees=-3)),
            (SCHEMA, {"city": "Oslo", "degrees": -3}),
        ],
        ids=["class", "model", "schema"],
    )
    def test_the_reply_is_the_value(
        self, ask: Ask, canned: Canned, dialect: Dialect, streamed: bool, output: Any, parsed: Any
    ) -> None:
        """``parsed`` is what was asked for, with the text as the model wrote it beside it."""
        reply = ask(dialect, said(dialect, GOOD, streamed), streamed, output)
        assert reply.parsed == parsed
        assert type(reply.parsed) is type(parsed)
        assert reply.text == GOOD
        schema = dialect.asked(canned.requests[0])
        assert schema["required"] == ["city", "degrees", "sky"]
        assert schema["additionalProperties"] is False

    def test_what_is_no_object_comes_out_of_one(
        self, ask: Ask, canned: Canned, dialect: Dialect, streamed: bool
    ) -> None:
        """A list is asked for as an object and comes back as a list."""
        answer = said(dialect, f'{{"value":[{GOOD}]}}', streamed)
        assert ask(dialect, answer, streamed, list[Weather]).parsed == [Weather("Oslo", -3)]
        assert dialect.asked(canned.requests[0])["required"] == ["value"]

    def test_a_fence_is_taken_off(self, ask: Ask, dialect: Dialect, streamed: bool) -> None:
        """Servers that know of no schema answer as models like to."""
        reply = ask(dialect, said(dialect, f"```json\n{GOOD}\n```", streamed), streamed)
        assert reply.parsed == Weather("Oslo", -3)

    def test_nothing_is_parsed_unasked(self, ask: Ask, dialect: Dialect, streamed: bool) -> None:
        """Without ``output=`` the text is all."""
        assert ask(dialect, said(dialect, GOOD, streamed), streamed, None).parsed is None


FAILURES: dict[str, Callable[[Dialect, bool], Any]] = {
    "misfit": lambda dialect, streamed: said(dialect, MISFIT, streamed),
    "refusal": lambda dialect, streamed: refusing(dialect, "I will not.", streamed),
    "cut": lambda dialect, streamed: said(dialect, CUT, streamed, dialect.cut),
    "prose": lambda dialect, streamed: said(dialect, "It is cold.", streamed),
}


@each_way
@each_dialect
class TestFailures:
    """Replies that do not fit."""

    def fail(self, ask: Ask, dialect: Dialect, streamed: bool, failure: str) -> OutputError:
        """Return the error of a failure."""
        with pytest.raises(OutputError) as caught:
            ask(dialect, FAILURES[failure](dialect, streamed), streamed)
        return caught.value

    def test_a_misfit_has_its_place(self, ask: Ask, dialect: Dialect, streamed: bool) -> None:
        """Path and reason say what did not fit; the reply is in the error."""
        error = self.fail(ask, dialect, streamed, "misfit")
        assert (error.path, error.code, error.text) == ("$.degrees", None, MISFIT)
        assert "output=Weather: at $.degrees: Expected `int`, got `str`" in str(error)

    def test_a_refusal_has_its_code(self, ask: Ask, dialect: Dialect, streamed: bool) -> None:
        """The model's words are in the error, not in its message."""
        error = self.fail(ask, dialect, streamed, "refusal")
        assert (error.path, error.code) == (None, "refusal")
        assert error.text == "I will not."
        assert "refused" in str(error)

    def test_a_cut_says_what_to_raise(self, ask: Ask, dialect: Dialect, streamed: bool) -> None:
        """The vendor's own word is the code."""
        error = self.fail(ask, dialect, streamed, "cut")
        assert (error.path, error.code, error.text) == (None, dialect.cut, CUT)
        assert "max_tokens" in str(error)

    def test_prose_is_no_json(self, ask: Ask, dialect: Dialect, streamed: bool) -> None:
        """Nothing is read out of words."""
        error = self.fail(ask, dialect, streamed, "prose")
        assert (error.path, error.code, error.text) == (None, None, "It is cold.")

    @pytest.mark.parametrize("failure", FAILURES)
    def test_it_is_raised_once_and_counted(
        self,
        ask: Ask,
        client: Client,
        canned: Canned,
        dialect: Dialect,
        streamed: bool,
        failure: str,
    ) -> None:
        """Nothing is asked again; the call failed, was billed, and gave its connection back."""
        error = self.fail(ask, dialect, streamed, failure)
        assert len(canned.requests) == error.attempts == 1
        assert (error.status_code, error.request_id, error.maybe_billed) == (200, "req_1", True)
        assert error.model == dialect.options["model"]
        assert error.elapsed is not None
        stats = client.stats()
        assert (stats.calls.total_requests, stats.calls.failed_requests) == (1, 1)
        assert stats.calls.failures_by_class == {"OutputError": 1}
        assert error.usage is not None
        assert stats.calls.output_tokens == error.usage.output_tokens
        assert (stats.active_connections, stats.waiting, stats.calls.in_flight) == (0, 0, 0)
        assert stats.idle_connections == 1

    @pytest.mark.parametrize("failure", FAILURES)
    def test_it_shows_neither_key_nor_prompt(
        self, ask: Ask, dialect: Dialect, streamed: bool, failure: str
    ) -> None:
        """Not in its text, its pickle, or what stands in the frames of ours."""
        error = self.fail(ask, dialect, streamed, failure)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.text, again.path) == (str(error), error.text, error.path)
        home = str(Path(termai_http.__file__).parent)
        frames = [
            f"{name}: {value}"
            for frame in traceback.TracebackException.from_exception(
                error, capture_locals=True
            ).stack
            if frame.filename.startswith(home)
            for name, value in (frame.locals or {}).items()
        ]
        shown = " ".join([str(error), repr(error), repr(vars(error)), *frames])
        assert KEY not in shown
        assert PROMPT not in shown
        assert error.__cause__ is None
        assert error.__context__ is None


@each_dialect
def test_a_stream_gives_its_text_before_it_fails(
    client: Client, canned: Canned, dialect: Dialect
) -> None:
    """What came is there; the error comes at the end, in the place of the whole reply."""
    url = canned.answer(dialect.stream(MISFIT))
    stream = client.stream(PROMPT, output=Weather, api_key=KEY, base_url=url, **dialect.options)
    pieces = [next(stream), next(stream)]
    with pytest.raises(OutputError):
        next(stream)
    assert "".join(pieces) == stream.text == MISFIT
    assert stream.response is None
    assert list(stream) == []


def test_a_tool_call_is_no_output(client: Client, canned: Canned) -> None:
    """A turn that asks for a tool has no output yet."""
    dialect = OpenAIChat()
    answer = dialect.reply("", "tool_calls")
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    answer["choices"][0]["message"]["tool_calls"] = [call]
    url = canned.answer(answer)
    reply = client.chat(PROMPT, output=Weather, api_key=KEY, base_url=url, **dialect.options)
    assert reply.parsed is None
    assert reply.tool_calls[0].name == "look"


@pytest.mark.parametrize("output", [dict[str, int], {"type": "object"}, object, Weather("a", 1)])
def test_nothing_is_sent_for_what_cannot_be(client: Client, canned: Canned, output: Any) -> None:
    """A type without a strict schema is refused before anything goes out."""
    url = canned.answer({})
    with pytest.raises(InvalidRequestError, match="output=") as caught:
        client.chat(PROMPT, output=output, model="gpt-5.5", api_key=KEY, base_url=url)
    assert caught.value.attempts == 0
    assert canned.requests == []
    assert PROMPT not in str(caught.value)


def test_many_threads_ask_for_one_type(client: Client, canned: Canned) -> None:
    """The same type from many threads at a time is the same request each time."""
    url = canned.answer(OpenAIChat().reply(GOOD))
    barrier = threading.Barrier(8)
    replies = []

    def one() -> None:
        barrier.wait(20)
        options: ClassVar[dict[str, Any]] = {"model": "gpt-5.5", "api_key": KEY, "base_url": url}
        replies.append(client.chat(PROMPT, output=Weather, **options).parsed)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert replies == [Weather("Oslo", -3)] * 8
    assert all(request == canned.requests[0] for request in canned.requests)
