"""Requests in OpenAI's chat dialect: every feature as the API takes it, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import ChatRequest, Document, Image, InvalidRequestError, Message
from termai_http._specs import OutputSpec, ToolSpec
from termai_http.dialects.openai_chat import OpenAIChat

OPENAI = OpenAIChat()
OTHER = OpenAIChat(max_tokens_name="max_tokens")
PNG = b"\x89PNG\r\n\x1a\n"
PNG_URL = "data:image/png;base64,iVBORw0KGgo="
PDF_URL = "data:application/pdf;base64,JVBERi0x"
PDF = Document(b"%PDF-1", name="a.pdf")
SECRET = "what nobody may see"
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = ToolSpec(name="f", description="Does f.", parameters=SCHEMA, strict=True)
LOOSE = ToolSpec(name="g", parameters={"type": "object"})
OUTPUT = OutputSpec(name="answer", schema=SCHEMA, read=str)


def encode(messages: Any = "hi", dialect: OpenAIChat = OPENAI, **fields: Any) -> dict[str, Any]:
    """Encode and check a request."""
    body = dialect.encode(ChatRequest("m", messages, **fields))
    dialect.check(body)
    return body


def turns(messages: Any, dialect: OpenAIChat = OPENAI) -> list[dict[str, Any]]:
    """Encode messages."""
    found: list[dict[str, Any]] = encode(messages, dialect)["messages"]
    return found


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (
            {"messages": "hi"},
            {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        ),
        (
            {
                "messages": [
                    {"role": "developer", "content": "a"},
                    Message("user", "b"),
                    {"role": "assistant", "content": "c"},
                    {"role": "user", "content": "d", "name": "e"},
                ],
                "system": "s",
                "max_tokens": 5,
                "extra": {"temperature": 0, "n": 2, "seed": 1, "prompt_cache_key": "k"},
            },
            {
                "model": "m",
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "developer", "content": "a"},
                    {"role": "user", "content": "b"},
                    {"role": "assistant", "content": "c"},
                    {"role": "user", "content": "d", "name": "e"},
                ],
                "max_completion_tokens": 5,
                "temperature": 0,
                "n": 2,
                "seed": 1,
                "prompt_cache_key": "k",
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
        (Image(PNG), {"type": "image_url", "image_url": {"url": PNG_URL}}),
        (
            Image("https://x/a.png", detail="low"),
            {"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "low"}},
        ),
        (PDF, {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}}),
        (
            Document(b"%PDF-1"),
            {"type": "file", "file": {"filename": "document.pdf", "file_data": PDF_URL}},
        ),
        # Claude's forms.
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                "cache_control": {"type": "ephemeral"},
            },
            {"type": "image_url", "image_url": {"url": PNG_URL}},
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
            {"type": "image_url", "image_url": {"url": "https://x/a.png"}},
        ),
        (
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"},
            },
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}},
        ),
        (
            {
                "type": "text",
                "text": "a",
                "citations": [{}],
                "cache_control": {"type": "ephemeral"},
            },
            {"type": "text", "text": "a"},
        ),
        # Those of OpenAI's responses.
        ({"type": "input_text", "text": "a"}, {"type": "text", "text": "a"}),
        (
            {"type": "input_image", "image_url": "https://x/a.png", "detail": "high"},
            {"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "high"}},
        ),
        (
            {"type": "input_file", "filename": "a.pdf", "file_data": PDF_URL},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}},
        ),
    ],
)
def test_every_part_takes_openais_form(part: Any, made: dict[str, Any]) -> None:
    """Our own parts are encoded, and those of another API are said in this one's words."""
    assert turns([{"role": "user", "content": ["x", part]}])[0]["content"][1] == made


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "image_url", "image_url": {"url": "https://x", "detail": "new"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "file", "file": {"file_data": "https://x/a.pdf"}},
        {"type": "refusal", "refusal": "no"},
        {"type": "video_url", "video_url": {"url": "https://x"}},
        {"type": "image", "image": "some other server's"},
    ],
)
@pytest.mark.parametrize("dialect", [OPENAI, OTHER])
def test_a_part_of_the_vendor_passes(part: dict[str, Any], dialect: OpenAIChat) -> None:
    """OpenAI's own parts, and those that nobody knows yet, go out as the same object."""
    assert turns([{"role": "user", "content": [part]}], dialect)[0]["content"][0] is part


def test_a_compatible_server_keeps_the_cache_marks_of_text() -> None:
    """Servers before Claude read ``cache_control`` in this dialect; OpenAI itself refuses it."""
    part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    assert turns([{"role": "user", "content": [part]}], OTHER)[0]["content"] == [part]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (Document("https://x/a.pdf"), r"messages\[0\]\.content\[1\] is a document at a URL"),
        (
            {"type": "document", "source": {"type": "url", "url": "https://x"}},
            'use api="responses"',
        ),
        ({"type": "document", "source": {"type": "text", "data": SECRET}}, "'document' part of"),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "pass its bytes"),
        ({"type": "input_image", "file_id": "f"}, "pass its bytes"),
        ({"type": "search_result", "source": SECRET, "title": "a", "content": []}, "search_result"),
        ({"type": "container_upload", "file_id": "f"}, "pass its bytes"),
        ({"type": "image", "source": {"type": "url", "url": 3}}, "'image' part of 'url'"),
        ({"type": "image", "source": {"type": "text", "url": SECRET}}, "'image' part of 'text'"),
        ({"type": "document", "source": SECRET}, "'document' part, which"),
        ({"type": "input_file", "file_url": 3}, "'input_file' part"),
        ({"type": "input_image", "image_url": ""}, "'input_image' part"),
        ({"type": "input_image", "image_url": 3}, "'input_image' part"),
        ({"type": "input_file", "file_url": ""}, "'input_file' part"),
        ({"type": "input_text", "text": 3}, "'input_text' part"),
    ],
)
def test_a_part_that_openai_has_no_form_for_is_refused(part: Any, says: str) -> None:
    """The error names the place and the way out, and shows nothing of the content."""
    with pytest.raises(InvalidRequestError, match=says) as caught:
        turns([{"role": "user", "content": ["x", part]}])
    assert SECRET not in str(caught.value)


def test_more_images_than_openai_takes_are_refused() -> None:
    """1500 images go out, one more does not; another server has its own limit."""
    images = [Image("https://x/a.png")] * 1500
    assert len(turns([{"role": "user", "content": images}])[0]["content"]) == 1500
    with pytest.raises(InvalidRequestError, match="1501 images"):
        turns([{"role": "user", "content": [*images, images[0]]}])
    turns([{"role": "user", "content": [*images, images[0]]}], OTHER)


def test_what_is_ours_is_left_out() -> None:
    """Neither ``cache`` nor ``is_error`` goes to OpenAI, which has no word for them."""
    made = turns(
        [
            Message("system", "s", cache=True),
            {"role": "assistant", "content": None, "tool_calls": [CALL], "cache": "1h"},
            {"role": "tool", "tool_call_id": "1", "content": "b", "is_error": True, "cache": True},
        ]
    )
    assert made == [
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "b"},
    ]


def test_arguments_go_out_as_text() -> None:
    """Arguments that somebody wrote as an object become the text that the API wants."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": "ä"}}}
    made = turns([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert made[0]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":"ä"}'}
    assert call["function"]["arguments"] == {"a": "ä"}


def test_images_of_results_follow_in_one_user_turn() -> None:
    """A tool message takes text only, so images stand behind all results of the turn."""
    calls = [{**CALL, "id": "1"}, {**CALL, "id": "2"}, {**CALL, "id": "3"}]
    made = turns(
        [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "1", "content": ["seen", Image(PNG)]},
            {"role": "tool", "tool_call_id": "2", "content": [PDF]},
            {"role": "tool", "tool_call_id": "3", "content": ["a", "b"]},
            {"role": "user", "content": "well?"},
        ]
    )
    image = {"type": "image_url", "image_url": {"url": PNG_URL}}
    assert made[2:] == [
        {"role": "tool", "tool_call_id": "1", "content": "seen"},
        {
            "role": "tool",
            "tool_call_id": "2",
            "content": "The result is in the next message of the user.",
        },
        {
            "role": "tool",
            "tool_call_id": "3",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Result of the tool call 1:"},
                image,
                {"type": "text", "text": "Result of the tool call 2:"},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}},
            ],
        },
        {"role": "user", "content": "well?"},
    ]


def test_a_text_of_a_result_keeps_its_mark() -> None:
    """One part of text is its text, unless more is said of it."""
    marked = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    made = turns([{"role": "tool", "tool_call_id": "1", "content": [marked]}])
    assert made[0]["content"] == [marked]


def test_images_of_the_last_results_are_not_lost() -> None:
    """Results at the end of the conversation have their images behind them, too."""
    made = turns(
        [
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "1", "content": [Image(PNG)]},
        ]
    )
    assert made[-1]["role"] == "user"
    assert made[-1]["content"][1]["type"] == "image_url"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "tool", "content": "a"}, "tool_call_id is missing"),
        ({"role": "tool", "content": "a", "tool_call_id": ""}, "tool_call_id is missing"),
        ({"role": "tool", "content": "a", "tool_call_id": 3}, "tool_call_id is missing"),
    ],
)
def test_a_result_names_its_call(message: dict[str, Any], says: str) -> None:
    """A tool message without the id of a call is refused, by its place."""
    with pytest.raises(InvalidRequestError, match=rf"messages\[1\]\.{says}"):
        turns([{"role": "user", "content": "a"}, message])


CLAUDES = [
    {"role": "user", "content": [{"type": "text", "text": "go"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": SECRET, "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            {"type": "text", "text": "I ", "citations": [{"type": "page_location"}]},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
            {"type": "text", "text": "look."},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "toolu_2", "name": "g", "input": '{"cut'},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "b"},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_2",
                "is_error": True,
                "content": [{"type": "text", "text": "no"}],
            },
            {"type": "tool_result", "tool_use_id": "toolu_3"},
            {"type": "text", "text": "go on"},
        ],
    },
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "s"}]},
]
AS_OPENAIS = [
    {"role": "user", "content": [{"type": "text", "text": "go"}]},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {
                "id": "toolu_1",
                "type": "function",
                "function": {"name": "f", "arguments": '{"a":1}'},
            },
            {"id": "toolu_2", "type": "function", "function": {"name": "g", "arguments": '{"cut'}},
        ],
    },
    {"role": "tool", "tool_call_id": "toolu_1", "content": "b"},
    {"role": "tool", "tool_call_id": "toolu_2", "content": "no"},
    {"role": "tool", "tool_call_id": "toolu_3", "content": ""},
    {"role": "user", "content": [{"type": "text", "text": "go on"}]},
]


def test_claudes_turns_are_said_in_openais_words() -> None:
    """Words, tool calls and results go on; thinking and the server's own tools do not."""
    assert turns(CLAUDES) == AS_OPENAIS


def test_our_parts_may_stand_beside_claudes_results() -> None:
    """A turn of results and text of ours is results, and a turn of the rest."""
    block = {"type": "tool_result", "tool_use_id": "1", "content": "b"}
    assert turns([{"role": "user", "content": [block, "go on"]}]) == [
        {"role": "tool", "tool_call_id": "1", "content": "b"},
        {"role": "user", "content": [{"type": "text", "text": "go on"}]},
    ]


def test_items_of_responses_are_said_in_openais_words() -> None:
    """Messages, calls and outputs become turns, an assistant's calls one with its words."""
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {
            "type": "message",
            "id": "m",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "I ", "annotations": []},
                {"type": "output_text", "text": "look.", "annotations": []},
            ],
        },
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}", "id": "fc"},
        {"type": "custom_tool_call", "call_id": "2", "name": "g", "input": "x"},
        {"type": "web_search_call", "id": "w", "status": "completed"},
        {"type": "function_call_output", "call_id": "1", "output": "b"},
        {
            "type": "custom_tool_call_output",
            "call_id": "2",
            "output": [{"type": "input_text", "text": "c"}],
        },
        {"role": "user", "content": "well?"},
    ]
    assert turns(items) == [
        {"role": "user", "content": [{"type": "text", "text": "go"}]},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "2", "type": "custom", "custom": {"name": "g", "input": "x"}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "b"},
        {"role": "tool", "tool_call_id": "2", "content": "c"},
        {"role": "user", "content": "well?"},
    ]


def test_only_items_join_the_turn_before() -> None:
    """A call that is an item joins an assistant's turn; a turn that is a message stays one."""
    item = {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"}
    calling = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    made = turns([{"role": "user", "content": "a"}, item, calling, item])
    assert [turn["role"] for turn in made] == ["user", "assistant", "assistant"]
    assert [[call["id"] for call in turn["tool_calls"]] for turn in made[1:]] == [["2"], ["1", "2"]]
    assert calling["tool_calls"] == [CALL]


USE = {"type": "tool_use", "id": "1", "name": "f"}


@pytest.mark.parametrize(
    ("block", "made"),
    [
        (USE, [{"role": "assistant", "content": None, "arguments": "{}"}]),
        (
            {**USE, "input": {"a": 1}},
            [{"role": "assistant", "content": None, "arguments": '{"a":1}'}],
        ),
        ({"type": "redacted_thinking", "data": "d"}, []),
        ({"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}}, []),
        ({"type": "web_search_tool_result", "tool_use_id": "1", "content": []}, []),
        ({"type": "container_upload", "file_id": "f"}, []),
        ({"type": "mcp_tool_use", "id": "1", "name": "f", "input": {}, "server_name": "s"}, []),
    ],
)
def test_each_block_of_claudes_is_known(block: dict[str, Any], made: list[Any]) -> None:
    """A single block tells whose turn it is."""
    found = turns([{"role": "user", "content": "a"}, {"role": "assistant", "content": [block]}])[1:]
    for turn in found:
        (call,) = turn.pop("tool_calls")
        turn["arguments"] = call["function"]["arguments"]
    assert found == made


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [USE]},
        {"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "1"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text"}]}]},
    ],
)
def test_what_only_looks_like_claudes_passes(message: dict[str, Any]) -> None:
    """Another server may have parts of such names, in turns where Claude has none."""
    assert turns([message]) == [message]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"type": "item_reference", "id": "x"}, r"messages\[1\] is an item of type 'item_refer"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, r"messages\[1\]\.call_id"),
        ({"type": "function_call_output", "call_id": 3}, r"messages\[1\]\.call_id is missing"),
        ({"type": "function_call_output", "call_id": ""}, r"messages\[1\]\.call_id is missing"),
    ],
)
def test_an_item_without_a_counterpart_is_refused(item: dict[str, Any], says: str) -> None:
    """The error says where it stands and that the responses take it."""
    with pytest.raises(InvalidRequestError, match=says):
        turns([{"role": "user", "content": "a"}, item])


@pytest.mark.parametrize("part", [3, None, {}, {"type": 3}, {"type": ["text"]}])
def test_a_part_within_a_result_has_a_type(part: Any) -> None:
    """What stands within a block of Claude's is looked at as what stands in a message."""
    result = {"type": "tool_result", "tool_use_id": "1", "content": [part]}
    with pytest.raises(InvalidRequestError, match=r"content\[0\] must be text, an Image"):
        turns([{"role": "user", "content": [result]}])


def test_tools_and_output_take_openais_form() -> None:
    """Specs are encoded, strict where they can be; Claude's form is turned, OpenAI's passes."""
    own = {"type": "custom", "custom": {"name": "c"}}
    claudes = {"name": "d", "description": "x", "input_schema": {"type": "object"}}
    body = encode(tools=(TOOL, LOOSE, own, claudes), output=OUTPUT)
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "Does f.",
                "parameters": SCHEMA,
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}},
        own,
        {
            "type": "function",
            "function": {"name": "d", "description": "x", "parameters": {"type": "object"}},
        },
    ]
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }


CUSTOM = {"type": "custom", "custom": {"name": "c"}}


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("f", {"type": "function", "function": {"name": "f"}}),
        ("c", {"type": "custom", "custom": {"name": "c"}}),
        ({"type": "allowed_tools"}, {"type": "allowed_tools"}),
        (None, None),
    ],
)
def test_a_tool_is_chosen_by_a_word_or_its_name(choice: Any, made: Any) -> None:
    """The words and a name work; OpenAI's own dict passes."""
    assert encode(tools=(TOOL, CUSTOM), extra={"tool_choice": choice})["tool_choice"] == made


def test_a_tool_that_is_not_there_cannot_be_chosen() -> None:
    """OpenAI would refuse the name; another server may have a word of its own for it."""
    for tools in ((TOOL,), None):
        with pytest.raises(InvalidRequestError, match="tool_choice must be 'auto'"):
            encode(tools=tools, extra={"tool_choice": "any"})
    body = encode(tools=(TOOL,), extra={"tool_choice": "any"}, dialect=OTHER)
    assert body["tool_choice"] == "any"


@pytest.mark.parametrize("word", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
def test_reasoning_is_a_word(word: str) -> None:
    """Every word is OpenAI's own."""
    body = encode(reasoning=word)
    assert body == {**encode(), "reasoning_effort": word}


def test_reasoning_is_a_dict_for_those_who_take_one() -> None:
    """A dict is ``reasoning``, as compatible servers have it; OpenAI's chat API takes a word."""
    body = encode(dialect=OTHER, reasoning={"max_tokens": 9})
    assert body["reasoning"] == {"max_tokens": 9}
    with pytest.raises(InvalidRequestError, match="api='responses'"):
        encode(reasoning={"effort": "low"})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"output": OUTPUT, "extra": {"response_format": {"type": "text"}}}, "output= and"),
        ({"reasoning": "low", "extra": {"reasoning_effort": "high"}}, "reasoning= and"),
        ({"stop": "a", "extra": {"stop": "b"}}, "stop= and"),
        ({"tools": (TOOL,), "extra": {"tools": []}}, "tools= and"),
    ],
)
def test_the_same_thing_said_twice_is_refused(fields: dict[str, Any], says: str) -> None:
    """An option and the vendor's own parameter for the same would fight silently."""
    with pytest.raises(InvalidRequestError, match=says):
        encode(**fields)


def test_stop_has_at_most_four_texts() -> None:
    """OpenAI takes four; another server may take more."""
    assert encode(stop=["a", "b", "c", "d"])["stop"] == ["a", "b", "c", "d"]
    assert encode(stop="a")["stop"] == ["a"]
    with pytest.raises(InvalidRequestError, match="stop has 5 texts"):
        encode(stop=list("abcde"))
    assert encode(stop=list("abcde"), dialect=OTHER)["stop"] == list("abcde")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("stop_sequences", r"Use stop=\."),
        ("thinking", r"Use reasoning=\."),
        ("output_config", "Use output="),
        ("max_output_tokens", r"Use max_tokens=\."),
        ("top_k", "OpenAI has none"),
        ("cache_control", "OpenAI caches by itself"),
        ("previous_response_id", 'api="responses"'),
        ("conversation", 'api="responses"'),
        ("truncation", 'api="responses"'),
        ("include", 'api="responses"'),
        ("background", 'api="responses"'),
        ("instructions", r"Use system=\."),
        ("input", "first argument"),
        ("text", "Use output="),
    ],
)
def test_a_parameter_of_another_api_is_refused_by_openai(name: str, says: str) -> None:
    """The error says what to use; a compatible server is sent it, and may know it."""
    with pytest.raises(InvalidRequestError, match=says):
        encode(extra={name: SECRET})
    assert encode(extra={name: 1}, dialect=OTHER)[name] == 1


def test_a_new_parameter_passes() -> None:
    """What nobody knows yet goes out as it is."""
    assert encode(extra={"brand_new": {"a": 1}})["brand_new"] == {"a": 1}


def test_a_body_of_the_vendors_is_adopted_as_it_is() -> None:
    """Only our own values in its messages are encoded; nothing of the caller's is changed."""
    own = {
        "model": "m",
        "messages": [{"role": "user", "content": ["a", Image(PNG)]}],
        "response_format": {"type": "json_object"},
        "stop_sequences": ["x"],
    }
    before = json.dumps(own, default=repr)
    body = OPENAI.adopt(own)
    assert body["messages"][0]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": PNG_URL},
    }
    assert {**body, "messages": None} == {**own, "messages": None}
    assert json.dumps(own, default=repr) == before
    with pytest.raises(InvalidRequestError, match="no messages"):
        OPENAI.adopt({"model": "m"})


PARTS = st.sampled_from(
    ["text", Image(PNG), Image("https://x/a.png"), PDF, {"type": "text", "text": "t"}]
)
CONTENT = st.one_of(st.text(min_size=1), st.lists(PARTS, min_size=1, max_size=3))
IDS = st.integers(0, 9).map("call:{}".format)
EXCHANGES = st.lists(st.tuples(IDS, CONTENT, st.booleans()), min_size=1, max_size=3).map(
    lambda calls: [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**CALL, "id": id} for id, *_ in calls],
        },
        *(
            {"role": "tool", "tool_call_id": id, "content": content, "is_error": failed}
            for id, content, failed in calls
        ),
    ]
)
CONVERSATIONS = st.lists(
    st.one_of(
        CONTENT.map(lambda content: [{"role": "user", "content": content}]),
        st.text(min_size=1).map(lambda text: [{"role": "assistant", "content": text}]),
        EXCHANGES,
        st.sampled_from([[message] for message in CLAUDES[:3]]),
    ),
    min_size=1,
    max_size=6,
).map(lambda groups: [message for group in groups for message in group])


@given(CONVERSATIONS)
def test_any_conversation_becomes_json_that_openai_takes(messages: list[dict[str, Any]]) -> None:
    """Results follow their calls with nothing between, and only a user's turn has images."""
    made = turns(messages)
    json.dumps(made)
    for at, turn in enumerate(made):
        content = turn.get("content")
        kinds = {part["type"] for part in content} if isinstance(content, list) else {"text"}
        assert kinds <= {"file", "image_url", "text"}
        assert turn["role"] == "user" or kinds == {"text"}
        assert turn.keys() <= {"content", "role", "tool_call_id", "tool_calls"}
        if turn["role"] == "tool" and made[at - 1]["role"] not in ("assistant", "tool"):
            # It had no call before it in what was given, either.
            assert turn["tool_call_id"].startswith("toolu")
    given_results = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
    made_results = [m["tool_call_id"] for m in made if m["role"] == "tool"]
    assert [id for id in made_results if id.startswith("call")] == given_results


def test_streams_count_their_tokens_beside_what_is_asked_for() -> None:
    """Options of the stream that the caller gives are added to ours, and win over them."""
    body: dict[str, Any] = {"stream_options": {"include_obfuscation": False}}
    OPENAI.ask_to_stream(body)
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    body = {"stream_options": {"include_usage": False}}
    OPENAI.ask_to_stream(body)
    assert body["stream_options"] == {"include_usage": False}
    body = {}
    OTHER.ask_to_stream(body)
    assert body == {"stream": True}


def test_what_an_assistant_says_after_its_call_joins_it() -> None:
    """OpenAI wants the result right after the turn that has the call."""
    said = {"type": "output_text", "text": "I wait.", "annotations": []}
    made = turns(
        [
            {"role": "user", "content": "a"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "message", "role": "assistant", "content": [said]},
            {"type": "function_call_output", "call_id": "1", "output": "b"},
        ]
    )
    assert [turn["role"] for turn in made] == ["user", "assistant", "tool"]
    assert (made[1]["content"], len(made[1]["tool_calls"])) == ("I wait.", 1)


def test_thoughts_of_another_server_do_not_go_to_openai() -> None:
    """OpenAI refuses keys that it does not know; the server that they came from wants them."""
    thought = {"reasoning_content": "a", "reasoning": "b", "reasoning_details": [{"c": 1}]}
    turn = {"role": "assistant", "content": None, "tool_calls": [CALL], **thought}
    assert turns([turn])[0].keys() == {"role", "content", "tool_calls"}
    assert turns([turn], OTHER) == [turn]


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_tokens"])
@pytest.mark.parametrize("dialect", [OPENAI, OTHER])
def test_a_limit_of_tokens_is_said_once(dialect: OpenAIChat, name: str) -> None:
    """Two limits would fight silently."""
    with pytest.raises(InvalidRequestError, match=f"max_tokens= and the parameter {name}"):
        encode(dialect=dialect, max_tokens=5, extra={name: 7})
    assert encode(dialect=dialect, extra={name: 7})[name] == 7


def test_a_parameter_of_claudes_that_is_none_is_not_given() -> None:
    """Code that passes on what it was not given does not fail."""
    assert encode(extra={"top_k": None}) == encode()


def test_a_tool_of_the_responses_api_takes_this_apis_form() -> None:
    """Tools written for one API of the vendor's are good for the other, too."""
    flat = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
    function = {"name": "f", "parameters": SCHEMA, "strict": True}
    assert encode(tools=[flat])["tools"] == [{"type": "function", "function": function}]


def test_options_of_a_stream_are_a_dict() -> None:
    """Anything else is refused with its name."""
    with pytest.raises(InvalidRequestError, match="stream_options must be a dict, not str"):
        OPENAI.ask_to_stream({"stream_options": "x"})


@pytest.mark.parametrize("role", ["assistant", "developer", "system"])
@pytest.mark.parametrize("part", [Image(PNG), PDF])
def test_only_a_users_turn_shows_something(role: str, part: Any) -> None:
    """OpenAI answers 400; another server may take it."""
    told = [{"role": role, "content": ["a", part]}, {"role": "user", "content": "b"}]
    with pytest.raises(InvalidRequestError, match=r"messages\[0\]\.content\[1\].*of the user"):
        turns(told)
    assert len(turns(told, OTHER)[0]["content"]) == 2
