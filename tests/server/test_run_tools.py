"""``run_tools`` on sockets, in every dialect: what goes out in each round, and what comes of it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest

import termai_http
from termai_http import (
    APIConnectionError,
    BadRequestError,
    CallCancelled,
    CancelToken,
    Client,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    HttpClientConfig,
    Image,
    InvalidRequestError,
    OutputError,
    RetryConfig,
    TermaiHttpError,
    ToolRun,
)
from termai_http._call import Clock
from tests.contract.security_tools import frames_with_locals, must_hide
from tests.faults.harness import KEY, PROMPT, Peer, RawServer

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16


class Canned(RawServer):
    """Answers requests in turn with the bodies given, the last one for ever.

    Attributes:
        bodies: The bodies of the requests that came.
    """

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self._turn = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        super().__init__(self._answer)

    def _answer(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            body = json.loads(request.partition(b"\r\n\r\n")[2])
            with self._turn:
                self.bodies.append(body)
                first = self._answers[0]
                answer = self._answers.pop(0) if len(self._answers) > 1 else first
            if callable(answer):
                answer = answer(body)
            peer.send(answer if isinstance(answer, bytes) else whole(answer))


def whole(body: Any, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """Return a whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


Call = tuple[str, str, str]
"""A call of a tool: its id, its name, its arguments as the model wrote them."""


class OpenAIChat:
    """OpenAI's chat completions, as the vendor writes them."""

    options: Mapping[str, Any] = {"model": "gpt-5.5"}

    def answer(self, *calls: Call, text: str | None = None, reason: str | None = None) -> Any:
        """Return a reply that says something or asks for tools."""
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message["tool_calls"] = self.turn(*calls)["tool_calls"]
        reason = reason or ("tool_calls" if calls else "stop")
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-5.5",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        }

    def turn(self, *calls: Call) -> dict[str, Any]:
        """Return the assistant's turn in the next request."""
        made = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": text}}
            for id, name, text in calls
        ]
        return {"role": "assistant", "content": None, "tool_calls": made}

    def history(self, body: Mapping[str, Any]) -> list[Any]:
        """Return what a request says of the conversation."""
        return list(body["messages"])

    def results(self, *results: tuple[str, str, bool]) -> list[Any]:
        """Return the results in the next request: id, text, and whether it is an error."""
        return [{"role": "tool", "tool_call_id": id, "content": text} for id, text, _ in results]

    def tool(self, name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a strict tool in a request."""
        return {
            "type": "function",
            "function": {
                "name": name,
                "description": description,
                "parameters": schema,
                "strict": True,
            },
        }

    def plain_tool(self, name: str) -> dict[str, Any]:
        """Return the vendor's own JSON of a tool."""
        return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


class Claude:
    """Claude's messages, as the vendor writes them."""

    options: Mapping[str, Any] = {"model": "claude-opus-5-5"}

    def answer(self, *calls: Call, text: str | None = None, reason: str | None = None) -> Any:
        """Return a reply that says something or asks for tools."""
        content = [{"type": "text", "text": text}] if text is not None else []
        content = self.turn(*calls)["content"] if calls else content
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-5-5",
            "content": content,
            "stop_reason": reason or ("tool_use" if calls else "end_turn"),
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 2},
        }

    def turn(self, *calls: Call) -> dict[str, Any]:
        """Return the assistant's turn in the next request, its thinking unchanged."""
        thinking = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
        made = [
            {"type": "tool_use", "id": id, "name": name, "input": json.loads(text)}
            for id, name, text in calls
        ]
        return {"role": "assistant", "content": [thinking, *made]}

    def history(self, body: Mapping[str, Any]) -> list[Any]:
        """Return what a request says of the conversation."""
        return list(body["messages"])

    def results(self, *results: tuple[str, str, bool]) -> list[Any]:
        """Return the results in the next request: id, text, and whether it is an error."""
        blocks = [
            {
                "type": "tool_result",
                "tool_use_id": id,
                "content": text,
                **({"is_error": True} if wrong else {}),
            }
            for id, text, wrong in results
        ]
        return [{"role": "user", "content": blocks}]

    def tool(self, name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a strict tool in a request."""
        return {"name": name, "description": description, "input_schema": schema}

    def plain_tool(self, name: str) -> dict[str, Any]:
        """Return the vendor's own JSON of a tool."""
        return {"name": name, "input_schema": {"type": "object"}}


class OpenAIResponses:
    """OpenAI's responses, as the vendor writes them."""

    options: Mapping[str, Any] = {"model": "gpt-5.5", "api": "responses"}

    def answer(self, *calls: Call, text: str | None = None, reason: str | None = None) -> Any:
        """Return a reply that says something or asks for tools."""
        output: list[Any] = self.items(*calls)
        if text is not None:
            part = {"type": "output_text", "text": text, "annotations": []}
            message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
            output = [{**message, "status": "completed"}]
        details = {"reason": "max_output_tokens"} if reason else None
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "incomplete" if reason else "completed",
            "error": None,
            "incomplete_details": details,
            "model": "gpt-5.5",
            "output": output,
            "usage": {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12},
        }

    def items(self, *calls: Call) -> list[Any]:
        """Return the calls as items."""
        return [
            {
                "type": "function_call",
                "id": f"fc_{id}",
                "call_id": id,
                "name": name,
                "arguments": text,
                "status": "completed",
            }
            for id, name, text in calls
        ]

    def turn(self, *calls: Call) -> Any:
        """Return the assistant's turn in the next request."""
        return self.items(*calls)

    def history(self, body: Mapping[str, Any]) -> list[Any]:
        """Return what a request says of the conversation."""
        given = body["input"]
        return [{"role": "user", "content": given}] if isinstance(given, str) else list(given)

    def results(self, *results: tuple[str, str, bool]) -> list[Any]:
        """Return the results in the next request: id, text, and whether it is an error."""
        return [
            {"type": "function_call_output", "call_id": id, "output": text}
            for id, text, _ in results
        ]

    def tool(self, name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a strict tool in a request."""
        return {
            "type": "function",
            "name": name,
            "description": description,
            "parameters": schema,
            "strict": True,
        }

    def plain_tool(self, name: str) -> dict[str, Any]:
        """Return the vendor's own JSON of a tool."""
        return {"type": "function", "name": name, "parameters": {"type": "object"}}


Vendor = OpenAIChat | Claude | OpenAIResponses
VENDORS: list[Vendor] = [OpenAIChat(), Claude(), OpenAIResponses()]
each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: type(vendor).__name__)


@pytest.fixture
def serve() -> Iterator[Callable[..., Canned]]:
    """Run canned servers until the test ends."""
    servers: list[Canned] = []

    def run(*answers: Any) -> Canned:
        servers.append(Canned(*answers))
        return servers[-1]

    yield run
    for server in servers:
        server.close()


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that retries without long waits."""
    retry = RetryConfig(base_delay=0.001, max_delay=0.002)
    with Client(HttpClientConfig(retry=retry, trust_env=False)) as made:
        yield made


def run(client: Client, vendor: Vendor, server: Canned, tools: Any, **options: Any) -> ToolRun:
    """Run tools with the canary's key and prompt."""
    given = {**vendor.options, "api_key": KEY, "base_url": server.url, **options}
    return client.run_tools(given.pop("prompt", PROMPT), tools=tools, **given)


def weather(city: str, unit: str = "c") -> str:
    """Tell the weather.

    Args:
        city: The city.
        unit: c or f.
    """
    if city == "Atlantis":
        raise LookupError("there is no such city")
    return f"{city}: 20 {unit}"


def flat(turns: list[Any]) -> list[Any]:
    """Return turns, those of responses, which are many items, one after the other."""
    made: list[Any] = []
    for turn in turns:
        made += turn if isinstance(turn, list) else [turn]
    return made


@each_vendor
def test_the_second_round_says_what_the_vendor_wants(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """Tools, the assistant's turn and the results go out in the vendor's own form."""
    calls = [
        ("c1", "weather", '{"city":"Rome","unit":"f"}'),
        ("c2", "weather", '{"city":"Atlantis","unit":null}'),
        ("c3", "whether", "{}"),
    ]
    server = serve(vendor.answer(*calls), vendor.answer(text="fine"))
    done = run(client, vendor, server, [weather])
    first, second = server.bodies
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The city."},
            "unit": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "description": "c or f. (null leaves it out)",
            },
        },
        "required": ["city", "unit"],
        "additionalProperties": False,
    }
    told = dict(first["tools"][0])
    if isinstance(vendor, Claude):
        told.pop("strict", None)
    assert told == vendor.tool("weather", "Tell the weather.", schema)
    assert second["tools"] == first["tools"]
    assert vendor.history(first) == [{"role": "user", "content": PROMPT}]
    unknown = "ArgumentsError: There is no tool 'whether'. There are: weather."
    results = vendor.results(
        ("c1", "Rome: 20 f", False),
        ("c2", "LookupError: there is no such city", True),
        ("c3", unknown, True),
    )
    user = {"role": "user", "content": PROMPT}
    assert vendor.history(second) == flat([user, vendor.turn(*calls), *results])
    assert (done.text, done.finished, len(done.replies)) == ("fine", True, 2)
    assert (done.usage.input_tokens, done.usage.output_tokens) == (20, 4)
    assert [called.error for called in done.calls] == [
        None,
        "LookupError: there is no such city",
        unknown,
    ]


@each_vendor
def test_the_exchange_is_the_next_calls_prompt(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """The messages of a run go out again as they went in, with a new turn behind them."""
    server = serve(
        vendor.answer(("c1", "weather", '{"city":"Rome","unit":null}')),
        vendor.answer(text="20 degrees"),
        vendor.answer(text="no"),
    )
    done = run(client, vendor, server, [weather])
    again = {"role": "user", "content": "Will it rain?"}
    run(client, vendor, server, [weather], prompt=[*done.messages, again])
    before, after = (vendor.history(body) for body in server.bodies[1:])
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2
    assert after[-1] == again
    assert "20 degrees" in json.dumps(after[-2])


@each_vendor
def test_the_exchange_goes_on_with_another_vendor(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """Tool calls and results of one vendor are told to each of the others."""
    server = serve(
        vendor.answer(("c1", "weather", '{"city":"Rome","unit":null}')), vendor.answer(text="20")
    )
    done = run(client, vendor, server, [weather])
    for other in VENDORS:
        there = serve(other.answer(text="yes"))
        again = [*done.messages, {"role": "user", "content": "Really?"}]
        assert run(client, other, there, [weather], prompt=again).text == "yes"
        text = json.dumps(there.bodies[0])
        assert "Rome: 20 c" in text
        assert text.count("c1") >= 2


@each_vendor
def test_all_rounds_use_one_connection(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """A connection that a round gave back is the next one's."""
    call = ("c1", "weather", '{"city":"Rome","unit":null}')
    server = serve(*[vendor.answer(call)] * 4, vendor.answer(text="fine"))
    assert len(run(client, vendor, server, [weather]).replies) == 5
    stats = client.stats()
    assert (server.connections, stats.opened, stats.reused) == (1, 1, 4)
    assert (stats.active_connections, stats.calls.total_requests) == (0, 5)


@each_vendor
def test_a_server_that_asks_for_ever_is_ended(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """``max_rounds`` ends what has no end of its own, and the exchange is there."""
    server = serve(vendor.answer(("c1", "weather", '{"city":"Rome","unit":null}')))
    done = run(client, vendor, server, [weather], max_rounds=4)
    assert len(server.bodies) == len(done.replies) == 4
    assert (done.finished, [call.id for call in done.pending]) == (False, ["c1"])
    assert len(done.calls) == 3


@each_vendor
def test_what_the_vendors_own_tools_ask_for_is_pending(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """The functions' results are there; with the caller's own the exchange goes on."""
    calls = [("c1", "weather", '{"city":"Rome","unit":null}'), ("c2", "mine", '{"x": 1}')]
    server = serve(vendor.answer(*calls), vendor.answer(text="fine"))
    tools = [weather, vendor.plain_tool("mine")]
    done = run(client, vendor, server, tools)
    (pending,) = done.pending
    assert (pending.id, pending.name, pending.arguments) == ("c2", "mine", {"x": 1})
    mine = {"role": "tool", "tool_call_id": "c2", "content": "my own"}
    assert run(client, vendor, server, tools, prompt=[*done.messages, mine]).text == "fine"
    expected = vendor.results(("c1", "Rome: 20 c", False), ("c2", "my own", False))
    assert vendor.history(server.bodies[1])[-len(expected) :] == expected


@each_vendor
def test_an_image_as_a_result_is_shown_to_the_model(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """Every dialect has a way to say it."""

    def look(at: str) -> Image:
        """Look."""
        return Image(PNG)

    server = serve(vendor.answer(("c1", "look", '{"at":"it"}')), vendor.answer(text="fine"))
    assert run(client, vendor, server, [look]).text == "fine"
    assert Image(PNG).source.base64 in json.dumps(server.bodies[1])


@attrs.frozen
class Answer:
    """What the last reply shall be."""

    degrees: int


@each_vendor
def test_the_last_reply_is_of_the_type_asked_for(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """``output=`` goes with every round, and only a reply without calls is read as it."""
    server = serve(
        vendor.answer(("c1", "weather", '{"city":"Rome","unit":null}')),
        vendor.answer(text='{"degrees": 20}'),
    )
    done = run(client, vendor, server, [weather], output=Answer)
    assert done.parsed == Answer(20)
    assert done.replies[0].parsed is None
    assert all("degrees" in json.dumps(body) for body in server.bodies)


@each_vendor
def test_a_last_reply_of_another_form_is_an_error_that_keeps_the_exchange(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """What does not fit ``output=`` raises, with the calls that were made in the list."""
    exchange: list[Any] = []
    server = serve(
        vendor.answer(("c1", "weather", '{"city":"Rome","unit":null}')),
        vendor.answer(text="about 20"),
    )
    with pytest.raises(OutputError):
        run(client, vendor, server, [weather], output=Answer, exchange=exchange)
    assert "Rome: 20 c" in json.dumps(exchange)


@each_vendor
def test_a_call_that_was_cut_off_is_not_made(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """A reply that its limit of tokens ended has a last call that may lack something."""
    reason = "max_tokens" if isinstance(vendor, Claude) else "length"
    made: list[str] = []

    def note(text: str = "nothing") -> None:
        """Note it."""
        made.append(text)

    server = serve(vendor.answer(("c1", "note", "{}"), reason=reason), vendor.answer(text="fine"))
    done = run(client, vendor, server, [note])
    assert (made, done.text) == ([], "fine")
    assert "cut off" in str(done.calls[0].error)


@each_vendor
def test_a_round_is_tried_again_like_any_call(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """An overloaded server in the middle costs an attempt of that round, and no call of a tool."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    server = serve(
        vendor.answer(("c1", "weather", '{"city":"Rome","unit":null}')),
        whole(error, "503 Busy"),
        vendor.answer(text="fine"),
    )
    done = run(client, vendor, server, [weather])
    assert [reply.attempts for reply in done.replies] == [1, 2]
    assert (len(done.calls), server.bodies[1]) == (1, server.bodies[2])


@each_vendor
def test_an_error_of_a_later_round_loses_nothing(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """The list holds the exchange as it was sent, and a later run goes on from there."""
    refusal = {"error": {"type": "invalid_request_error", "message": "no"}}
    server = serve(
        vendor.answer(("c1", "weather", '{"city":"Rome","unit":null}')),
        whole(refusal, "400 Bad Request"),
        vendor.answer(text="fine"),
    )
    exchange: list[Any] = []
    with pytest.raises(BadRequestError) as caught:
        run(client, vendor, server, [weather], exchange=exchange)
    must_hide(str(caught.value) + repr(vars(caught.value)) + frames_with_locals(caught.value))
    assert run(client, vendor, server, [weather], prompt=exchange).text == "fine"
    assert vendor.history(server.bodies[2]) == vendor.history(server.bodies[1])


@each_vendor
def test_a_forced_tool_is_forced_in_the_first_round_only(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """Else the model would call it for ever."""
    call = ("c1", "weather", '{"city":"Rome","unit":null}')
    server = serve(vendor.answer(call), vendor.answer(text="fine"))
    run(client, vendor, server, [weather], tool_choice="weather")
    first, second = (body.get("tool_choice") for body in server.bodies)
    assert "weather" in json.dumps(first)
    assert second is None


def test_a_paused_turn_of_claudes_goes_on(serve: Callable[..., Canned], client: Client) -> None:
    """A turn in which Claude's own tools take long comes back whole, and is sent back so."""
    block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
    vendor = Claude()
    paused = {**vendor.answer(text=""), "content": [block], "stop_reason": "pause_turn"}
    server = serve(paused, vendor.answer(text="found"))
    search = {"type": "web_search_20250305", "name": "web_search"}
    done = run(client, vendor, server, [search])
    assert done.text == "found"
    assert server.bodies[1]["messages"][1] == {"role": "assistant", "content": [block]}


def test_a_paused_turn_is_no_output_yet(serve: Callable[..., Canned], client: Client) -> None:
    """With ``output=`` only the turn that ends is read as it, and a paused one goes on."""
    block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
    vendor = Claude()
    paused = {**vendor.answer(text=""), "content": [block], "stop_reason": "pause_turn"}
    server = serve(paused, vendor.answer(text='{"degrees": 20}'))
    search = {"type": "web_search_20250305", "name": "web_search"}
    done = run(client, vendor, server, [search], output=Answer)
    assert done.parsed == Answer(20)
    assert [reply.parsed for reply in done.replies] == [None, done.parsed]


def test_the_deadline_spans_the_rounds(serve: Callable[..., Canned]) -> None:
    """What the functions take is gone from it: the next round is not begun."""
    now = [1000.0]
    clock = Clock(monotonic=lambda: now[0])
    vendor = OpenAIChat()

    def slow() -> str:
        """Take long."""
        now[0] += 6.0
        return "done"

    server = serve(vendor.answer(("c1", "slow", "{}")))
    with Client(HttpClientConfig(trust_env=False), _clock=clock) as client:
        with pytest.raises(DeadlineExceeded, match="deadline of 10 s passed") as caught:
            run(client, vendor, server, [slow], timeout=10.0)
        assert (caught.value.attempts, caught.value.provider) == (2, "openai")
        assert caught.value.elapsed == pytest.approx(12.0)
        assert client.stats().calls.in_flight == 0
    assert len(server.bodies) == 2


def test_a_round_has_only_what_is_left(serve: Callable[..., Canned], client: Client) -> None:
    """A server that is silent in a later round is left when the run's time is over."""
    vendor = OpenAIChat()
    silent = threading.Event()

    def never(body: Any) -> bytes:
        silent.wait(30)
        return b""

    server = serve(vendor.answer(("c1", "weather", '{"city":"Rome","unit":null}')), never)
    exchange: list[Any] = []
    with pytest.raises(DeadlineExceeded):
        run(client, vendor, server, [weather], timeout=0.5, exchange=exchange)
    silent.set()
    assert [message["role"] for message in exchange] == ["user", "assistant", "tool"]


def test_a_cancelled_run_ends_between_two_functions(
    serve: Callable[..., Canned], client: Client
) -> None:
    """A token cancelled in a function leaves the next one uncalled."""
    token, made = CancelToken(), []

    def note(n: int) -> None:
        """Note it, and cancel."""
        made.append(n)
        token.cancel()

    vendor = OpenAIChat()
    server = serve(vendor.answer(("c1", "note", '{"n":1}'), ("c2", "note", '{"n":2}')))
    with pytest.raises(CallCancelled):
        run(client, vendor, server, [note], cancel=token)
    assert (made, len(server.bodies)) == ([1], 1)


def test_a_client_that_a_function_closes_is_closed_for_the_next_round(
    serve: Callable[..., Canned], client: Client
) -> None:
    """The run ends with ``ClientClosed``, as a call would."""

    def shut() -> None:
        """Close the client."""
        client.close()

    vendor = OpenAIChat()
    server = serve(vendor.answer(("c1", "shut", "{}")))
    with pytest.raises(ClientClosed):
        run(client, vendor, server, [shut])


def test_a_function_may_call_the_model_itself(serve: Callable[..., Canned], client: Client) -> None:
    """A chat inside a tool is a call of its own, also on the same client."""
    vendor = OpenAIChat()
    inner = serve(vendor.answer(text="inner"))

    def ask() -> str:
        """Ask."""
        return client.chat("x", model="m", api_key=KEY, base_url=inner.url).text

    server = serve(vendor.answer(("c1", "ask", "{}")), vendor.answer(text="outer"))
    done = run(client, vendor, server, [ask])
    assert (done.text, done.calls[0].result) == ("outer", "inner")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, GeneratorExit])
@each_vendor
def test_what_passes_through_shows_no_secret(
    vendor: Vendor,
    failure: type[BaseException],
    serve: Callable[..., Canned],
    client: Client,
) -> None:
    """A Ctrl-C in a function goes to the caller through clean frames, and nothing stays in use."""

    def tear() -> None:
        """Tear."""
        raise failure

    server = serve(vendor.answer(("c1", "tear", "{}")))
    exchange: list[Any] = []
    given = {**vendor.options, "api_key": KEY, "base_url": server.url, "exchange": exchange}
    ways: list[Callable[[], Any]] = [
        lambda: client.run_tools(PROMPT, tools=[tear], system=PROMPT, **given),
        lambda: termai_http.run_tools(PROMPT, tools=[tear], system=PROMPT, client=client, **given),
    ]
    for way in ways:
        exchange.clear()
        with pytest.raises(failure) as caught:
            way()
        must_hide(frames_with_locals(caught.value))
        assert exchange[-1]["is_error"] is True
    stats = client.stats()
    assert (stats.active_connections, stats.calls.in_flight) == (0, 0)


def test_errors_show_no_secret(serve: Callable[..., Canned], client: Client) -> None:
    """What is refused before sending, and what fails, shows neither key nor prompt."""
    vendor = OpenAIChat()
    error = {"error": {"message": f"You sent {PROMPT} with {KEY}"}}
    server = serve(vendor.answer(("c1", "weather", '{"city":"Rome"}')), whole(error, "400 No"))
    given: dict[str, Any] = {"api_key": KEY, "base_url": server.url, "model": "m"}
    ways: list[Callable[[], Any]] = [
        lambda: termai_http.run_tools(PROMPT, tools=[weather], client=client, **given),
        lambda: client.run_tools(PROMPT, tools=[weather], max_rounds=0, **given),
        lambda: client.run_tools(PROMPT, tools=[len], **given),
        lambda: client.run_tools(PROMPT, tools=[weather], exchange=PROMPT, **given),
        lambda: client.run_tools(PROMPT, tools=None, **given),
        lambda: client.run_tools([PROMPT, 5], tools=[weather], **given),
        lambda: client.run_tools(PROMPT, tools=[weather], timeout=-1, **given),
    ]
    for way in ways:
        with pytest.raises(TermaiHttpError) as caught:
            way()
        error_text = f"{caught.value} {caught.value!r} {vars(caught.value)}"
        must_hide(error_text + frames_with_locals(caught.value))


def test_wrong_arguments_send_nothing(serve: Callable[..., Canned], client: Client) -> None:
    """Tools, rounds and options are looked at before the first byte."""
    vendor = OpenAIChat()
    server = serve(vendor.answer(text="never"))
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (InvalidRequestError, {"tools": [lambda x: x]}),
        (InvalidRequestError, {"tools": weather}),
        (InvalidRequestError, {"tools": [weather], "max_rounds": 0}),
        (InvalidRequestError, {"tools": [weather], "exchange": "x"}),
        (InvalidRequestError, {"tools": [weather], "prompt": []}),
        (InvalidRequestError, {"tools": [weather], "timout": 3}),
        (InvalidRequestError, {"tools": [weather], "cancel": "now"}),
        (ConfigurationError, {"tools": [weather], "timeout": 0}),
        (ConfigurationError, {"tools": [weather], "provider": "x"}),
    ]
    for kind, given in wrong:
        tools = given.pop("tools")
        with pytest.raises(kind):
            run(client, vendor, server, tools, **given)
    with pytest.raises(ConfigurationError, match="client must be"):
        termai_http.run_tools("x", tools=[weather], client="c", model="m")  # type: ignore[arg-type]
    assert server.bodies == []


def test_the_process_wide_client_runs_them_too(
    serve: Callable[..., Canned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``run_tools`` takes the shared client where none is given."""
    vendor = OpenAIChat()
    call = ("c1", "weather", '{"city":"Rome","unit":null}')
    server = serve(vendor.answer(call), vendor.answer(text="fine"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert termai_http.run_tools("hello", tools=[weather], model="gpt-5.5").text == "fine"
    assert termai_http.stats().calls.total_requests == 2
    termai_http.close()


def test_nothing_of_an_exchange_is_logged(
    serve: Callable[..., Canned], client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing tool and a run without an end leave lines that show nothing of it."""
    vendor = OpenAIChat()
    server = serve(vendor.answer(("c1", "fail", "{}")))

    def fail() -> None:
        """Fail."""
        raise ValueError(PROMPT)

    with caplog.at_level(logging.DEBUG):
        run(client, vendor, server, [fail], max_rounds=2)
    assert "fail raised ValueError" in caplog.text
    must_hide(caplog.text)


@each_vendor
def test_many_threads_may_run_the_same_tools(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """Runs share functions and client; each has its own exchange."""

    def answer(body: Mapping[str, Any]) -> bytes:
        text = json.dumps(vendor.history(body))
        number = text.partition("number ")[2].partition(" ")[0]
        if f"= {number}" in text:
            return whole(vendor.answer(text=f"is {number}"))
        return whole(vendor.answer((f"c{number}", "same", f'{{"n": {number}}}')))

    def same(n: int) -> str:
        """Return it."""
        return f"= {n}"

    server = serve(answer)
    tools = [same]

    def one(number: int) -> tuple[str, list[Any]]:
        done = run(client, vendor, server, tools, prompt=f"number {number} please")
        return done.text, [called.result for called in done.calls]

    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(one, range(64)))
    assert got == [(f"is {number}", [f"= {number}"]) for number in range(64)]
    assert client.stats().calls.total_requests == 128


def events(vendor: Vendor) -> bytes:
    """Return a stream in which the model calls a tool, as the vendor writes it."""
    if isinstance(vendor, OpenAIChat):
        begin = {"index": 0, "id": "c1", "type": "function"}
        pieces: list[Any] = [
            {"tool_calls": [{**begin, "function": {"name": "weather", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]},
        ]
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.5"}
        chunks = [
            {**chunk, "choices": [{"index": 0, "delta": piece, "finish_reason": None}]}
            for piece in pieces
        ]
        end = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
        chunks.append({**chunk, "choices": [end]})
        lines = [f"data: {json.dumps(one)}\n\n" for one in chunks]
        return ("".join(lines) + "data: [DONE]\n\n").encode()
    if isinstance(vendor, Claude):
        message = {**vendor.answer(text=""), "content": [], "stop_reason": None}
        use = {"type": "tool_use", "id": "c1", "name": "weather", "input": {}}
        told: list[Any] = [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": use},
            *(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "input_json_delta", "partial_json": piece},
                }
                for piece in ('{"city":', '"Rome"}')
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "tool_use", "stop_sequence": None},
                "usage": {"output_tokens": 2},
            },
            {"type": "message_stop"},
        ]
    else:
        (item,) = vendor.items(("c1", "weather", '{"city":"Rome"}'))
        whole_one = vendor.answer(("c1", "weather", '{"city":"Rome"}'))
        begun = {**whole_one, "status": "in_progress", "output": []}
        told = [
            {"type": "response.created", "response": begun},
            {
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {**item, "arguments": "", "status": "in_progress"},
            },
            {
                "type": "response.function_call_arguments.delta",
                "item_id": item["id"],
                "output_index": 0,
                "delta": '{"city":"Rome"}',
            },
            {
                "type": "response.function_call_arguments.done",
                "item_id": item["id"],
                "output_index": 0,
                "arguments": '{"city":"Rome"}',
            },
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole_one},
        ]
        told = [{**one, "sequence_number": at} for at, one in enumerate(told)]
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in told).encode()


@each_vendor
def test_a_stream_takes_functions_and_gives_whole_calls(
    vendor: Vendor, serve: Callable[..., Canned], client: Client
) -> None:
    """``stream(tools=[f])`` sends what ``chat`` does; its calls come as events and in the end."""
    server = serve(whole(events(vendor), kind="text/event-stream"), vendor.answer(text="x"))
    options = {**vendor.options, "api_key": KEY, "base_url": server.url, "tools": [weather]}
    with client.stream(PROMPT, **options) as stream:
        seen = [event.tool_call for event in stream.events() if event.type == "tool_call"]
    (call,) = seen
    assert call is not None
    assert (call.id, call.name, call.arguments) == ("c1", "weather", {"city": "Rome"})
    assert stream.response.tool_calls == (call,)
    client.chat(PROMPT, **options)
    streamed, plain = server.bodies
    assert streamed["tools"] == plain["tools"]


def test_a_dead_server_in_a_later_round_is_a_connection_error(
    serve: Callable[..., Canned], client: Client
) -> None:
    """What breaks in between is typed, and the exchange is kept."""
    vendor = OpenAIChat()
    exchange: list[Any] = []

    def shut() -> str:
        """Shut the server down."""
        server.close()
        return "down"

    server = serve(vendor.answer(("c1", "shut", "{}")))
    with pytest.raises(APIConnectionError):
        run(client, vendor, server, [shut], exchange=exchange)
    assert exchange[-1]["content"] == "down"
