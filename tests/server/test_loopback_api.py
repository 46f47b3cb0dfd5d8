"""What the loopback server answers and refuses, in all dialects, beside streams."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest

from termai_http.testing import (
    RecordedRequest,
    Refusal,
    Server,
    Text,
    ToolCalls,
)
from tests.server.loopback import (
    CLAUDE,
    HEADERS,
    OPENAI,
    PARAMETERS,
    PATHS,
    PDF,
    PNG,
    TOOLS,
    ask,
    body_of,
    refused,
    told,
)

APIS = ("chat", "responses", "claude")
NEWEST = {"anthropic-version": "2026-10-21"}
Body = dict[str, Any]


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    """A dialect."""
    return str(request.param)


def text_of(api: str, reply: Body) -> str:
    """Return the text of a reply."""
    if api == "chat":
        return str(reply["choices"][0]["message"]["content"])
    if api == "claude":
        return "".join(block.get("text", "") for block in reply["content"])
    items = [item for item in reply["output"] if item["type"] == "message"]
    return "".join(part["text"] for item in items for part in item["content"])


def calls_of(api: str, reply: Body) -> list[tuple[str, str, Any]]:
    """Return the calls of a reply: id, name and arguments."""
    if api == "chat":
        calls = reply["choices"][0]["message"].get("tool_calls", [])
        found = [(call["id"], call["function"]) for call in calls]
        return [(name, one["name"], json.loads(one["arguments"])) for name, one in found]
    if api == "claude":
        blocks = [block for block in reply["content"] if block["type"] == "tool_use"]
        return [(block["id"], block["name"], block["input"]) for block in blocks]
    items = [item for item in reply["output"] if item["type"] == "function_call"]
    return [(item["call_id"], item["name"], json.loads(item["arguments"])) for item in items]


def with_results(api: str, body: Body, reply: Body, results: list[str]) -> Body:
    """Return the request that goes on after a reply, with the results of its calls."""
    ids = [one for one, _, _ in calls_of(api, reply)]
    pairs = list(zip(ids, results, strict=True))
    if api == "responses":
        outputs = [
            {"type": "function_call_output", "call_id": one, "output": text} for one, text in pairs
        ]
        said = {"role": "user", "content": body["input"]}
        return {**body, "input": [said, *reply["output"], *outputs]}
    if api == "claude":
        turn = {"role": "assistant", "content": reply["content"]}
        blocks = [
            {"type": "tool_result", "tool_use_id": one, "content": text} for one, text in pairs
        ]
        return {**body, "messages": [*body["messages"], turn, {"role": "user", "content": blocks}]}
    answers = [{"role": "tool", "tool_call_id": one, "content": text} for one, text in pairs]
    return {**body, "messages": [*body["messages"], reply["choices"][0]["message"], *answers]}


def form(api: str, schema: Any, **more: Any) -> Body:
    """Return what asks a dialect for JSON of a schema."""
    if api == "claude":
        return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    inner = {"name": "city", "schema": schema, "strict": True, **more}
    if api == "responses":
        return {"text": {"format": {"type": "json_schema", **inner}}}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


def tools(api: str, *names: str) -> list[Body]:
    """Return tools of these names."""
    if api == "chat":
        return [
            {"type": "function", "function": {"name": name, "parameters": PARAMETERS}}
            for name in names
        ]
    if api == "claude":
        return [{"name": name, "input_schema": PARAMETERS} for name in names]
    return [{"type": "function", "name": name, "parameters": PARAMETERS} for name in names]


def force(api: str, name: str) -> Body:
    """Return the ``tool_choice`` that forces a tool."""
    if api == "claude":
        return {"type": "tool", "name": name}
    named = {"name": name}
    return {"type": "function", **({"function": named} if api == "chat" else named)}


def test_a_loop_of_tools_ends_by_itself(server: Server, api: str) -> None:
    """The first tool is called with what was said, and its result is what is said next."""
    body = body_of(api, "Oslo", tools=tools(api, "weather", "news"))
    reply = told(server, api, body)
    [(_, name, arguments)] = calls_of(api, reply)
    assert (name, arguments) == ("weather", {"city": "Oslo"})
    last = told(server, api, with_results(api, body, reply, ["18 degrees"]))
    assert (calls_of(api, last), text_of(api, last)) == ([], "You said: 18 degrees")
    assert [request.tool_results for request in server.requests] == [(), ("18 degrees",)]
    assert [request.prompt for request in server.requests] == ["Oslo", "Oslo"]


def test_the_tools_that_a_prompt_names_are_called(server: Server, api: str) -> None:
    """All of them in one turn, with ids of their own; their results are said together."""
    body = body_of(api, "news, weather please", tools=tools(api, "weather", "map", "news"))
    reply = told(server, api, body)
    calls = calls_of(api, reply)
    assert [name for _, name, _ in calls] == ["weather", "news"]
    assert len({one for one, _, _ in calls}) == 2
    last = told(server, api, with_results(api, body, reply, ["sun", "none"]))
    assert text_of(api, last) == "You said: sun, none"


def test_tool_choice_is_kept_to(server: Server, api: str) -> None:
    """A tool that is forced is called, and none where none may be."""
    body = body_of(api, "weather", tools=tools(api, "weather", "news"))
    reply = told(server, api, {**body, "tool_choice": force(api, "news")})
    assert [name for _, name, _ in calls_of(api, reply)] == ["news"]
    none = {"type": "none"} if api == "claude" else "none"
    assert text_of(api, told(server, api, {**body, "tool_choice": none})) == "You said: weather"
    must = {"type": "any"} if api == "claude" else "required"
    assert calls_of(api, told(server, api, {**body, "tool_choice": must}))


def test_calls_may_be_chosen(api: str) -> None:
    """A function of the request, or the script, says which tools are called."""

    def reply(request: RecordedRequest) -> ToolCalls | None:
        return None if request.tool_results else ToolCalls(("a", {"x": 1}), "b", text="Well.")

    with Server(reply=reply) as server:
        body = body_of(api, tools=tools(api, "weather"))
        first = told(server, api, body)
        assert [one[1:] for one in calls_of(api, first)] == [("a", {"x": 1}), ("b", {})]
        last = told(server, api, with_results(api, body, first, ["1", "2"]))
        assert text_of(api, last) == "You said: 1, 2"
        server.script(ToolCalls(("c", '{"y": 2}')))
        assert calls_of(api, told(server, api, body))[0][1:] == ("c", {"y": 2})


def test_arguments_may_be_no_json(server: Server) -> None:
    """What a model wrote badly goes out as it is, where the API gives text."""
    server.script(*[ToolCalls(("f", '{"x": '))] * 3)
    chat = told(server, "chat", body_of("chat"))
    assert chat["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"x": '
    assert told(server, "responses", body_of("responses"))["output"][0]["arguments"] == '{"x": '
    assert told(server, "claude", body_of("claude"))["content"][0]["input"] == '{"x": '


def test_a_reply_function_gives_replies_only() -> None:
    """A value that is no reply is a mistake of the test, and told as one."""
    from termai_http.testing._turns import next_turn

    request = RecordedRequest(method="POST", path="/", headers={})
    with pytest.raises(TypeError, match="is no reply"):
        next_turn(request, {}, None, lambda _: 5)  # type: ignore[arg-type, return-value]


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "kind": {"enum": ["big", "small"]},
        "fixed": {"const": 7},
        "size": {"type": ["integer", "null"]},
        "area": {"type": "number"},
        "capital": {"type": "boolean"},
        "nothing": {"type": "null"},
        "twin": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/twin"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": [
        *("name", "kind", "fixed", "size", "area", "capital", "nothing", "twin", "tags"),
    ],
    "additionalProperties": False,
    "$defs": {
        "twin": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "twin": {"$ref": "#/$defs/maybe"}},
            "required": ["name", "twin"],
            "additionalProperties": False,
        },
        "maybe": {"anyOf": [{"$ref": "#/$defs/twin"}, {"type": "null"}]},
    },
}


def test_a_reply_fits_the_schema(server: Server, api: str) -> None:
    """Every kind of value is there, strings say what was said, and what holds itself ends."""
    found = json.loads(text_of(api, told(server, api, body_of(api, "Oslo", **form(api, SCHEMA)))))
    twin = found.pop("twin")
    assert found == {
        "name": "Oslo",
        "kind": "big",
        "fixed": 7,
        "size": 1,
        "area": 1,
        "capital": True,
        "nothing": None,
        "tags": ["Oslo"],
    }
    depth = 0
    while twin is not None:
        twin, depth = twin["twin"], depth + 1
    assert 0 < depth < 10


def test_a_chosen_reply_need_not_fit(server: Server, api: str) -> None:
    """Text() and Refusal() are said although a schema is asked for."""
    server.script(Text("no JSON"), Refusal("No."))
    body = body_of(api, **form(api, SCHEMA))
    assert text_of(api, told(server, api, body)) == "no JSON"
    reply = told(server, api, body)
    assert "No." in json.dumps(reply)
    if api == "claude":
        assert (reply["stop_reason"], reply["stop_details"]["type"]) == ("refusal", "refusal")


def test_any_json_object_may_be_asked_for(server: Server) -> None:
    """OpenAI's older way gets an object, in both of its APIs."""
    body = body_of("chat", "json please", response_format={"type": "json_object"})
    assert json.loads(text_of("chat", told(server, "chat", body))) == {"said": "json please"}
    body = body_of("responses", "json", text={"format": {"type": "json_object"}})
    assert json.loads(text_of("responses", told(server, "responses", body))) == {"said": "json"}


def fitted(schema: Any, said: str = "hello") -> Any:
    """Return what the server makes of a schema."""
    from termai_http.testing._fitting import fitting

    return fitting(schema, said)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "format": "date"}, "2026-11-24"),
        ({"type": "string", "maxLength": 3}, "hel"),
        ({"type": "string", "minLength": 8}, "hello..."),
        ({"type": "string", "pattern": "^[A-Z]+$"}, "A"),
        ({"type": "string", "pattern": "("}, "hello"),
        ({"pattern": "^nothing fits$"}, "hello"),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": "number", "exclusiveMinimum": 0.25, "exclusiveMaximum": 0.75}, 0.5),
        ({"type": "number", "minimum": "x"}, 1),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3}, [None] * 3),
        ({"type": "array", "maxItems": 0}, []),
        ({"prefixItems": [{"const": 1}, {"const": 2}], "type": "array"}, [1, 2]),
        ({"prefixItems": [{"const": 1}], "items": False, "type": "array", "minItems": 2}, [1]),
        ({"oneOf": [{"type": "boolean"}, {"type": "string"}]}, True),
        ({"anyOf": [{"type": "null"}]}, None),
        (
            {
                "allOf": [
                    {"properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"$ref": "#/$defs/b"},
                ],
                "required": ["b"],
                "properties": {"b": {"const": 2}},
                "$defs": {"b": {"type": "object"}},
            },
            {"b": 2, "a": 1},
        ),
        ({"items": {"$ref": "#/$defs/a~1b/0"}, "$defs": {"a/b": [{"const": 3}]}}, [3]),
        ({"$ref": "#/nowhere"}, "hello"),
        ({"$ref": "http://example.com/"}, "hello"),
        ({}, "hello"),
        (True, "hello"),
        (False, None),
    ],
)  # fmt: skip
def test_values_fit_their_schemas(schema: Any, value: Any) -> None:
    """Limits, formats, unions and references are kept to."""
    assert fitted(schema) == value


def test_what_can_never_end_ends() -> None:
    """A schema that requires itself for ever gets a value all the same."""
    schema = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert "a" in fitted(schema)
    endless = {"type": "array", "items": {"$ref": "#"}}
    assert "[]" in json.dumps(fitted(endless))
    union = {"anyOf": [{"type": "array", "items": {"$ref": "#"}}, {"type": "integer"}]}
    assert "1" in json.dumps(fitted(union))


def nested(**fields: Any) -> Body:
    """Return a schema with a fault in a property."""
    return {
        "type": "object",
        "properties": {"a": fields},
        "required": ["a"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"type": "object", "properties": {}}, "additionalProperties"),
        (nested(type="object", properties={}), "In context=('properties', 'a'), 'additional"),
        ({**nested(type="null"), "required": []}, "Missing 'a'"),
        ({**nested(type="null"), "required": ["a", "b"]}, "Extra required key 'b'"),
        ({"type": "array"}, "got 'type: \"array\"'"),
        (nested(oneOf=[{"type": "null"}]), "'oneOf' is not permitted"),
        (nested(allOf=[{"type": "null"}]), "'allOf' is not permitted"),
        (nested(description="?"), "must have a 'type' key"),
        (nested(type="array"), "array schema missing items"),
        (nested(**{"$ref": "#/$defs/x"}), "names nothing"),
        (nested(**{"$ref": "#", "description": "?"}), "cannot have keywords"),
        (nested(anyOf=[True]), "must be an object"),
        (nested(type="array", items={"type": "object"}), "'items'), 'additionalProperties'"),
    ],
)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_openai_refuses_what_strict_mode_refuses(
    server: Server, api: str, schema: Body, part: str
) -> None:
    """The vendor's 400 says where and why, for formats and for tools."""
    error = refused(server, api, body_of(api, **form(api, schema)))
    assert (error["status"], error["code"]) == (400, "invalid_json_schema")
    assert error["message"].startswith("Invalid schema for response_format 'city': ")
    assert part in error["message"]
    assert error["param"] == ("response_format" if api == "chat" else "text.format.schema")
    [tool] = tools(api, "f")
    tool.get("function", tool).update(parameters=schema, strict=True)
    error = refused(server, api, body_of(api, tools=[tool]))
    assert part in error["message"]
    assert error["code"] == "invalid_function_parameters"


def test_what_is_not_strict_may_be_any_schema(server: Server) -> None:
    """Without ``strict`` OpenAI takes what its strict mode refuses."""
    loose = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for api in ("chat", "responses"):
        reply = told(server, api, body_of(api, **form(api, loose, strict=False)))
        assert json.loads(text_of(api, reply)) == {"a": 1}


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"type": "object", "properties": {}}, "must be explicitly set to false"),
        (nested(type="object", additionalProperties=True), "must be explicitly set to false"),
        (nested(type="integer", minimum=1, maximum=2), "properties maximum, minimum are not"),
        (nested(type="string", minLength=1), "For 'string' type, properties minLength"),
        (nested(type="array", items={"type": "null"}, minItems=2), "other than 0 or 1"),
        (nested(oneOf=[{"type": "null"}]), "'oneOf' is not supported"),
        (nested(**{"$ref": "http://example.com/"}), "names nothing"),
        (nested(title="?"), "must have a 'type'"),
        (nested(anyOf=[1]), "must be an object"),
    ],
)
def test_claude_refuses_what_its_schemas_may_not_hold(
    server: Server, schema: Body, part: str
) -> None:
    """The vendor's 400 says why, for formats and for strict tools."""
    error = refused(server, "claude", body_of("claude", **form("claude", schema)))
    assert error["message"].startswith("output_config.format.schema: ")
    assert part in error["message"]
    tool = {"name": "f", "input_schema": schema, "strict": True}
    assert part in refused(server, "claude", body_of("claude", tools=[tool]))["message"]


def user(content: Any) -> Body:
    """Return a turn of the user."""
    return {"role": "user", "content": content}


def assistant(*calls: str) -> Body:
    """Return an OpenAI turn that calls a function, once an id."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}}
            for one in calls
        ],
    }


def tool(one: str) -> Body:
    """Return the answer of an OpenAI tool."""
    return {"role": "tool", "tool_call_id": one, "content": "x"}


def image(url: str) -> list[Body]:
    """Return content of an OpenAI image."""
    return [{"type": "image_url", "image_url": {"url": url}}]


@pytest.mark.parametrize(
    ("messages", "part"),
    [
        ([], "'messages': empty array"),
        ("hello", "'messages': expected an array"),
        (["hello"], "'messages[0]': expected an object, but got a string"),
        ([{"content": "x"}], "'messages[0].role'"),
        ([{"role": "robot", "content": "x"}], "Invalid value: 'robot'"),
        ([{**user("x"), "cache": True}], "Unknown parameter: 'messages[0].cache'"),
        ([user(None)], "expected a string, got null"),
        ([user(5)], "'messages[0].content'"),
        ([user([])], "empty array"),
        ([user(["x"])], "'messages[0].content[0]': expected an object"),
        ([user([{"type": "input_text", "text": "x"}])], "Invalid value: 'input_text'"),
        ([user([{"type": "text"}])], "'messages[0].content[0].text'"),
        ([user([{"type": "text", "text": 1}])], "expected a string, but got an integer"),
        ([user([{"type": "image_url", "image_url": "x"}])], "'messages[0].content[0].image_url'"),
        ([user(image("x"))], "Expected a valid URL"),
        ([user(image("data:image/png;base64,!"))], "base64"),
        ([user(image(f"data:image/png;base64,{PDF}"))], "unsupported image"),
        ([user([{"type": "image_url", "image_url": {}}])], "image_url.url'"),
        ([user([{"type": "image_url", "image_url": {"url": 1.5}}])], "got a decimal"),
        ([user([{"type": "file", "file": {}}])], "file.file_id"),
        ([user([{"type": "file", "file": {"file_data": "x"}}])], "file_data"),
        (
            [user([{"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}}])],
            "filename",
        ),
        ([user([{"type": "input_audio", "input_audio": {"data": "!"}}])], "audio"),
        ([{"role": "system", "content": image("https://a/")}], "Supported values are: 'text'."),
        ([{**assistant("a"), "tool_calls": []}], "'messages[0].tool_calls': empty array"),
        ([{**assistant("a"), "tool_calls": 1}], "expected an array"),
        ([{**assistant("a"), "tool_calls": [1]}], "tool_calls[0]': expected an object"),
        ([{**assistant("a"), "tool_calls": [{"type": "function"}]}], "tool_calls[0].id"),
        (
            [{**assistant("a"), "tool_calls": [{"id": "a", "type": "function"}]}],
            "tool_calls[0].function'",
        ),
        ([assistant("a")], "did not have response messages: a"),
        ([assistant("a", "b"), tool("a")], "did not have response messages: b"),
        ([assistant("a"), user("x"), tool("a")], "did not have response messages: a"),
        ([tool("a")], "must be a response to a preceding message"),
        ([assistant("a"), tool("b")], "must be a response to a preceding message"),
        ([{"role": "tool", "content": "x"}], "'messages[0].tool_call_id'"),
    ],
)
def test_wrong_messages_of_chat_are_refused(server: Server, messages: Any, part: str) -> None:
    """Messages, their parts and the order of calls and answers are looked at."""
    error = refused(server, "chat", {"model": "m", "messages": messages})
    assert (error["status"], error["type"]) == (400, "invalid_request_error")
    assert part in error["message"]


def test_arguments_are_text(server: Server) -> None:
    """An object as arguments is refused by both of OpenAI's APIs, as is a name with a blank."""
    turn = assistant("a")
    turn["tool_calls"][0]["function"]["arguments"] = {}
    error = refused(server, "chat", {"model": "m", "messages": [turn, tool("a")]})
    assert "but got an object instead" in error["message"]
    turn["tool_calls"][0]["function"] = {"name": "a b", "arguments": "{}"}
    error = refused(server, "chat", {"model": "m", "messages": [turn, tool("a")]})
    assert "does not match pattern" in error["message"]


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"model": None}, "'model'"),
        ({"model": 5}, "'model': expected a string"),
        ({"max_output_tokens": 5}, "Unknown parameter: 'max_output_tokens'"),
        ({"thinking": {}}, "Unknown parameter: 'thinking'"),
        ({"stream_options": {"include_usage": True}}, "only allowed when 'stream' is enabled"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "at the same time"),
        ({"max_tokens": 0}, "'max_tokens': integer below minimum value. Expected a value >= 1"),
        ({"temperature": 3}, "'temperature': decimal above maximum value"),
        ({"n": 1.5}, "'n': expected an integer, but got a decimal"),
        ({"n": True}, "got a boolean"),
        ({"reasoning_effort": "most"}, "Invalid value: 'most'"),
        ({"stop": list("abcde")}, "array too long"),
        ({"tools": []}, "'tools': empty array"),
        ({"tools": {}}, "'tools': expected an array"),
        ({"tools": [1]}, "'tools[0]': expected an object"),
        ({"tools": TOOLS["responses"]}, "'tools[0].function'"),
        ({"tools": [{"name": "f"}]}, "'tools[0].type'"),
        ({"tools": [{"type": "web_search"}]}, "'function' and 'custom'"),
        ({"tools": [{"type": "function", "function": 1}]}, "expected an object"),
        ({"tools": [{"type": "function", "function": {}}]}, "'tools[0].function.name'"),
        ({"tools": [{"type": "function", "function": {"name": 1}}]}, "expected a string"),
        ({"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "match pattern"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
            "got 'type: \"None\"'",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": 1}}]},
            "'tools[0].function.parameters': expected an object",
        ),
        ({"tool_choice": "auto"}, "only allowed when 'tools'"),
        ({"parallel_tool_calls": False}, "only allowed when 'tools'"),
        ({"tools": TOOLS["chat"], "tool_choice": "any"}, "Invalid value: 'any'"),
        ({"tools": TOOLS["chat"], "tool_choice": force("chat", "g")}, "'g' not found"),
        ({"response_format": "json"}, "expected an object"),
        ({"response_format": {"type": "xml"}}, "Invalid value: 'xml'"),
        ({"response_format": {"type": "json_object"}}, "must contain the word 'json'"),
        ({"response_format": {"type": "json_schema"}}, "'response_format.json_schema'"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "'response_format.json_schema.name'",
        ),
    ],
)
def test_wrong_options_of_chat_are_refused(server: Server, fields: Body, part: str) -> None:
    """Parameters, tools and formats are looked at."""
    assert part in refused(server, "chat", body_of("chat", **fields))["message"]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["x"], "'input[0]': expected an object"),
        ([{"type": "tool_use"}], "Invalid value: 'tool_use'"),
        ([{"content": "x"}], "'input[0].role'"),
        ([{"role": "tool", "content": "x"}], "Invalid value: 'tool'"),
        ([{**user("x"), "cache": True}], "Unknown parameter: 'input[0].cache'"),
        ([user(None)], "'input[0].content'"),
        ([user(5)], "'input[0].content': expected"),
        ([user([1])], "'input[0].content[0]'"),
        ([user([{"type": "text", "text": "x"}])], "Invalid value: 'text'"),
        (
            [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}],
            "'output_text' and 'refusal'",
        ),
        ([user([{"type": "input_text"}])], "'input[0].content[0].text'"),
        ([user([{"type": "input_image", "image_url": "x"}])], "Expected a valid URL"),
        ([user([{"type": "input_file"}])], "file_id"),
        ([{"type": "function_call", "name": "f", "call_id": "a"}], "'input[0].arguments'"),
        ([{"type": "function_call_output", "output": "x"}], "'input[0].call_id'"),
        ([{"type": "function_call_output", "call_id": "a"}], "'input[0].output'"),
        (
            [{"type": "function_call", "id": "call_1", "name": "f", "call_id": "a"}],
            "Expected an ID that begins with 'fc'",
        ),
        ([{"type": "message", "id": "fc_1", **user("x")}], "begins with 'msg'"),
        (
            [{"type": "function_call_output", "call_id": "a", "output": "x"}],
            "No tool call found for function call output with call_id a",
        ),
        (
            [{"type": "function_call", "name": "f", "call_id": "a", "arguments": "{}"}],
            "No tool output found for function call a",
        ),
        ([{"type": "reasoning", "id": "rs_1"}], "'input[0].summary'"),
        ([{"type": "reasoning", "id": "rs_1", "summary": []}, user("x")], "'rs_1' not found"),
        (5, "'input': expected one of"),
    ],
)
def test_wrong_input_of_responses_is_refused(server: Server, given: Any, part: str) -> None:
    """Items, their parts and the order of calls and outputs are looked at."""
    assert part in refused(server, "responses", {"model": "m", "input": given})["message"]


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"model": None}, "'model'"),
        ({"input": None}, "'input'"),
        ({"messages": []}, "this parameter has moved to 'input'"),
        ({"max_tokens": 5}, "has moved to 'max_output_tokens'"),
        ({"response_format": {}}, "has moved to 'text.format'"),
        ({"stop": "x"}, "Unknown parameter: 'stop'"),
        ({"max_output_tokens": 5}, "Expected a value >= 16"),
        ({"instructions": 5}, "'instructions': expected a string"),
        ({"reasoning": "low"}, "'reasoning': expected an object"),
        ({"reasoning": {"effort": "most"}}, "Invalid value: 'most'"),
        ({"text": {"format": {}}}, "'text.format.type'"),
        ({"text": {"format": {"type": "xml"}}}, "Invalid value: 'xml'"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "'text.format.name'"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "'text.format.schema'"),
        ({"tools": TOOLS["chat"]}, "'tools[0].name'"),
        ({"tools": TOOLS["responses"], "tool_choice": force("responses", "g")}, "not found"),
    ],
)
def test_wrong_options_of_responses_are_refused(server: Server, fields: Body, part: str) -> None:
    """Parameters, tools and formats are looked at."""
    assert part in refused(server, "responses", body_of("responses", **fields))["message"]


def test_a_response_goes_on_from_another(server: Server) -> None:
    """Its conversation is remembered, its tools' outputs too; what is not stored is not found."""
    body = body_of("responses", "weather", tools=TOOLS["responses"])
    first = told(server, "responses", body)
    [(call, _, _)] = calls_of("responses", first)
    output = {"type": "function_call_output", "call_id": call, "output": "18"}
    on = {**body, "input": [output], "previous_response_id": first["id"]}
    second = told(server, "responses", on)
    assert text_of("responses", second) == "You said: 18"
    assert second["previous_response_id"] == first["id"]
    body = body_of("responses", "more", previous_response_id=second["id"], store=False)
    third = told(server, "responses", body)
    assert third["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    missing = body_of("responses", previous_response_id=third["id"])
    error = refused(server, "responses", missing)
    assert (error["status"], error["code"]) == (400, "previous_response_not_found")
    left = body_of("responses", previous_response_id=first["id"])
    assert "No tool output found" in refused(server, "responses", left)["message"]


def test_a_response_repeats_its_request(server: Server) -> None:
    """Instructions, reasoning and limits stand in the response, and its reasoning comes first."""
    body = body_of(
        "responses",
        instructions="Be brief.",
        reasoning={"effort": "high", "summary": "auto"},
        include=["reasoning.encrypted_content"],
        max_output_tokens=100,
        metadata={"a": "b"},
    )
    reply = told(server, "responses", body)
    for name in ("instructions", "max_output_tokens", "metadata", "reasoning"):
        assert reply[name] == body[name]
    reasoning, message = reply["output"]
    assert (reasoning["type"], message["type"]) == ("reasoning", "message")
    assert reasoning["summary"][0]["type"] == "summary_text"
    assert reasoning["encrypted_content"]
    assert reply["usage"]["output_tokens_details"]["reasoning_tokens"] == 128
    assert reply["status"] == "completed"


def test_reasoning_comes_back_with_what_it_led_to(server: Server) -> None:
    """An item without its reasoning is refused, and reasoning without its item."""
    body = body_of("responses", reasoning={"effort": "low"})
    reasoning, message = told(server, "responses", body)["output"]
    more = user("more")
    told(server, "responses", {"model": "m", "input": [reasoning, message, more]})
    error = refused(server, "responses", {"model": "m", "input": [message, more]})
    assert "without its required 'reasoning' item" in error["message"]
    error = refused(server, "responses", {"model": "m", "input": [more, reasoning]})
    assert "without its required following item" in error["message"]
    plain = {name: value for name, value in message.items() if name != "id"}
    told(server, "responses", {"model": "m", "input": [plain, more]})


def test_a_text_that_is_cut_is_incomplete(server: Server) -> None:
    """Each dialect has its own words for a reply that reached its limit."""
    server.script(*[Text("cut", finish="length")] * 3)
    assert told(server, "chat", body_of("chat"))["choices"][0]["finish_reason"] == "length"
    assert told(server, "claude", body_of("claude"))["stop_reason"] == "max_tokens"
    reply = told(server, "responses", body_of("responses"))
    assert reply["status"] == "incomplete"
    assert reply["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_reply_stops_at_a_stop_sequence(server: Server) -> None:
    """What comes first of the texts that end a reply ends it, and Claude says which."""
    reply = told(server, "chat", body_of("chat", "one two three", stop=["three", "two"]))
    assert text_of("chat", reply) == "You said: one "
    assert reply["choices"][0]["finish_reason"] == "stop"
    reply = told(server, "claude", body_of("claude", "one two", stop_sequences=["two"]))
    assert text_of("claude", reply) == "You said: one "
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("stop_sequence", "two")
    assert text_of("chat", told(server, "chat", body_of("chat", stop="x"))) == "You said: hello"


def use(*ids: str, **fields: Any) -> Body:
    """Return a Claude turn that calls tools."""
    blocks = [{"type": "tool_use", "id": one, "name": "f", "input": {}, **fields} for one in ids]
    return {"role": "assistant", "content": blocks}


def results(*ids: str, **fields: Any) -> Body:
    """Return a Claude turn with the results of tools."""
    return user([{"type": "tool_result", "tool_use_id": one, **fields} for one in ids])


def block(kind: str, **fields: Any) -> list[Body]:
    """Return a turn of the user with one block."""
    return [user([{"type": kind, **fields}])]


def source(kind: str, **fields: Any) -> list[Body]:
    """Return a turn of the user with a source."""
    return block(kind, source=fields)


@pytest.mark.parametrize(
    ("messages", "part"),
    [
        ([], "at least one message"),
        ({}, "messages"),
        (["x"], "messages.0: "),
        ([{"role": "tool", "content": "x"}], 'messages.0.role: Unexpected role "tool"'),
        ([{**user("x"), "cache": True}], "messages.0.cache: Extra inputs are not permitted"),
        ([user(None)], "messages.0.content"),
        ([user("")], "non-empty content"),
        ([user(" ")], "non-whitespace"),
        ([user([1])], "messages.0.content.0"),
        (block("text", text=""), "non-whitespace"),
        (block("text"), "messages.0.content.0.text.text: Field required"),
        (block("text", text="x", id="y"), "messages.0.content.0.text.id: Extra inputs"),
        (block("image_url", image_url={}), "Input tag 'image_url'"),
        (block("thinking", thinking="x", signature="y"), "Invalid `signature`"),
        (source("image", type="link"), "Input tag 'link'"),
        (source("image", type="url", url="x"), "HTTPS"),
        (source("image", type="base64", media_type="image/png"), "base64.data: Field required"),
        (source("image", type="base64", media_type="image/png", data="!"), "base64"),
        (source("image", type="base64", media_type="image/bmp", data=PNG), "media_type"),
        (source("image", type="base64", media_type="image/png", data=PDF), "process image"),
        (source("image", type="base64", media_type="image/gif", data=PNG), "a image/png image"),
        (source("document", type="base64", media_type="application/pdf", data=PNG), "PDF"),
        (source("document", type="text", data="x", media_type="text/html"), "text/plain"),
        ([use("a"), user("x")], "messages.0: `tool_use` ids were found without"),
        ([use("a")], "`tool_use` ids were found without `tool_result` blocks"),
        ([use("a", "b"), results("a"), results("b")], "immediately after: b"),
        ([user("x"), results("a")], "messages.1: unexpected `tool_use_id`"),
        ([use("a"), results("a", "a")], "a single result"),
        ([use("a", "a"), results("a")], "must be unique"),
        ([use("a b"), results("a b")], "should match pattern"),
        ([use("a", input="{}"), results("a")], "input: Input should be a valid dictionary"),
        ([use("a", name=None), results("a")], "tool_use.name"),
        ([use("a"), results("a", tool_call_id="a")], "Extra inputs"),
        ([use("a"), results("a", is_error="no")], "is_error"),
        ([use("a"), results("a", content=5)], "tool_result.content"),
        ([use("a"), results("a", content=[{"type": "tool_use"}])], "Input tag 'tool_use'"),
        ([use("a"), user([{"type": "tool_result"}])], "tool_use_id: Field required"),
        (
            [use("a"), user([{"type": "text", "text": "x"}, *results("a")["content"]])],
            "must come before other content",
        ),
        ([user(use("a")["content"])], "can only be in `assistant`"),
        ([{**results("a"), "role": "assistant"}], "can only be in `user`"),
        ([user("x"), {"role": "assistant", "content": "x "}], "trailing whitespace"),
        (
            [user("x"), {"role": "assistant", "content": [{"type": "text", "text": "x\n"}]}],
            "trailing whitespace",
        ),
    ],
)
def test_wrong_messages_of_claude_are_refused(server: Server, messages: Any, part: str) -> None:
    """Messages, their blocks and the order of calls and results are looked at."""
    error = refused(server, "claude", {"model": "m", "max_tokens": 5, "messages": messages})
    assert (error["status"], error["type"]) == (400, "invalid_request_error")
    assert part in error["message"]


THINK = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": "5"}, "valid integer"),
        ({"max_tokens": -1}, "greater than or equal to 0"),
        ({"model": None}, "model: Field required"),
        ({"model": 5}, "model: "),
        ({"stop": ["x"]}, "stop: Extra inputs are not permitted"),
        ({"reasoning_effort": "low"}, "reasoning_effort: Extra inputs"),
        ({"stop_sequences": [" "]}, "non-whitespace"),
        ({"system": 5}, "system: "),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"system": [{"type": "text", "text": ""}]}, "non-whitespace"),
        ({"temperature": 1.5}, "temperature: "),
        ({"tools": {}}, "tools: "),
        ({"tools": [1]}, "tools.0: "),
        ({"tools": TOOLS["chat"]}, "Input tag 'function'"),
        ({"tools": [{"name": "a b", "input_schema": PARAMETERS}]}, "should match pattern"),
        ({"tools": [{"name": "f"}]}, "input_schema: Field required"),
        ({"tools": [{"name": "f", "input_schema": {}}]}, "input_schema.type"),
        ({"tools": [{"name": "f", "parameters": PARAMETERS}]}, "parameters: Extra inputs"),
        ({"tools": tools("claude", "f", "f")}, "must be unique"),
        ({"tool_choice": {"type": "auto"}}, "while providing tools"),
        ({"tools": TOOLS["claude"], "tool_choice": "auto"}, "tool_choice: "),
        ({"tools": TOOLS["claude"], "tool_choice": force("claude", "g")}, "'g' not found"),
        ({"thinking": {"type": "some"}}, "thinking: Input tag 'some'"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1000}}, "greater than or equal to 1024"),
        ({"thinking": {"type": "enabled"}}, "budget_tokens"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 2000}}, "Extra inputs"),
        ({"thinking": THINK, "max_tokens": 1024}, "must be greater than"),
        ({"thinking": THINK, "temperature": 0.5}, "`temperature` may only be set to 1"),
        ({"thinking": THINK, "top_k": 5}, "`top_k` must be unset"),
        (
            {"thinking": THINK, "tools": TOOLS["claude"], "tool_choice": {"type": "any"}},
            "forces tool use",
        ),
        ({"thinking": THINK, "messages": [use("a"), results("a")]}, "Expected `thinking`"),
        ({"output_config": 5}, "output_config: "),
        ({"output_config": {"effort": "minimal"}}, "output_config.effort: "),
        ({"output_config": {"verbosity": "low"}}, "Extra inputs"),
        ({"output_config": {"format": {"type": "json_object"}}}, "'json_schema'"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "schema: Field required"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {}, "name": "n"}}},
            "format.name: Extra inputs",
        ),
    ],
)
def test_wrong_options_of_claude_are_refused(server: Server, fields: Body, part: str) -> None:
    """Parameters, tools, thinking and formats are looked at."""
    assert part in refused(server, "claude", body_of("claude", **fields))["message"]


MARK = {"type": "ephemeral"}
LONG = {"type": "ephemeral", "ttl": "1h"}


def marked(*marks: Any) -> list[Body]:
    """Return system blocks with these marks."""
    return [{"type": "text", "text": "x", "cache_control": mark} for mark in marks]


@pytest.mark.parametrize(
    ("system", "part"),
    [
        (marked(True), "cache_control: "),
        (marked({"type": "lasting"}), "cache_control: "),
        (marked({"type": "ephemeral", "ttl": "2h"}), "ttl"),
        (marked(*[MARK] * 5), "A maximum of 4 blocks with cache_control may be provided. Found 5"),
        (marked(MARK, LONG), "must not come after"),
    ],
)
def test_wrong_marks_of_the_cache_are_refused(server: Server, system: Any, part: str) -> None:
    """Their form, their number and their order are looked at."""
    assert part in refused(server, "claude", body_of("claude", system=system))["message"]
    told(server, "claude", body_of("claude", system=marked(LONG, *[MARK] * 3)))


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"temperature": 1}, "temperature"),
        ({"top_p": 1}, "top_p"),
        ({"messages": block("text", text="x", citations=[{"type": "y"}])}, "citations"),
        (
            {
                "messages": [
                    user("x"),
                    {"role": "assistant", "content": block("document", source={
                        "type": "text", "data": "x", "media_type": "text/plain"
                    })[0]["content"]},
                    user("x"),
                ]
            },
            "document",
        ),
    ],
)  # fmt: skip
def test_the_newest_version_of_claude_has_rules_of_its_own(
    server: Server, fields: Body, part: str
) -> None:
    """What 2026-10-21 refuses 2023-06-01 takes."""
    body = body_of("claude", **fields)
    told(server, "claude", body)
    assert part in refused(server, "claude", body, **NEWEST)["message"]


def test_an_unknown_version_is_refused(server: Server) -> None:
    """Claude's API has versions, and takes no other."""
    error = refused(server, "claude", body_of("claude"), **{"anthropic-version": "2024-01-01"})
    assert '"2024-01-01" is not a valid version' in error["message"]


def test_what_the_vendors_take_is_taken(server: Server) -> None:
    """Images, documents, results with parts and whole turns pass in every dialect's form."""
    pdf, png = f"data:application/pdf;base64,{PDF}", f"data:image/png;base64,{PNG}"
    audio = {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}
    parts = [*image(png), *image("https://example.com/a.png"), audio]
    parts += [{"type": "file", "file": {"file_data": pdf, "filename": "a.pdf"}}]
    parts += [{"type": "file", "file": {"file_id": "f"}}, {"type": "text", "text": "chat"}]
    turns = [{"role": "developer", "content": [{"type": "text", "text": "x"}]}, user(parts)]
    turns += [{"role": "assistant", "content": [{"type": "refusal", "refusal": "x"}]}, user("go")]
    reply = told(server, "chat", {"model": "m", "messages": turns, "temperature": None})
    assert text_of("chat", reply) == "You said: go"
    inputs = [{"type": "input_image", "detail": "auto", "image_url": png}]
    inputs += [{"type": "input_file", "file_data": pdf, "filename": "a.pdf"}]
    inputs += [{"type": "input_file", "file_url": "https://example.com/a.pdf"}]
    inputs += [{"type": "input_text", "text": "responses"}]
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "a", "output": inputs[:1]}
    given = [user(inputs), call, output, {"type": "item_reference", "id": "msg_1"}]
    told(server, "responses", {"model": "m", "input": given, "tools": [{"type": "web_search"}]})
    encoded = {"type": "base64", "media_type": "image/png", "data": PNG}
    blocks = [{"type": "image", "source": encoded, "cache_control": MARK}]
    blocks += [{"type": "image", "source": {"type": "url", "url": "https://example.com/"}}]
    paper = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    blocks += [{"type": "document", "source": paper, "title": "t"}]
    result = {"type": "tool_result", "tool_use_id": "a", "is_error": True, "content": blocks}
    messages = [user([*blocks, {"type": "text", "text": "x"}]), use("a"), user([result])]
    server_tool = {"type": "web_search_20260318", "name": "web_search"}
    told(server, "claude", body_of("claude", messages=messages, tools=[server_tool], stop_sequences=["x"]))  # fmt: skip # noqa: E501


def test_claude_thinks_when_asked(server: Server) -> None:
    """Thinking comes first, is counted, and comes back with its signature, which is looked at."""
    body = body_of("claude", tools=TOOLS["claude"], thinking=THINK)
    reply = told(server, "claude", body)
    thinking, call = reply["content"]
    assert (thinking["type"], call["type"]) == ("thinking", "tool_use")
    assert reply["usage"]["output_tokens_details"]["thinking_tokens"] == 64
    on = with_results("claude", body, reply, ["18"])
    assert told(server, "claude", on)["content"][1]["text"] == "You said: 18"
    told(server, "claude", {**on, "thinking": {"type": "between_tools"}})
    on["messages"][1]["content"][0]["thinking"] += "?"
    assert "Invalid `signature`" in refused(server, "claude", on)["message"]
    omitted = {"type": "adaptive", "display": "omitted"}
    [thinking, _] = told(server, "claude", body_of("claude", thinking=omitted))["content"]
    assert (thinking["thinking"], bool(thinking["signature"])) == ("", True)


def test_claude_may_be_asked_for_nothing(server: Server) -> None:
    """No tokens are no reply: it only fills the cache."""
    reply = told(server, "claude", body_of("claude", max_tokens=0))
    assert (reply["content"], reply["stop_reason"]) == ([], "max_tokens")
    assert reply["usage"]["output_tokens"] == 0


def test_a_prompt_is_cached_up_to_its_marks(server: Server) -> None:
    """The same beginning is read from the cache the second time, and what is new is added."""

    def usage(system: str, *turns: Body, **fields: Any) -> tuple[int, int, int]:
        first = {"type": "text", "text": system, "cache_control": LONG}
        body = body_of("claude", system=[first], messages=list(turns), **fields)
        found = told(server, "claude", body)["usage"]
        names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        total = sum(found[name] for name in names)
        status, _, content = ask(
            server,
            "/v1/messages/count_tokens",
            {name: value for name, value in body.items() if name != "max_tokens"},
            CLAUDE,
        )
        assert (status, json.loads(content)) == (200, {"input_tokens": total})
        return found[names[0]], found[names[1]], found[names[2]]

    system = "x" * 4000
    assert usage(system, user("hello")) == (9, 1000, 0)
    assert usage(system, user("other")) == (9, 0, 1000)
    assert usage(system + "!" * 4, user("hello")) == (9, 1001, 0)
    long = user([{"type": "text", "text": "y" * 400, "cache_control": MARK}])
    assert usage(system, long) == (8, 100, 1000)
    assert usage(system, long, cache_control=MARK) == (8, 0, 1100)
    reply = told(server, "claude", body_of("claude", system=marked(LONG)))
    assert reply["usage"]["cache_creation"]["ephemeral_1h_input_tokens"] == 1
    nested = results("a", content=[{"type": "text", "text": "z" * 40, "cache_control": MARK}])
    body = body_of("claude", messages=[use("a"), nested])
    for name in ("cache_creation_input_tokens", "cache_read_input_tokens"):
        assert told(server, "claude", body)["usage"][name] == 10


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_openai_caches_under_a_key(server: Server, api: str) -> None:
    """With a key the same beginning counts as cached the second time."""
    details = {"chat": "prompt_tokens_details", "responses": "input_tokens_details"}[api]
    turns = [{"role": "system", "content": "x" * 400}, user("hello")]
    name = "messages" if api == "chat" else "input"
    seen = []
    for key in ("a", "a", "b", None):
        body = {"model": "m", name: turns, **({"prompt_cache_key": key} if key else {})}
        seen.append(told(server, api, body)["usage"][details]["cached_tokens"])
    assert seen == [0, 101, 0, 0]


def test_tokens_are_counted(server: Server) -> None:
    """Both vendors' counts are those of the reply's usage."""
    body = {"model": "m", "input": "hello", "instructions": "Be brief."}
    for path, given, key, headers, usage in (
        ("/v1/responses/input_tokens", body, "input_tokens", OPENAI, "responses"),
        ("/v1/messages/count_tokens", body_of("claude"), "input_tokens", CLAUDE, "claude"),
    ):
        sent = {name: value for name, value in given.items() if name != "max_tokens"}
        status, _, content = ask(server, path, sent, headers)
        counted = json.loads(content)
        assert status == 200
        assert counted[key] == told(server, usage, given)["usage"]["input_tokens"]
    assert counted == {"input_tokens": 9}
    status, _, content = ask(server, "/v1/responses/input_tokens", {"input": "hello"})
    assert json.loads(content) == {"object": "response.input_tokens", "input_tokens": 9}
    for path, given, headers in (
        ("/v1/responses/input_tokens", {"input": "x", "stream": True}, OPENAI),
        ("/v1/messages/count_tokens", body_of("claude"), CLAUDE),
    ):
        assert ask(server, path, {"input": 5}, headers)[0] == 400
        assert ask(server, path, given, headers)[0] == 400
        assert ask(server, path, {"input": 5}, {})[0] == 401


def embedded(server: Server, **fields: Any) -> list[Any]:
    """Return the vectors of an answer."""
    body = {"model": "text-embedding-3-small", **fields}
    status, _, content = ask(server, "/v1/embeddings", body)
    found = json.loads(content)
    assert (status, found.get("object")) == (200, "list"), found
    assert [one["index"] for one in found["data"]] == list(range(len(found["data"])))
    return [one["embedding"] for one in found["data"]]


def times(one: list[float], other: list[float]) -> float:
    """Return the product of two vectors."""
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def test_texts_are_embedded(server: Server) -> None:
    """The same text has the same vector of unit length, near to what has the same words."""
    one, same, near, far = embedded(server, input=["good day", "good day", "Good night", "x"])
    assert one == same
    assert len(one) == 1536
    assert times(one, one) == pytest.approx(1, abs=1e-6)
    assert times(one, near) > 0.3 > abs(times(one, far))
    [short] = embedded(server, input="good day", dimensions=256)
    assert times(short, short) == pytest.approx(1, abs=1e-6)
    [large] = embedded(server, input="good day", model="text-embedding-3-large")
    assert len(large) == 3072


def test_embeddings_come_in_two_encodings(server: Server) -> None:
    """base64 holds the same numbers, four bytes each; tokens are embedded, too."""
    [plain] = embedded(server, input="hello", dimensions=8)
    [encoded] = embedded(server, input="hello", dimensions=8, encoding_format="base64")
    assert list(struct.unpack("<8f", base64.b64decode(encoded))) == plain
    [tokens] = embedded(server, input=[1, 2, 3])
    assert embedded(server, input=[[1, 2, 3], [4]])[0] == tokens


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"model": None}, "'model'"),
        ({"input": None}, "'input'"),
        ({"input": ""}, "empty string"),
        ({"input": []}, "empty array"),
        ({"input": ["a", ""]}, "empty string"),
        ({"input": [{"text": "a"}]}, "texts or tokens"),
        ({"input": 5}, "a string or an array"),
        ({"input": ["a"] * 2049}, "at most 2048"),
        ({"encoding_format": "hex"}, "Invalid value: 'hex'"),
        ({"dimensions": 0}, "from 1 to 1536"),
        ({"dimensions": 1.5}, "expected an integer"),
    ],
)
def test_wrong_embeddings_are_refused(server: Server, fields: Body, part: str) -> None:
    """Inputs, sizes and encodings are looked at."""
    status, _, content = ask(server, "/v1/embeddings", {"model": "m", "input": "a", **fields})
    assert status == 400
    assert part in json.loads(content)["error"]["message"]


def listed(server: Server, query: str = "", headers: Any = CLAUDE) -> Body:
    """Return an answer of the list of models."""
    _, _, content = ask(server, f"/v1/models{query}", None, headers, "GET")
    found: Body = json.loads(content)
    return found


def test_claude_lists_its_models_in_pages() -> None:
    """A page says whether more come and where it begins and ends, forwards and backwards."""
    names = [f"claude-{number:02}" for number in range(45)]
    with Server(models=names) as server:
        seen, query = [], ""
        while True:
            page = listed(server, query)
            seen += [one["id"] for one in page["data"]]
            assert (page["first_id"], page["last_id"]) == (seen[-len(page["data"])], seen[-1])
            if not page["has_more"]:
                break
            query = f"?after_id={page['last_id']}"
        assert (seen, len(server.requests)) == (names, 3)
        page = listed(server, "?before_id=claude-10&limit=4")
        assert [one["id"] for one in page["data"]] == names[6:10]
        assert page["has_more"]
        assert listed(server, f"?after_id={names[-1]}") == {
            "data": [],
            "has_more": False,
            "first_id": None,
            "last_id": None,
        }
        assert "limit" in listed(server, "?limit=0")["error"]["message"]
        assert "after_id" in listed(server, "?after_id=x")["error"]["message"]
        assert [one["id"] for one in listed(server, headers=OPENAI)["data"]] == names


def test_one_model_may_be_asked_for(server: Server) -> None:
    """A model that is listed has an entry of its own, and another is not found."""
    for headers, name in ((OPENAI, "gpt-5.5"), (CLAUDE, "claude-opus-5-5")):
        assert listed(server, f"/{name}", headers)["id"] == name
        status, _, content = ask(server, "/v1/models/x%20y", None, headers, "GET")
        assert status == 404
        assert "'x y'" in json.loads(content)["error"]["message"]


def test_every_api_needs_its_key(server: Server) -> None:
    """Without a key no API answers, and none at a path that is not there."""
    for path in (*PATHS.values(), "/v1/embeddings"):
        assert ask(server, path, {}, {})[0] == 401
        assert ask(server, path, b"[]", {**OPENAI, **CLAUDE})[0] == 400
        assert ask(server, path + "/x", {}, OPENAI)[0] == 404
    assert ask(server, "/openai/v1/responses", body_of("responses"))[0] == 200


def test_what_is_no_object_is_refused_politely(server: Server, api: str) -> None:
    """No shape of a body breaks the server: it answers each with a 400, and goes on."""
    odd: list[Any] = [None, 5, "x", [], {}, [[]], [{}], [None], {"type": None}, {"type": []}]
    names = [*body_of(api), "tools", "tool_choice", "system", "stream_options", "thinking", "text"]
    names += ["reasoning", "output_config", "response_format", "stop", "previous_response_id"]
    for name in names:
        for value in odd:
            status, _, _ = ask(server, PATHS[api], body_of(api) | {name: value}, HEADERS[api])
            assert status in (200, 400), (name, value)


def test_no_schema_breaks_the_server(server: Server, api: str) -> None:
    """Odd JSON schemas are refused, or a value is found for them."""
    odd: list[Any] = [True, 5, "x", [], {"type": 5}, {"type": ["x", 5]}, {"enum": 5}, {"anyOf": []}]
    odd += [{"properties": 5, "type": "object"}, {"items": 5, "type": "array"}, {"$ref": 5}]
    odd += [{"required": 5, "type": "object"}, {"allOf": 5}, {"allOf": [5]}, {"const": []}]
    shapes: list[Callable[[Any], Any]] = [lambda schema: schema, lambda schema: nested(a=schema)]
    shapes += [
        lambda schema: nested(**schema) if isinstance(schema, dict) else nested(items=schema)
    ]
    for schema in odd:
        for shape in shapes:
            for strict in (True, False):
                body = body_of(api, **form(api, shape(schema), strict=strict))
                status, _, _ = ask(server, PATHS[api], body, HEADERS[api])
                assert status in (200, 400), (shape(schema), strict)
