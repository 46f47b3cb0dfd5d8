"""Requests in Claude's dialect: every feature as the API takes it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import ChatRequest, Document, Image, InvalidRequestError, Message
from termai_http._specs import OutputSpec, ToolSpec
from termai_http.dialects import _claude_rules as rules
from termai_http.dialects.claude_messages import ClaudeMessages

CLAUDE = ClaudeMessages()
STRICTER = ClaudeMessages(api_version="2026-10-21")
PNG = b"\x89PNG\r\n\x1a\n"
PNG_SOURCE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PNG_URL = "data:image/png;base64,iVBORw0KGgo="
PDF = Document(b"%PDF-1", name="a.pdf")
PDF_SOURCE = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}
PDF_URL = "data:application/pdf;base64,JVBERi0x"
SECRET = "what nobody may see"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = ToolSpec(name="f", description="Does f.", parameters=SCHEMA, strict=True)
LOOSE = ToolSpec(name="g", parameters={"type": "object"})
OUTPUT = OutputSpec(name="answer", schema=SCHEMA, read=str)
MARK = {"type": "ephemeral"}


def encode(messages: Any = "hi", dialect: ClaudeMessages = CLAUDE, **fields: Any) -> dict[str, Any]:
    """Encode and check a request."""
    body = dialect.encode(ChatRequest("claude-m", messages, **fields))
    dialect.check(body)
    return body


def turns(messages: Any) -> list[dict[str, Any]]:
    """Encode messages."""
    found: list[dict[str, Any]] = encode(messages)["messages"]
    return found


def call(id: str = "1", arguments: Any = '{"a":1}', name: Any = "f") -> dict[str, Any]:
    """Return a neutral tool call."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(id: str = "1", content: Any = "b", **more: Any) -> dict[str, Any]:
    """Return a neutral result of a tool."""
    return {"role": "tool", "tool_call_id": id, "content": content, **more}


def calling(*calls: dict[str, Any], content: Any = None, **more: Any) -> dict[str, Any]:
    """Return an assistant's turn with tool calls."""
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **more}


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (
            {"messages": "hi"},
            {
                "model": "claude-m",
                "messages": [{"role": "user", "content": "hi"}],
                "max_tokens": 4096,
            },
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "a"},
                    Message("developer", "b"),
                    {"role": "user", "content": "c"},
                    {"role": "assistant", "content": "d"},
                    {"role": "system", "content": "e"},
                ],
                "system": "s",
                "max_tokens": 5,
                "extra": {"temperature": 0, "metadata": {"user_id": "u"}},
            },
            {
                "model": "claude-m",
                "messages": [
                    {"role": "user", "content": "c"},
                    {"role": "assistant", "content": "d"},
                    {"role": "system", "content": "e"},
                ],
                "system": "s\n\na\n\nb",
                "max_tokens": 5,
                "temperature": 0,
                "metadata": {"user_id": "u"},
            },
        ),
    ],
)
def test_a_chat_of_text_is_what_was_given(fields: dict[str, Any], body: dict[str, Any]) -> None:
    """The body of a plain chat has nothing in it that was not asked for."""
    assert encode(**fields) == body
    assert list(encode(**fields)) == list(body)


def test_a_plain_message_is_not_copied_twice() -> None:
    """Text that goes out as it is stays the same object, however large."""
    text = "x" * 1000
    parts = [{"type": "text", "text": text}]
    made = turns([{"role": "user", "content": text}, {"role": "user", "content": parts}])
    assert made[0]["content"] is text
    assert made[1]["content"][0] is parts[0]


@pytest.mark.parametrize(
    ("part", "made"),
    [
        ("a", {"type": "text", "text": "a"}),
        (Image(PNG, detail="low"), {"type": "image", "source": PNG_SOURCE}),
        (
            Image("https://x/a.png"),
            {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
        ),
        (PDF, {"type": "document", "source": PDF_SOURCE, "title": "a.pdf"}),
        (Document(b"%PDF-1"), {"type": "document", "source": PDF_SOURCE}),
        (
            Document("https://x/a.pdf", name="n"),
            {
                "type": "document",
                "source": {"type": "url", "url": "https://x/a.pdf"},
                "title": "n",
            },
        ),
        # OpenAI's forms, of both of its APIs.
        (
            {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "low"}},
            {"type": "image", "source": PNG_SOURCE},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x/a.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
        ),
        (
            {"type": "image_url", "image_url": "DATA:IMAGE/PNG;BASE64,iVBORw0KGgo="},
            {"type": "image", "source": PNG_SOURCE},
        ),
        (
            {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
            {"type": "image", "source": PNG_SOURCE},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}},
            {"type": "document", "source": PDF_SOURCE, "title": "a.pdf"},
        ),
        (
            {"type": "file", "file": {"file_data": "JVBERi0x"}},
            {"type": "document", "source": PDF_SOURCE},
        ),
        (
            {"type": "input_file", "file_url": "https://x/a.pdf"},
            {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}},
        ),
        ({"type": "input_text", "text": "a"}, {"type": "text", "text": "a"}),
        ({"type": "refusal", "refusal": "no"}, {"type": "text", "text": "no"}),
        (
            {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "text", "text": "a"},
        ),
    ],
)
def test_every_part_takes_claudes_form(part: Any, made: dict[str, Any]) -> None:
    """Our own parts are encoded, and OpenAI's are said in Claude's words."""
    assert turns([{"role": "user", "content": ["x", part]}])[0]["content"][1] == made


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "a", "cache_control": MARK},
        {"type": "text", "text": "a", "citations": None},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "text", "data": "a", "media_type": "text/plain"}},
        {"type": "search_result", "source": "s", "title": "t", "content": []},
        {"type": "container_upload", "file_id": "f"},
        {"type": "brand_new", "a": 1},
    ],
)
def test_a_part_of_the_vendor_passes(part: dict[str, Any]) -> None:
    """Claude's own blocks, and those that nobody knows yet, go out as the same object."""
    assert turns([{"role": "user", "content": [part]}])[0]["content"][0] is part


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"type": "input_audio", "input_audio": {"data": SECRET}}, r"messages\[0\]\.content\[1\]"),
        ({"type": "file", "file": {"file_id": "f"}}, "pass its bytes"),
        ({"type": "input_image", "file_id": "f"}, "pass its bytes"),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,QQ=="}}, "of text/plain"),
        ({"type": "image_url", "image_url": {"url": PDF_URL}}, "of application/pdf"),
        ({"type": "image_url", "image_url": {"url": "data:,x"}}, "of no known type"),
        ({"type": "image_url", "image_url": {}}, "'image_url' part, which Claude does not take"),
        ({"type": "file", "file": SECRET}, "'file' part"),
    ],
)
def test_a_part_that_claude_has_no_form_for_is_refused(part: Any, says: str) -> None:
    """The error names the place and the way out, and shows nothing of the content."""
    with pytest.raises(InvalidRequestError, match=says) as caught:
        turns([{"role": "user", "content": ["x", part]}])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("part", [3, None, {}, {"type": 3}])
def test_a_part_within_a_result_has_a_type(part: Any) -> None:
    """What stands within a block is looked at as what stands in a message."""
    block = {"type": "tool_result", "tool_use_id": "1", "content": [part]}
    with pytest.raises(InvalidRequestError, match=r"content\[0\] must be text, an Image"):
        turns([{"role": "user", "content": [block]}])


def test_a_block_of_claudes_with_text_passes() -> None:
    """A result as the API takes it is the same object."""
    block = {"type": "tool_result", "tool_use_id": "1", "content": "b"}
    assert turns([{"role": "user", "content": [block]}])[0]["content"][0] is block


def test_a_document_is_named_after_its_file(tmp_path: Path) -> None:
    """The file's name is the title, where no other was given."""
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF-1")
    assert turns([Document(path)])[0]["content"][0]["title"] == "report.pdf"


def test_our_parts_are_encoded_within_a_block_of_claudes() -> None:
    """A result that was written as a block may hold an Image, too."""
    block = {"type": "tool_result", "tool_use_id": "1", "content": [Image(PNG)]}
    made = turns([{"role": "user", "content": [block]}])[0]["content"]
    assert made == [{**block, "content": [{"type": "image", "source": PNG_SOURCE}]}]


def test_blank_text_is_left_out_of_blocks() -> None:
    """The API refuses a text block without a word in it, which models write beside tool calls."""
    made = turns(
        [
            {"role": "user", "content": ["", "a", {"type": "text", "text": ""}]},
            calling(call(), content="\n\n"),
        ]
    )
    assert made[0]["content"] == [{"type": "text", "text": "a"}]
    assert [block["type"] for block in made[1]["content"]] == ["tool_use"]


def test_tool_use_takes_claudes_form() -> None:
    """Calls become blocks behind the words, results one turn of the user, in their order."""
    made = turns(
        [
            {"role": "user", "content": "go"},
            calling(call("1"), call("2", "", name="g"), content="I look."),
            result("1", "b"),
            result("2", ["c", Image(PNG)], is_error=True),
            {"role": "user", "content": "well?"},
        ]
    )
    assert made[1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "b"},
                {
                    "type": "tool_result",
                    "tool_use_id": "2",
                    "content": [
                        {"type": "text", "text": "c"},
                        {"type": "image", "source": PNG_SOURCE},
                    ],
                    "is_error": True,
                },
            ],
        },
        {"role": "user", "content": "well?"},
    ]


def test_results_of_two_turns_stay_apart() -> None:
    """Each assistant's turn has its results in the one user's turn after it."""
    made = turns([calling(call("1")), result("1"), calling(call("2")), result("2")])
    assert [turn["role"] for turn in made] == ["assistant", "user", "assistant", "user"]
    assert [turn["content"][0]["tool_use_id"] for turn in made[1::2]] == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        ('{"a":1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        (None, {}),
        ("{cut", {"arguments": "{cut"}),
        ("[1]", {"arguments": [1]}),
    ],
)
def test_arguments_are_an_object(arguments: Any, made: dict[str, Any]) -> None:
    """Claude takes nothing else, so what is none is put into one, and not lost."""
    assert turns([calling(call(arguments=arguments))])[0]["content"][0]["input"] == made


def test_a_custom_call_is_an_object_with_its_input() -> None:
    """OpenAI's free-form calls, which Claude has not, keep their text."""
    for text in ("x", ""):
        custom = {"id": "1", "type": "custom", "custom": {"name": "c", "input": text}}
        assert turns([calling(custom)])[0]["content"] == [
            {"type": "tool_use", "id": "1", "name": "c", "input": {"input": text}}
        ]


def test_ids_of_other_servers_are_made_good() -> None:
    """The API takes letters, digits, - and _ only; a call and its result stay a pair."""
    made = turns([calling(call("functions.f:0|é")), result("functions.f:0|é")])
    assert made[0]["content"][0]["id"] == "functions_f_0__"
    assert made[1]["content"][0]["tool_use_id"] == "functions_f_0__"


@pytest.mark.parametrize(
    ("content", "more", "made"),
    [
        ("", {}, {}),
        ("", {"is_error": True}, {"content": "The tool failed.", "is_error": True}),
        ("no", {"is_error": True}, {"content": "no", "is_error": True}),
        ("b", {"is_error": False}, {"content": "b"}),
        (["", "b"], {}, {"content": [{"type": "text", "text": "b"}]}),
    ],
)
def test_a_result_may_be_empty_but_not_as_an_error(
    content: Any, more: dict[str, Any], made: dict[str, Any]
) -> None:
    """The API refuses an error without a word, and a blank block."""
    block = {"type": "tool_result", "tool_use_id": "1", **made}
    assert turns([calling(call()), result("1", content, **more)])[1]["content"] == [block]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "tool", "content": "a"}, r"\.tool_call_id is missing"),
        (result(""), r"\.tool_call_id is missing"),
        ({"role": "function", "name": "f", "content": "a"}, r'\.role "function" is OpenAI'),
        (calling({"id": "1"}), r'\.tool_calls\[0\] has no "function"'),
        ({"role": "assistant", "tool_calls": [3]}, r'\.tool_calls\[0\] has no "function"'),
        (calling(call(name=3)), r'\.tool_calls\[0\] has no "function" with a "name"'),
        (calling({**call(), "id": 3}), r"\.tool_calls\[0\]\.id is missing"),
        (calling(call(""), content="a"), r"\.tool_calls\[0\]\.id is missing"),
        ({"role": "assistant", "content": "a", "tool_calls": 3}, r"\.tool_calls must be a list"),
        (
            {"role": "assistant", "content": "a", "function_call": {"name": "f"}},
            r"\.function_call is OpenAI's old form",
        ),
        ({"role": "assistant", "content": None, "audio": {"id": "1"}}, " holds nothing that"),
        ({"role": "user", "content": ["", {"type": "text", "text": ""}]}, " holds nothing that"),
    ],
)
def test_a_turn_that_cannot_be_said_is_refused(message: dict[str, Any], says: str) -> None:
    """The error names the place."""
    with pytest.raises(InvalidRequestError, match=r"messages\[1\]" + says):
        turns([{"role": "user", "content": "a"}, message])


def test_an_openai_reply_goes_on_without_what_only_openai_reads() -> None:
    """Of a turn that OpenAI or a server like it answered, words and calls go on."""
    reply = {"refusal": None, "annotations": [], "audio": None, "reasoning_content": SECRET}
    made = turns(
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", **reply},
            {"role": "assistant", "content": "", "reasoning_content": SECRET},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "assistant", "content": ["e"], "refusal": "no"},
            {"role": "developer", "content": "c"},
            {"role": "user", "content": "d", "clear_at": "brand new"},
        ]
    )
    assert made == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "e"}]},
        {"role": "system", "content": "c"},
        {"role": "user", "content": "d", "clear_at": "brand new"},
    ]


def test_items_of_responses_are_said_in_claudes_words() -> None:
    """Messages, calls and outputs become turns; reasoning is nobody else's."""
    items = [
        {"type": "message", "role": "system", "content": "s"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look."}],
        },
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "b"},
        {"type": "function_call_output", "call_id": "2", "output": "c"},
    ]
    body = encode(items)
    assert body["system"] == "s"
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "go"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "1", "name": "f", "input": {}},
                {"type": "tool_use", "id": "2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "b"},
                {"type": "tool_result", "tool_use_id": "2", "content": "c"},
            ],
        },
    ]


def test_claudes_own_turns_go_back_unchanged() -> None:
    """Blocks of a reply, thinking and signatures with them, are the same objects again."""
    blocks = [
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "caller": {}},
        {"type": "brand_new"},
    ]
    made = turns([{"role": "user", "content": "a"}, {"role": "assistant", "content": blocks}])
    assert made[1] == {"role": "assistant", "content": blocks}
    assert all(was is now for was, now in zip(blocks, made[1]["content"], strict=True))


@pytest.mark.parametrize(
    ("messages", "fields", "system"),
    [
        (
            [Message("system", "a", cache=True)],
            {"system": "s"},
            [
                {"type": "text", "text": "s"},
                {"type": "text", "text": "a", "cache_control": MARK},
            ],
        ),
        (
            [
                {"role": "developer", "content": ["a", {"type": "text", "text": "b"}]},
                Message("system", "c"),
            ],
            {},
            [
                {"type": "text", "text": "a"},
                {"type": "text", "text": "b"},
                {"type": "text", "text": "c"},
            ],
        ),
    ],
)
def test_a_system_prompt_with_marks_or_parts_goes_as_blocks(
    messages: list[Any], fields: dict[str, Any], system: list[Any]
) -> None:
    """Text alone is joined; anything more keeps its parts apart."""
    assert encode([*messages, {"role": "user", "content": "hi"}], **fields)["system"] == system


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([{"role": "system", "content": "a"}], "nothing but a system prompt"),
        (
            [{"role": "system", "content": ["a", Image(PNG)]}, {"role": "user", "content": "b"}],
            r"messages\[0\]\.content\[1\] is no text",
        ),
    ],
)
def test_a_system_prompt_is_text_and_not_all(messages: list[Any], says: str) -> None:
    """There is a turn of the user, and no image before it."""
    with pytest.raises(InvalidRequestError, match=says):
        encode(messages)


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (Message("user", "a", cache=True), [{"type": "text", "text": "a", "cache_control": MARK}]),
        (
            Message("user", ["a", Image(PNG)], cache="1h"),
            [
                {"type": "text", "text": "a"},
                {
                    "type": "image",
                    "source": PNG_SOURCE,
                    "cache_control": {"type": "ephemeral", "ttl": "1h"},
                },
            ],
        ),
        (
            Message("assistant", "a", cache="5m"),
            [
                {
                    "type": "text",
                    "text": "a",
                    "cache_control": {"type": "ephemeral", "ttl": "5m"},
                }
            ],
        ),
        (
            result("1", "b", cache=True),
            [
                {
                    "type": "tool_result",
                    "tool_use_id": "1",
                    "content": "b",
                    "cache_control": MARK,
                }
            ],
        ),
        (
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "t"}],
                "cache": True,
            },
            [
                {"type": "text", "text": "a", "cache_control": MARK},
                {"type": "thinking", "thinking": "t"},
            ],
        ),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", "cache_control": {"ttl": "1h"}}],
                "cache": True,
            },
            [{"type": "text", "text": "a", "cache_control": {"ttl": "1h"}}],
        ),
    ],
)
def test_cache_marks_the_last_block(message: Any, content: list[Any]) -> None:
    """The mark goes on the last block that can have one, and never over the vendor's own."""
    assert turns([calling(call()), message])[1]["content"] == content


def test_a_turn_of_nothing_but_thinking_cannot_be_cached() -> None:
    """The API refuses a mark on thinking."""
    block = {"type": "thinking", "thinking": "t", "signature": "s"}
    with pytest.raises(InvalidRequestError, match=r"messages\[0\]\.cache"):
        turns([{"role": "assistant", "content": [block], "cache": True}])


def test_claude_takes_four_cache_marks() -> None:
    """All are counted: of tools, system, messages and what stands within blocks."""
    tool = {"name": "f", "input_schema": {}, "cache_control": MARK}
    inner = {"type": "text", "text": "a", "cache_control": MARK}
    block = {"type": "tool_result", "tool_use_id": "1", "content": [inner]}
    messages = [
        Message("system", "a", cache=True),
        {"role": "user", "content": [block]},
        Message("user", "b", cache=True),
    ]
    encode(messages, tools=(tool,))
    with pytest.raises(InvalidRequestError, match="5 cache marks; Claude takes at most 4"):
        encode([*messages, Message("user", "c", cache=True)], tools=(tool,))


def test_an_hour_does_not_come_after_five_minutes() -> None:
    """The API reads tools, system and messages in this order, and wants the longer mark first."""
    encode([Message("system", "a", cache="1h"), Message("user", "b", cache=True)])
    with pytest.raises(InvalidRequestError, match='mark of "1h" comes after one of "5m"'):
        encode([Message("system", "a", cache=True), Message("user", "b", cache="1h")])


def test_tools_and_output_take_claudes_form() -> None:
    """Specs are encoded, strict where they can be; OpenAI's form is turned, Claude's passes."""
    own = {"type": "web_search_20260318", "name": "web_search"}
    openais = {
        "type": "function",
        "function": {"name": "d", "description": "x", "parameters": SCHEMA, "strict": True},
    }
    bare = {"type": "function", "function": {"name": "e", "description": None}}
    body = encode(tools=(TOOL, LOOSE, own, openais, bare), output=OUTPUT)
    assert body["tools"] == [
        {"name": "f", "description": "Does f.", "input_schema": SCHEMA, "strict": True},
        {"name": "g", "input_schema": {"type": "object"}},
        own,
        {"name": "d", "description": "x", "input_schema": SCHEMA, "strict": True},
        {"name": "e", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}


def strict_ones(*tools: Any, output: OutputSpec | None = None) -> int:
    """Count the tools that went out strict."""
    made = encode(tools=tools, output=output)["tools"]
    return sum(tool.get("strict", False) for tool in made)


def of_types(count: int, name: str = "f") -> ToolSpec:
    """Return a tool with parameters of several types."""
    fields = {str(at): {"type": ["string", "null"]} for at in range(count)}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    return ToolSpec(name=name, parameters=schema, strict=True)


def optional(count: int) -> ToolSpec:
    """Return a tool with optional parameters."""
    fields = {str(at): {"type": "string"} for at in range(count)}
    return ToolSpec(name="o", parameters={"type": "object", "properties": fields}, strict=True)


def test_tools_are_strict_as_far_as_the_api_has_room() -> None:
    """Over its limits the API would refuse the whole request; a loose tool is hardly worse."""
    assert strict_ones(*[TOOL] * 20) == 20
    assert strict_ones(*[TOOL] * 25) == 20
    assert strict_ones(of_types(16)) == 1
    assert strict_ones(of_types(17), TOOL) == 1
    assert strict_ones(of_types(9), of_types(9), TOOL) == 2
    inner = {"anyOf": [{"type": "null"}, {"type": ["string", "integer"]}]}
    schema = {"type": "object", "properties": {str(at): inner for at in range(9)}}
    assert strict_ones(ToolSpec(name="i", parameters=schema, strict=True)) == 0
    needed = {**SCHEMA, "properties": {str(at): {} for at in range(30)}}
    needed["required"] = list(needed["properties"])
    assert strict_ones(ToolSpec(name="n", parameters=needed, strict=True)) == 1
    assert strict_ones(optional(24)) == 1
    assert strict_ones(optional(25)) == 0
    several = OutputSpec(name="o", schema=of_types(10).parameters, read=str)
    assert strict_ones(of_types(7), output=several) == 0
    own = {"name": "f", "input_schema": of_types(10).parameters, "strict": True}
    assert strict_ones(own, of_types(7)) == 1


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("any", {"type": "any"}),
        ("f", {"type": "tool", "name": "f"}),
        ("web_search", {"type": "tool", "name": "web_search"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        (None, None),
    ],
)
def test_a_tool_is_chosen_by_a_word_or_its_name(choice: Any, made: Any) -> None:
    """The same words as for OpenAI work, a name, OpenAI's dict, and Claude's own as it is."""
    tools = (TOOL, {"type": "web_search_20260318", "name": "web_search"})
    assert encode(tools=tools, extra={"tool_choice": choice})["tool_choice"] == made


def test_a_tool_that_is_not_there_cannot_be_chosen() -> None:
    """A name that no tool has is a slip."""
    for tools in ((TOOL,), None):
        with pytest.raises(InvalidRequestError, match="tool_choice must be 'auto'"):
            encode(tools=tools, extra={"tool_choice": "h"})


@pytest.mark.parametrize(
    ("word", "effort"),
    [
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "xhigh"),
        ("max", "max"),
    ],
)
def test_reasoning_is_an_effort(word: str, effort: str) -> None:
    """A word lets Claude think as it sees fit, with that effort."""
    body = encode(reasoning=word)
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": effort}


def test_no_reasoning_is_no_thinking() -> None:
    """``"none"`` turns the thinking off, and says nothing of the effort."""
    assert encode(reasoning="none") == {**encode(), "thinking": {"type": "disabled"}}


def test_reasoning_output_and_ones_own_config_are_one() -> None:
    """What else stands in ``output_config`` is kept."""
    body = encode(reasoning="high", output=OUTPUT, extra={"output_config": {"new": 1}})
    assert body["output_config"] == {
        "new": 1,
        "effort": "high",
        "format": {"type": "json_schema", "schema": SCHEMA},
    }
    own = {"effort": None, "format": None}
    body = encode(reasoning="high", output=OUTPUT, extra={"output_config": own})
    assert body["output_config"]["effort"] == "high"


def test_ones_own_config_passes() -> None:
    """Without an option for it, the vendor's own parameter is sent as it is."""
    config = {"effort": "low", "format": {"type": "json_schema", "schema": {}}}
    assert encode(extra={"output_config": config})["output_config"] == config


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"output": OUTPUT, "extra": {"output_config": {"format": {}}}},
            "output= and output_config's format",
        ),
        (
            {"reasoning": "low", "extra": {"output_config": {"effort": "max"}}},
            "reasoning= and output_config's effort",
        ),
        (
            {"reasoning": "low", "extra": {"thinking": {"type": "disabled"}}},
            "reasoning= and the parameter thinking",
        ),
        (
            {"stop": "a", "extra": {"stop_sequences": ["b"]}},
            "stop= and the parameter stop_sequences",
        ),
        ({"tools": (TOOL,), "extra": {"tools": []}}, "tools= and the parameter tools"),
        ({"extra": {"output_config": "high"}}, "output_config must be a dict, not str"),
    ],
)
def test_the_same_thing_said_twice_is_refused(fields: dict[str, Any], says: str) -> None:
    """An option and the vendor's own parameter for the same would fight silently."""
    with pytest.raises(InvalidRequestError, match=says):
        encode(**fields)


def test_a_budget_makes_room_for_itself() -> None:
    """Without ``max_tokens`` the default is what comes on top of the budget."""
    own = {"type": "enabled", "budget_tokens": 10_000}
    assert encode(reasoning=own)["max_tokens"] == 14_096
    assert encode(extra={"thinking": own})["max_tokens"] == 14_096
    assert encode(reasoning=own, max_tokens=10_001)["thinking"] == own
    least = {"type": "enabled", "budget_tokens": 1024}
    assert encode(reasoning=least)["max_tokens"] == 1024 + 4096
    for strange in (True, "10000", None):
        assert encode(reasoning={**own, "budget_tokens": strange})["max_tokens"] == 4096
    # Between tool calls it may be more, with a header that only the caller knows of.
    assert encode(reasoning=own, max_tokens=5000, tools=(TOOL,))["max_tokens"] == 5000


@pytest.mark.parametrize(
    ("budget", "most", "says"),
    [
        (1023, 5000, "at least 1024"),
        (5000, 5000, "max_tokens is 5000, and must be above"),
        (6000, 5000, "must be above"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(budget: int, most: int, says: str) -> None:
    """The budget has a least, and is a part of ``max_tokens``."""
    own = {"type": "enabled", "budget_tokens": budget}
    with pytest.raises(InvalidRequestError, match=says):
        encode(reasoning=own, max_tokens=most)


def test_stop_is_stop_sequences() -> None:
    """A stop text is said in Claude's word; one of white space it would refuse."""
    assert encode(stop=["a", "\nb"])["stop_sequences"] == ["a", "\nb"]
    with pytest.raises(InvalidRequestError, match="white space only"):
        encode(stop=["a", "\n"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("n", "one reply a call"),
        ("seed", "Claude has none"),
        ("response_format", r"Use output=\."),
        ("reasoning_effort", r"Use reasoning=\."),
        ("max_completion_tokens", r"Use max_tokens=\."),
        ("parallel_tool_calls", "disable_parallel_tool_use"),
        ("frequency_penalty", "Claude has none"),
        ("logit_bias", "Claude has none"),
        ("prompt_cache_key", "cache=True"),
        ("user", "metadata="),
        ("previous_response_id", "all the messages"),
        ("instructions", r"Use system=\."),
        ("input", "first argument"),
        ("verbosity", "Claude has none"),
    ],
)
def test_a_parameter_of_openais_is_refused(name: str, says: str) -> None:
    """The error says what to use, and never what was given."""
    with pytest.raises(InvalidRequestError, match=says) as caught:
        encode(extra={name: SECRET})
    assert SECRET not in str(caught.value)


def test_a_new_parameter_passes() -> None:
    """What nobody knows yet goes out as it is."""
    assert encode(extra={"brand_new": {"a": 1}})["brand_new"] == {"a": 1}


def test_an_image_too_large_for_claude_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size as base64 counts; what is at a URL, or the vendor's own block, is not measured."""
    monkeypatch.setattr(rules, "_MOST_IMAGE", 12)
    encode([Image(PNG + b"x"), Image("https://x/a.png"), PDF])
    with pytest.raises(InvalidRequestError, match=r"messages\[1\]\.content\[0\] is an image of"):
        encode([calling(call()), result("1", [Image(PNG + b"xx")])])
    with pytest.raises(InvalidRequestError, match="image of"):
        CLAUDE.adopt({"messages": [{"role": "user", "content": [Image(PNG + b"xx")]}]})
    block = {"type": "image", "source": {**PNG_SOURCE, "data": "A" * 16}}
    encode([{"role": "user", "content": [block]}])


def test_the_limits_are_those_of_the_vendor() -> None:
    """10 MB an image as base64, 600 images, 32 MB a request."""
    largest = PNG + bytes(10 * 1024 * 1024 // 4 * 3 - len(PNG))
    rules.check_attachments([{"content": [Image(largest)] * 3}])
    with pytest.raises(InvalidRequestError, match=r"at most 10\.0"):
        rules.check_attachments([{"content": [Image(largest + b"x")]}])
    with pytest.raises(InvalidRequestError, match=r"40\.0 MB as base64; .* most 32\.0"):
        rules.check_attachments([{"content": [Image(largest)] * 4}])
    image = Image("https://x/a.png")
    rules.check_attachments([{"content": [image] * 600}])
    with pytest.raises(InvalidRequestError, match="601 images; Claude takes at most 600"):
        rules.check_attachments([{"content": [image] * 600}, {"content": [image]}])


CITED = {"type": "text", "text": "a", "citations": [{"type": "page_location"}]}
UNCITED = [{"type": "text", "text": "a", "citations": given} for given in ([], None)]
SEARCH = {"type": "search_result", "source": "s", "title": "t", "citations": {"enabled": True}}
DOCUMENT = {"type": "document", "source": PDF_SOURCE, "citations": {"enabled": True}}


def body_of(*messages: tuple[str, list[Any]], **fields: Any) -> dict[str, Any]:
    """Return a body of Claude's own."""
    turns = [{"role": role, "content": content} for role, content in messages]
    return {"model": "m", "max_tokens": 9, "messages": turns, **fields}


REFUSED = [
    (body_of(("user", [CITED]), temperature=1.0), "refuses temperature, at default values too"),
    (body_of(("user", [DOCUMENT]), top_k=None, top_p=1), "refuses top_k, top_p"),
    (
        body_of(("user", ["x"]), ("assistant", [{"type": "text", "text": "a"}, DOCUMENT])),
        r"takes no document in an assistant turn \(messages\[1\]\.content\[1\]\)",
    ),
    (
        body_of(("user", [CITED])),
        r"takes no citations on text of a user turn \(messages\[0\]\.content\[0\]\)",
    ),
    (body_of(("user", [{**SEARCH, "content": [CITED]}])), "no citations on text"),
    (
        body_of(("user", [{"type": "tool_result", "tool_use_id": "1", "content": [CITED]}])),
        "no citations on text",
    ),
]
TAKEN = [
    body_of(("user", UNCITED), ("assistant", [CITED])),
    body_of(("user", [DOCUMENT, {**SEARCH, "content": UNCITED}])),
    body_of(
        (
            "assistant",
            [{"type": "web_fetch_tool_result", "content": {"content": DOCUMENT}}],
        )
    ),
    body_of(
        ("user", [{"type": "tool_result", "tool_use_id": "1", "content": [DOCUMENT]}]),
    ),
]


@pytest.mark.parametrize(("body", "says"), REFUSED)
def test_the_stricter_version_refuses(body: dict[str, Any], says: str) -> None:
    """Each rule of 2026-10-21 is told with the way round it; the older version has none."""
    with pytest.raises(InvalidRequestError, match=says) as caught:
        STRICTER.check(body)
    assert "2026-10-21" in str(caught.value)
    assert "api_version='2023-06-01'" in str(caught.value)
    CLAUDE.check(body)
    ClaudeMessages(api_version="2027-01-01").check(body)


@pytest.mark.parametrize("body", TAKEN)
def test_the_stricter_version_takes(body: dict[str, Any]) -> None:
    """What a rule only seems to mean passes in every version."""
    STRICTER.check(body)
    CLAUDE.check(body)


@pytest.mark.parametrize(
    "body",
    [{}, {"messages": None}, {"messages": [3, {"content": 3}, {"content": [3]}], "system": 3}],
)
def test_a_body_of_a_strange_shape_is_for_the_vendor_to_refuse(body: dict[str, Any]) -> None:
    """The rules look only at what they are about."""
    STRICTER.check(dict(body))


def test_a_body_of_the_vendors_is_adopted_as_it_is() -> None:
    """Only our own values in its messages are encoded; nothing of the caller's is changed."""
    own = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": ["a", Image(PNG)], "cache": True},
        ],
        "n": 3,
        "output_config": {"effort": "low"},
    }
    before = json.dumps(own, default=repr)
    body = CLAUDE.adopt(own)
    assert body["messages"] == [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image", "source": PNG_SOURCE, "cache_control": MARK},
            ],
        },
    ]
    assert {**body, "messages": None} == {**own, "messages": None}
    assert json.dumps(own, default=repr) == before
    with pytest.raises(InvalidRequestError, match="no messages"):
        CLAUDE.adopt({"model": "m"})


PARTS = st.sampled_from(
    [
        *("text", Image(PNG), Image("https://x/a.png"), PDF),
        {"type": "text", "text": "t"},
        {"type": "image_url", "image_url": {"url": PNG_URL}},
    ]
)
WORDS = st.text(alphabet="abc \n", min_size=1).map("w".__add__)
CONTENT = st.one_of(WORDS, st.lists(PARTS, min_size=1, max_size=3))
CACHES = st.sampled_from([{}, {}, {}, {"cache": "1h"}])
IDS = st.lists(st.text(alphabet="ab:./", min_size=1), min_size=1, max_size=3)
EXCHANGES = st.tuples(IDS, CONTENT, st.booleans(), st.sampled_from([None, "", "words"])).map(
    lambda drawn: [
        calling(*(call(id) for id in drawn[0]), content=drawn[3]),
        *(result(id, drawn[1], is_error=drawn[2]) for id in drawn[0]),
    ]
)
CONVERSATIONS = st.lists(
    st.one_of(
        st.tuples(CONTENT, CACHES).map(lambda c: [{"role": "user", "content": c[0], **c[1]}]),
        WORDS.map(lambda text: [{"role": "assistant", "content": text, "refusal": None}]),
        EXCHANGES,
    ),
    min_size=1,
    max_size=6,
).map(lambda groups: [message for group in groups for message in group])


@given(CONVERSATIONS)
def test_any_conversation_becomes_json_that_claude_takes(messages: list[dict[str, Any]]) -> None:
    """Every call is answered in the very next turn, by results that stand first in it."""
    body = CLAUDE.encode(ChatRequest("m", messages))
    json.dumps(body)
    made = body["messages"]
    answered = 0
    for at, turn in enumerate(made):
        assert turn.keys() == {"role", "content"}
        assert turn["role"] in ("assistant", "user")
        blocks = turn["content"] if isinstance(turn["content"], list) else []
        assert blocks or turn["content"].strip()
        called = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if called:
            results = made[at + 1]["content"]
            assert [block["tool_use_id"] for block in results] == called
            answered += len(called)
        assert all(block["text"].strip() for block in blocks if block["type"] == "text")
    assert answered == sum(message["role"] == "tool" for message in messages)


def test_a_form_that_refers_to_itself_is_refused_as_output_and_loose_as_a_tool() -> None:
    """Claude's strict mode answers 400 to a circular reference, so none goes out as strict."""
    tree: dict[str, Any] = {
        "type": "object",
        "properties": {"below": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
        "required": ["below"],
        "additionalProperties": False,
    }
    schema = {**tree, "$defs": {"Tree": tree}}
    with pytest.raises(InvalidRequestError, match="refers to itself"):
        encode(output=OutputSpec(name="tree", schema=schema, read=str))
    spec = ToolSpec(name="plant", parameters=schema, strict=True)
    assert "strict" not in encode(tools=(spec,))["tools"][0]


def test_names_and_phases_of_openais_are_left_out() -> None:
    """Claude refuses keys that it does not know."""
    said = [
        {"role": "user", "content": "a", "name": "b"},
        {"role": "assistant", "content": "c", "phase": "commentary", "name": "d"},
    ]
    plain = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]
    assert turns(said) == plain


def test_a_budget_makes_room_for_itself_wherever_it_is_said() -> None:
    """In a body of one's own, and in extra_body, which is there when the body is checked."""
    thinking = {"type": "enabled", "budget_tokens": 10_000}
    body: dict[str, Any] = {"messages": [], "thinking": thinking}
    CLAUDE.check(body)
    assert body["max_tokens"] == 14_096
    with pytest.raises(InvalidRequestError, match="must be above"):
        CLAUDE.check({"messages": [], "thinking": thinking, "max_tokens": 10_000})


def test_base64_of_a_file_that_is_no_pdf_is_no_url() -> None:
    """A file of OpenAI's that Claude cannot read is refused, and not sent as a place to look."""
    file = {"type": "file", "file": {"filename": "a.docx", "file_data": "UEsDBBQABgAIAAAA"}}
    with pytest.raises(InvalidRequestError, match=r"messages\[0\]\.content\[0\]") as caught:
        turns([{"role": "user", "content": [file]}])
    assert "UEsDB" not in str(caught.value)


def test_a_parameter_of_openais_that_is_none_is_not_given() -> None:
    """Code that passes on what it was not given does not fail."""
    assert encode(extra={"seed": None}) == encode()


def test_a_tool_of_the_responses_api_takes_claudes_form() -> None:
    """Tools written for either API of OpenAI's are good for Claude, too."""
    flat = {"type": "function", "name": "f", "description": "Does f.", "parameters": SCHEMA}
    assert encode(tools=[flat])["tools"] == [
        {"name": "f", "description": "Does f.", "input_schema": SCHEMA}
    ]


@pytest.mark.parametrize("role", ["developer", "system"])
def test_a_later_system_message_is_text_too(role: str) -> None:
    """Wherever it stands it takes nothing else."""
    told = [{"role": "user", "content": "a"}, {"role": role, "content": ["b", Image(PNG)]}]
    with pytest.raises(InvalidRequestError, match=r"messages\[1\]\.content\[1\] is no text"):
        turns(told)


def test_a_mark_of_the_whole_request_is_one_of_the_four() -> None:
    """It stands on the last block, where it counts once if that has the same one."""
    text = {"type": "text", "text": "a"}
    marked = {**text, "cache_control": MARK}
    whole = {"cache_control": MARK}
    for content in ([marked] * 3 + [text], [marked] * 4):
        CLAUDE.check({"messages": [{"role": "user", "content": content}], **whole})
    plain = {"role": "user", "content": "b"}
    for messages in (
        [{"role": "user", "content": [*[marked] * 4, text]}],
        [{"role": "user", "content": [marked] * 4}, plain],
    ):
        with pytest.raises(InvalidRequestError, match="has 5 cache marks"):
            CLAUDE.check({"messages": messages, **whole})
    long = {"cache_control": {**MARK, "ttl": "1h"}}
    with pytest.raises(InvalidRequestError, match='"1h" comes after'):
        CLAUDE.check({"messages": [{"role": "user", "content": [marked, text]}], **long})


def test_a_parameter_whose_name_claude_refuses_is_told() -> None:
    """A name of Python's may be none of Claude's; the other vendor takes it."""
    schema = {"type": "object", "properties": {"größe": {"type": "integer"}}}
    with pytest.raises(InvalidRequestError, match="'größe'"):
        encode(tools=(ToolSpec(name="measure", parameters=schema),))


def test_a_body_without_messages_says_so() -> None:
    """What looks like the body of another API is told where it belongs."""
    with pytest.raises(InvalidRequestError, match="has no messages"):
        CLAUDE.adopt({"model": "m"})
    with pytest.raises(InvalidRequestError, match="respond"):
        CLAUDE.adopt({"model": "m", "input": "hi"})
