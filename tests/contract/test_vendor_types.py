"""What we send, against the request types that the vendors publish in their SDKs.

Every feature is used in every dialect that has it, and the body is judged as it went out on the
wire: a key that is not published, a missing one, or a value of another type fails.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import pydantic
import pytest
import typing_extensions
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)

from termai_http import (
    BadRequestError,
    Client,
    Conversation,
    Document,
    HttpClientConfig,
    Image,
    Message,
)
from termai_http import claude as claude_functions
from termai_http import openai as openai_functions
from tests.contract.vendor_types import faults
from tests.faults.harness import Peer, RawServer

_PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
_PDF = b"%PDF-1.7\n" + bytes(range(64))
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_REFUSAL = {"error": {"type": "invalid_request_error", "message": "Recorded."}}

# By path, and by whether a stream is asked for.
_TYPES: dict[tuple[str, bool], Any] = {
    ("/v1/chat/completions", False): CompletionCreateParamsNonStreaming,
    ("/v1/chat/completions", True): CompletionCreateParamsStreaming,
    ("/v1/responses", False): ResponseCreateParamsNonStreaming,
    ("/v1/responses", True): ResponseCreateParamsStreaming,
    ("/v1/responses/input_tokens", False): InputTokenCountParams,
    ("/v1/embeddings", False): EmbeddingCreateParams,
    ("/v1/messages", False): MessageCreateParamsNonStreaming,
    ("/v1/messages", True): MessageCreateParamsStreaming,
    ("/v1/messages/count_tokens", False): MessageCountTokensParams,
}


class Recorder:
    """Keeps the body of every request, and answers it with what is queued, else with a 400.

    Attributes:
        bodies: Path and body of each.
        answers: Bodies of the next successes.
    """

    def __init__(self) -> None:
        self.bodies: list[tuple[str, Any]] = []
        self.answers: list[Mapping[str, Any]] = []
        self.raw = RawServer(self._serve)

    def _serve(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            head, _, body = request.partition(b"\r\n\r\n")
            self.bodies.append((head.split(b" ")[1].decode(), json.loads(body)))
            status = b"200 OK" if self.answers else b"400 Bad Request"
            answer = json.dumps(self.answers.pop(0) if self.answers else _REFUSAL).encode()
            length = b"\r\nContent-Length: %d\r\n\r\n" % len(answer)
            peer.send(
                b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json" + length + answer
            )


@attrs.frozen(kw_only=True)
class Way:
    """One dialect, asked by one client of a server that takes down everything.

    Attributes:
        dialect: ``"chat"``, ``"responses"``, ``"claude"``, or ``"compatible"``: the chat API of
            a server that is not OpenAI's.
        client: The client.
        recorder: The server.
        folder: A folder for files.
    """

    dialect: str
    client: Client
    recorder: Recorder
    folder: Path

    @property
    def form(self) -> str:
        """The dialect as it is written."""
        return "chat" if self.dialect == "compatible" else self.dialect

    @property
    def base_url(self) -> str:
        """Where the server is, by the vendor's own name where its dialect depends on that."""
        host = "api.openai.com" if self.dialect in OPENAI else "127.0.0.1"
        return f"http://{host}:{self.recorder.raw.port}"

    @property
    def options(self) -> dict[str, Any]:
        """What every call is given."""
        return {"base_url": self.base_url, "api_key": "sk-none", **_WHOM[self.dialect]}

    def ask(self, prompt: Any = "Why is the sky blue?", **options: Any) -> None:
        """Ask for a reply, whole and as a stream."""
        for method in (self.client.chat, self.client.stream):
            with pytest.raises(BadRequestError):
                method(prompt, **self.options, **options)


_WHOM = {
    "chat": {"model": "gpt-5.5"},
    "compatible": {"model": "gpt-5.5"},
    "responses": {"model": "gpt-5.5", "api": "responses"},
    "claude": {"model": "claude-opus-5-5"},
}
ALL = ("chat", "responses", "claude")
OPENAI = ("chat", "responses")


@attrs.frozen(kw_only=True)
class Feature:
    """One feature, as a user uses it.

    Attributes:
        use: Uses it.
        dialects: Where there is it; where OpenAI's chat has it, compatible servers do.
        shown: Text that some body must hold, in each dialect or in all: the feature went out.
    """

    use: Callable[[Way], object]
    dialects: tuple[str, ...] = ALL
    shown: str | Mapping[str, str] = ""

    def shown_in(self, dialect: str) -> str:
        """Return what some body of a dialect must hold."""
        if isinstance(self.shown, str):
            return self.shown
        return self.shown.get(dialect) or self.shown["chat"]

    def everywhere(self) -> Iterator[str]:
        """Yield where it is used."""
        yield from self.dialects
        if "chat" in self.dialects:
            yield "compatible"


class Unit(enum.Enum):
    """Of a temperature."""

    CELSIUS = "C"
    FAHRENHEIT = "F"


def weather(city: str, unit: Unit = Unit.CELSIUS, days: list[int] | None = None) -> str:
    """Tell the weather.

    Args:
        city: Where.
        unit: In which unit.
        days: On which days from now.
    """
    return f"It is sunny in {city}."


def now() -> str:
    """Tell the time."""
    return "12:00"


@attrs.define
class Place:
    """A place on earth."""

    name: str
    population: int | None = None


@dataclasses.dataclass
class Report:
    """What is known of places."""

    places: list[Place]
    kind: Literal["short", "long"]
    notes: str | None = None


class Row(typing_extensions.TypedDict):
    """One row."""

    key: str
    value: typing_extensions.NotRequired[float]


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str = pydantic.Field(description="In full.")
    age: int | None = None
    friends: list[str] = []


_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
_CHAT_TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Look up.", "parameters": _SCHEMA},
}
_RESPONSES_TOOL = {"type": "function", "name": "look_up", "parameters": _SCHEMA, "strict": True}
_CLAUDE_TOOL = {"name": "look_up", "description": "Look up.", "input_schema": _SCHEMA}
_VENDOR_TOOLS: dict[str, list[Any]] = {
    "chat": [_CHAT_TOOL, {"type": "custom", "custom": {"name": "free", "description": "Any."}}],
    "responses": [_RESPONSES_TOOL, {"type": "web_search"}, {"type": "custom", "name": "free"}],
    "claude": [_CLAUDE_TOOL, {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
}
_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
}
_OTHER_CALL = {
    "id": "call_2",
    "type": "function",
    "function": {"name": "now", "arguments": "{}"},
}


def _exchange(*results: Any) -> list[Any]:
    calls = [{**_CALL, "id": f"call_{number}"} for number, _ in enumerate(results)]
    return [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        *(
            {"role": "tool", "tool_call_id": f"call_{number}", **result}
            for number, result in enumerate(results)
        ),
    ]


_CLAUDE_TURN = [
    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    {"type": "text", "text": "I look.", "citations": None},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}},
]
_RESPONSE_ITEMS = [
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "c2ln",
        "status": "completed",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "phase": "commentary",
        "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"city": "Paris"}',
        "status": "completed",
    },
]
_USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def _replies(dialect: str) -> list[Mapping[str, Any]]:
    """Return two successes: one that asks for a tool, with all that comes with it, and a text."""
    if dialect == "claude":
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5"}
        text = [{"type": "text", "text": "Sunny.", "citations": None}]
        return [
            {**head, "content": _CLAUDE_TURN, "stop_reason": "tool_use", "usage": _USAGE},
            {**head, "content": text, "stop_reason": "end_turn", "usage": _USAGE},
        ]
    if dialect == "responses":
        head = {"object": "response", "created_at": 1, "model": "gpt-5.5", "status": "completed"}
        rest = {"error": None, "incomplete_details": None, "usage": _USAGE}
        return [
            {**head, **rest, "id": "resp_1", "output": _RESPONSE_ITEMS},
            {**head, **rest, "id": "resp_2", "output": _RESPONSE_ITEMS[1:2]},
        ]
    head = {"object": "chat.completion", "created": 1, "model": "gpt-5.5"}
    message = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    asking = {"index": 0, "message": {**message, "tool_calls": [_CALL]}, "logprobs": None}
    saying = {"index": 0, "message": {**message, "content": "Sunny."}, "logprobs": None}
    return [
        {
            **head,
            "id": "c1",
            "choices": [{**asking, "finish_reason": "tool_calls"}],
            "usage": usage,
        },
        {**head, "id": "c2", "choices": [{**saying, "finish_reason": "stop"}], "usage": usage},
    ]


def _run_tools(way: Way) -> None:
    way.recorder.answers += _replies(way.form)
    way.client.run_tools("Weather?", tools=[weather, now], max_rounds=3, **way.options)


def _failing_tool(way: Way) -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        raise ValueError("No such city.")

    way.recorder.answers += _replies(way.form)
    way.client.run_tools("Weather?", tools=[weather], **way.options)


def _showing_tool(way: Way) -> None:
    def weather(city: str) -> Any:
        """Show the weather."""
        return ["As a picture:", Image(_PNG)]

    way.recorder.answers += _replies(way.form)
    way.client.run_tools("Weather?", tools=[weather], **way.options)


def _converse(way: Way) -> None:
    way.recorder.answers += reversed(_replies(way.form))
    options = dict(way.options)
    talk = Conversation(options.pop("model"), system="Be brief.", client=way.client)
    talk.ask("Weather?", **options)
    call = talk.ask("And tomorrow?", tools=[weather, now], **options).tool_calls[0]
    talk.append({"role": "tool", "tool_call_id": call.id, "content": "Sunny."})
    with pytest.raises(BadRequestError):
        talk.stream("Sure?", tools=[weather, now], **options)


def _adapters(way: Way) -> None:
    address = {"client": way.client, "base_url": way.base_url, "api_key": "sk-none"}
    body: dict[str, Any] = {"model": way.options["model"]}
    turns = [{"role": "user", "content": "Why?"}]
    if way.dialect == "claude":
        send = claude_functions.ClaudeAdapter(**address).chat_completion
    elif way.form == "chat":
        send = openai_functions.OpenAIAdapter(**address).chat_completion
    else:
        send = openai_functions.OpenAIAdapter(**address).respond
    with pytest.raises(BadRequestError):
        send({**body, "input" if way.dialect == "responses" else "messages": turns})


def _count(way: Way) -> None:
    prompt = ["Look:", Image(_PNG), Document(_PDF)]
    more = {"system": "Be brief.", "tools": [weather], "output": Place, "reasoning": "low"}
    more |= {"max_tokens": 9, "tool_choice": "required"}
    if way.dialect == "claude":
        more["stop"] = ["END"]
    with pytest.raises(BadRequestError):
        way.client.count_tokens(prompt, **more, **way.options)
    with pytest.raises(BadRequestError):
        way.client.count_tokens(_exchange({"content": "Sunny."}), **way.options)


def _embed(way: Way) -> None:
    options = {**way.options, "model": "text-embedding-3-small"}
    with pytest.raises(BadRequestError):
        way.client.embed("One text.", **options)
    with pytest.raises(BadRequestError):
        way.client.embed(["One.", "Two."], dimensions=256, user="u1", **options)


def _files(way: Way) -> None:
    picture, paper = way.folder / "picture.png", way.folder / "paper.pdf"
    picture.write_bytes(_PNG)
    paper.write_bytes(_PDF)
    way.ask(["Compare:", Image(str(picture)), Image(picture, detail="low"), Document(paper)])


_DATA_URL = "data:image/png;base64," + base64.b64encode(_PNG).decode()
_IMAGE = {"chat": "image_url", "responses": "input_image", "claude": '"image"'}
_FILE = {"chat": "file_data", "responses": "input_file", "claude": '"document"'}
_RESULT = {"chat": '"tool"', "responses": "function_call_output", "claude": "tool_result"}
_FORM = {"chat": "json_schema", "responses": "json_schema", "claude": "output_config"}
_EFFORT = {"chat": "reasoning_effort", "responses": '"effort"', "claude": '"thinking"'}


def _output(kind: Any, shown: str = "") -> Feature:
    return Feature(use=lambda way: way.ask(output=kind), shown=shown or _FORM)


def _asked(dialects: tuple[str, ...] = ALL, shown: Any = "", **options: Any) -> Feature:
    return Feature(use=lambda way: way.ask(**options), dialects=dialects, shown=shown)


FEATURES: dict[str, Feature] = {
    "plain": _asked(shown="sky"),
    "system": _asked(system="Be brief.", shown="Be brief."),
    "system-message": _asked(
        prompt=[Message("system", "Be brief."), {"role": "user", "content": "Why?"}],
        shown="Be brief.",
    ),
    "developer-message": _asked(
        prompt=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        shown="Be brief.",
    ),
    "later-system-message": _asked(
        prompt=[
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because."},
            {"role": "system", "content": "Be brief from now on."},
            {"role": "user", "content": "Why?"},
        ],
        shown="from now on",
    ),
    "turns": _asked(
        prompt=[
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because."},
            Message("user", ["Really?", {"type": "text", "text": "Sure?"}]),
        ],
        shown="Sure?",
    ),
    "max-tokens": _asked(
        max_tokens=77,
        shown={
            "chat": '"max_completion_tokens": 77',
            "compatible": '"max_tokens": 77',
            "responses": '"max_output_tokens": 77',
            "claude": '"max_tokens": 77',
        },
    ),
    "image-bytes": _asked(prompt=["Look:", Image(_PNG)], shown=_IMAGE),
    "image-detail": _asked(("chat", "responses"), "high", prompt=[Image(_PNG, detail="high")]),
    "image-url": _asked(prompt=["Look:", Image("https://example.com/a.png")], shown="/a.png"),
    "image-data-url": _asked(prompt=["Look:", Image(_DATA_URL)], shown=_IMAGE),
    "image-of-chat": _asked(
        prompt=[Message("user", [{"type": "image_url", "image_url": {"url": _DATA_URL}}])],
        shown=_IMAGE,
    ),
    "image-of-claude": _asked(
        prompt=[
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
                ],
            }
        ],
        shown=_IMAGE,
    ),
    "document-bytes": _asked(prompt=["Read:", Document(_PDF, name="a.pdf")], shown=_FILE),
    "document-url": _asked(
        ("responses", "claude"), _FILE, prompt=[Document("https://example.com/a.pdf")]
    ),
    "files": Feature(use=_files, shown="Compare"),
    "cache": _asked(
        ("claude",),
        '"cache_control": {"type": "ephemeral", "ttl": "1h"}',
        prompt=[
            Message("system", "Be brief.", cache="1h"),
            Message("user", ["Read:", Document(_PDF)], cache=True),
            Message("assistant", "I did.", cache="5m"),
            {"role": "user", "content": "Why?", "cache": True},
        ],
    ),
    "cache-elsewhere": _asked(
        OPENAI, "Read", prompt=[Message("system", "Brief.", cache="1h"), Message("user", "Read.")]
    ),
    "cached-tool-result": _asked(
        prompt=_exchange({"content": "Sunny.", "cache": True}), shown=_RESULT
    ),
    "functions": _asked(tools=[weather, now], shown="Tell the weather."),
    "vendor-tools": Feature(
        use=lambda way: way.ask(tools=_VENDOR_TOOLS[way.form]), shown="look_up"
    ),
    "tools-of-other-vendors": _asked(tools=[_CHAT_TOOL, {**_CLAUDE_TOOL, "name": "b"}], shown="b"),
    "tool-choice-auto": _asked(tools=[now], tool_choice="auto", shown="tool_choice"),
    "tool-choice-none": _asked(tools=[now], tool_choice="none", shown="tool_choice"),
    "tool-choice-required": _asked(tools=[now], tool_choice="required", shown="tool_choice"),
    "tool-choice-name": _asked(tools=[now, weather], tool_choice="weather", shown="tool_choice"),
    "tool-choice-of-chat": _asked(
        ("chat", "claude"),
        "tool_choice",
        tools=[now],
        tool_choice={"type": "function", "function": {"name": "now"}},
    ),
    "tool-result": _asked(prompt=_exchange({"content": "Sunny."}), shown=_RESULT),
    "tool-results": _asked(prompt=_exchange({"content": "1"}, {"content": "2"}), shown=_RESULT),
    "tool-result-empty": _asked(prompt=_exchange({"content": ""}), shown=_RESULT),
    "tool-result-error": _asked(
        prompt=_exchange({"content": "No such city.", "is_error": True}), shown="No such city."
    ),
    "tool-result-image": _asked(
        prompt=_exchange({"content": ["As a picture:", Image(_PNG)]}), shown=_IMAGE
    ),
    "tool-result-document": _asked(prompt=_exchange({"content": [Document(_PDF)]}), shown=_FILE),
    "tool-turn-of-claude": _asked(
        prompt=[
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": _CLAUDE_TURN},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny."},
                    {"type": "text", "text": "And tomorrow?"},
                ],
            },
        ],
        shown=_RESULT,
    ),
    "tool-turn-of-responses": _asked(
        prompt=[
            {"role": "user", "content": "Weather?"},
            *_RESPONSE_ITEMS,
            {"type": "function_call_output", "call_id": "call_1", "output": "Sunny."},
        ],
        shown=_RESULT,
    ),
    "tool-turn-unstored": _asked(
        ("responses",),
        "encrypted_content",
        prompt=[
            {"role": "user", "content": "Weather?"},
            *_RESPONSE_ITEMS,
            {"type": "function_call_output", "call_id": "call_1", "output": "Sunny."},
        ],
        store=False,
        include=["reasoning.encrypted_content"],
    ),
    "run-tools": Feature(use=_run_tools, shown=_RESULT),
    "run-tools-error": Feature(use=_failing_tool, shown="No such city."),
    "run-tools-image": Feature(use=_showing_tool, shown=_IMAGE),
    "conversation": Feature(use=_converse, shown=_RESULT),
    "output-attrs": _output(Place),
    "output-dataclass": _output(Report),
    "output-typed-dict": _output(Row),
    "output-pydantic": _output(Person),
    "output-schema": _output(_SCHEMA),
    "output-list": _output(list[Place]),
    "output-scalar": _output(int),
    "output-and-tools": _asked(output=Report, tools=[weather], shown=_FORM),
    "reasoning-none": _asked(reasoning="none", shown=_EFFORT),
    "reasoning-minimal": _asked(reasoning="minimal", shown=_EFFORT),
    "reasoning-low": _asked(reasoning="low", shown=_EFFORT),
    "reasoning-high": _asked(reasoning="high", shown=_EFFORT),
    "reasoning-xhigh": _asked(reasoning="xhigh", shown=_EFFORT),
    "reasoning-max": _asked(reasoning="max", shown=_EFFORT),
    "reasoning-dict": Feature(
        use=lambda way: way.ask(
            max_tokens=4000,
            reasoning={"type": "enabled", "budget_tokens": 2048}
            if way.dialect == "claude"
            else {"effort": "low", "summary": "auto"},
        ),
        dialects=("responses", "claude"),
        shown={"responses": "summary", "claude": "budget_tokens"},
    ),
    "effort-and-output": _asked(reasoning="low", output=Place, shown=_FORM),
    "stop": _asked(
        ("chat", "claude"), {"chat": '"stop"', "claude": "stop_sequences"}, stop=["END", "\n\n"][:1]
    ),
    "stop-text": _asked(("chat", "claude"), "END", stop="END"),
    "chat-parameters": _asked(
        ("chat",),
        '"seed": 7',
        n=2,
        seed=7,
        temperature=0.5,
        logprobs=True,
        top_logprobs=3,
        presence_penalty=0.1,
        logit_bias={"50256": -100},
        parallel_tool_calls=False,
        prompt_cache_key="k1",
        verbosity="low",
        service_tier="auto",
        metadata={"a": "b"},
        store=True,
        safety_identifier="u1",
    ),
    "responses-parameters": _asked(
        ("responses",),
        "previous_response_id",
        previous_response_id="resp_1",
        instructions="Be brief.",
        prompt_cache_key="k1",
        text={"verbosity": "low"},
        truncation="auto",
        include=["message.output_text.logprobs"],
        top_logprobs=3,
        metadata={"a": "b"},
        parallel_tool_calls=False,
        service_tier="auto",
        temperature=1,
        max_tool_calls=3,
        store=True,
    ),
    "output-and-verbosity": _asked(
        ("responses",), "verbosity", output=Place, text={"verbosity": "low"}
    ),
    "claude-parameters": _asked(
        ("claude",),
        "user_id",
        metadata={"user_id": "u1"},
        service_tier="auto",
        extra_body={"cache_control": {"type": "ephemeral"}, "speed": "standard"},
    ),
    "adapters": Feature(use=_adapters, shown="Why?"),
    "count-tokens": Feature(use=_count, dialects=("responses", "claude"), shown="Tell the weather"),
    "embeddings": Feature(use=_embed, dialects=("chat",), shown='"dimensions": 256'),
}
CASES = [
    pytest.param(dialect, name, id=f"{dialect}-{name}")
    for name, feature in FEATURES.items()
    for dialect in feature.everywhere()
]


@pytest.fixture
def way(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Way]:
    """Return a way to ask in one dialect; OpenAI's own host name leads to this machine."""
    look_up = socket.getaddrinfo

    def here(host: Any, *args: Any, **options: Any) -> Any:
        return look_up("127.0.0.1" if host == "api.openai.com" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    recorder = Recorder()
    try:
        with Client(HttpClientConfig(trust_env=False, allow_http=True)) as client:
            yield Way(dialect=request.param, client=client, recorder=recorder, folder=tmp_path)
    finally:
        recorder.raw.close()


@pytest.mark.parametrize(("way", "name"), CASES, indirect=["way"])
def test_what_is_sent_is_what_the_vendor_publishes(way: Way, name: str) -> None:
    """Every body of a feature has the vendor's published type, and shows the feature."""
    feature = FEATURES[name]
    feature.use(way)
    sent = way.recorder.bodies
    assert sent
    for path, body in sent:
        assert faults(_TYPES[path, bool(body.get("stream"))], body) == []
        assert list(_flaws(body)) == []
    texts = [json.dumps(body) for _, body in sent]
    assert any(feature.shown_in(way.dialect) in text for text in texts), texts


def _flaws(node: Any) -> Iterator[str]:
    """Yield what the vendors' documentation asks for and their types do not tell."""
    for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _flaws(one)
    if not isinstance(node, dict):
        return
    schemas = [node[key] for key in ("parameters", "schema", "input_schema") if key in node]
    if schemas and "name" in node and not _NAME.fullmatch(node["name"]):
        yield f"the name {node['name']!r}"
    if node.get("strict") or node.get("type") == "json_schema":
        for schema in schemas:
            yield from _open_objects(schema)


def _open_objects(schema: Any) -> Iterator[str]:
    """Yield objects that a strict mode refuses: it wants them closed."""
    if isinstance(schema, list):
        for one in schema:
            yield from _open_objects(one)
    if isinstance(schema, dict):
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            yield f"the open object {json.dumps(schema)}"
        for one in schema.values():
            yield from _open_objects(one)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("modle",), "gpt-5.5"),
        (("max_tokens",), "many"),
        (("max_tokens",), True),
        (("messages",), {"role": "user", "content": "Why?"}),
        (("messages", 0, "role"), "usr"),
        (("messages", 0, "contents"), "Why?"),
        (("messages", 0, "content", 0, "txt"), "Why?"),
        (("messages", 0, "content", 0, "cache_control"), {"type": "ephemeral", "ttl": "2h"}),
    ],
)
@pytest.mark.parametrize(
    "kind", [CompletionCreateParamsNonStreaming, MessageCreateParamsNonStreaming]
)
def test_a_slip_in_a_body_is_found(kind: Any, at: tuple[Any, ...], value: Any) -> None:
    """The judge passes a good body, and names the place of an unknown key or a wrong value."""
    content = [{"type": "text", "text": "Why?"}]
    body: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
    assert faults(kind, body) == []
    node = body
    for step in at[:-1]:
        node = node[step]
    node[at[-1]] = value
    assert any(str(at[-1]) in fault or "fits none" in fault for fault in faults(kind, body))


def test_a_missing_key_is_found() -> None:
    """The judge knows which keys are required, also of objects within."""
    kind = MessageCreateParamsNonStreaming
    assert faults(kind, {"model": "m", "messages": []}) == [
        "body.max_tokens is missing in MessageCreateParamsNonStreaming"
    ]
    image = {"type": "image", "source": {"type": "base64", "data": "aaaa"}}
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [image]}]}
    assert faults(kind, body)
