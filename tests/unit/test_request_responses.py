"""Requests for OpenAI's responses: neutral ones encoded, the vendor's own adopted."""

from __future__ import annotations

import base64
from types import MappingProxyType
from typing import Any

import pytest

from termai_http import ChatRequest, Document, Image, InvalidRequestError, Message
from termai_http._options import CallOptions, check_params
from termai_http._request import encode_body
from termai_http._secrets import Secret
from termai_http._specs import OutputSpec, ToolSpec
from termai_http._target import Place
from termai_http.dialects.openai_responses import OpenAIResponses

DIALECT = OpenAIResponses()
TARGET = Place(dialect=DIALECT, base_url="https://x.test/v1", auth={})
PNG = b"\x89PNG\r\n\x1a\nrest"
PDF = b"%PDF-1.7 rest"
CANARY = "The canary prompt that nothing may show."
USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
# All that the API takes, from its reference in November 2026, beside what has its own option.
PARAMETERS = (
    *("access_programs", "background_options", "context_management", "conversation", "image"),
    *("include", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "moderation"),
    *("parallel_tool_calls", "previous_response_id", "prompt_cache_key", "prompt_cache_options"),
    *("prompt_cache_retention", "safety_identifier", "service_tier", "store", "stream_options"),
    *("temperature", "text", "tool_choice", "top_logprobs", "top_p", "truncation", "user"),
)


def data_url(media_type: str, data: bytes) -> str:
    """Return bytes as a ``data:`` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def encode(prompt: Any = "hi", **fields: Any) -> dict[str, Any]:
    """Encode a request."""
    return DIALECT.encode(ChatRequest("m", prompt, **fields))


def items(*messages: Any, **fields: Any) -> Any:
    """Return the input of a request with messages."""
    return encode(list(messages), **fields)["input"]


def refused(prompt: Any = "hi", **fields: Any) -> str:
    """Return what is said of a request that is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        encode(prompt, **fields)
    assert "canary" not in str(caught.value)
    return str(caught.value)


class TestMessages:
    """Turns and items."""

    def test_one_text_goes_out_as_text(self) -> None:
        """The simplest request is the one of the vendor's own first example."""
        assert encode() == {"model": "m", "input": "hi"}
        assert encode([USER]) == encode([Message("user", "hi")]) == encode()

    def test_turns_are_items(self) -> None:
        """Text stays text, in every role."""
        turns = [
            {"role": "system", "content": "s"},
            {"role": "developer", "content": "d"},
            USER,
            {"role": "assistant", "content": "a"},
            USER,
        ]
        assert items(*turns) == turns

    def test_system_becomes_instructions(self) -> None:
        """System messages in the list stay where they are."""
        body = encode([{"role": "system", "content": "s"}, USER], system="Be kind.")
        assert body["instructions"] == "Be kind."
        assert body["input"] == [{"role": "system", "content": "s"}, USER]

    def test_parts_are_said_in_this_apis_words(self) -> None:
        """Text, images and documents, from bytes and from a URL."""
        parts = ["look", Image(PNG), Image("https://x.test/a.png", detail="low")]
        assert encode([*parts, Document(PDF, name="a.pdf"), Document("https://x.test/b.pdf")])[
            "input"
        ] == [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "look"},
                    {
                        "type": "input_image",
                        "image_url": data_url("image/png", PNG),
                        "detail": "auto",
                    },
                    {
                        "type": "input_image",
                        "image_url": "https://x.test/a.png",
                        "detail": "low",
                    },
                    {
                        "type": "input_file",
                        "filename": "a.pdf",
                        "file_data": data_url("application/pdf", PDF),
                    },
                    {"type": "input_file", "file_url": "https://x.test/b.pdf"},
                ],
            }
        ]

    def test_parts_of_this_api_stay_as_they_are(self) -> None:
        """Whatever the vendor takes can be said."""
        parts = [
            {"type": "input_text", "text": "a"},
            {"type": "input_image", "file_id": "f1", "detail": "high"},
            {"type": "input_file", "file_id": "f2"},
            {"type": "brand_new", "x": 1},
        ]
        assert items({"role": "user", "content": parts})[0]["content"] == parts

    def test_parts_of_other_apis_are_translated(self) -> None:
        """Those of chat completions and of Claude."""
        pdf = base64.b64encode(PDF).decode()
        parts = [
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "high"}},
            {"type": "file", "file": {"file_id": "f1"}},
            {"type": "image", "source": {"type": "url", "url": "https://x.test/b.png"}},
            {
                "type": "document",
                "title": "t",
                "source": {"type": "base64", "media_type": "application/pdf", "data": pdf},
            },
        ]
        assert items({"role": "user", "content": parts})[0]["content"] == [
            {"type": "input_text", "text": "a"},
            {"type": "input_image", "image_url": "https://x.test/a.png", "detail": "high"},
            {"type": "input_file", "file_id": "f1"},
            {"type": "input_image", "image_url": "https://x.test/b.png", "detail": "auto"},
            {
                "type": "input_file",
                "filename": "t",
                "file_data": data_url("application/pdf", PDF),
            },
        ]

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "image", "source": {"type": "file", "file_id": "f"}},
            {"type": "search_result", "title": CANARY},
        ],
    )
    def test_parts_that_only_claude_can_read_are_refused(self, part: dict[str, Any]) -> None:
        """The message names the place."""
        said = refused([{"role": "user", "content": [{"type": "text", "text": CANARY}, part]}])
        assert "messages[0].content[1]" in said

    def test_items_pass_through(self) -> None:
        """What has a type and no role is an item already; a message with a type is one, too."""
        given = [
            {"type": "item_reference", "id": "x"},
            {"type": "message", "role": "assistant", "id": "m", "content": [{"type": "odd"}]},
            {"type": "compaction", "encrypted_content": "x"},
        ]
        assert items(*given) == given

    def test_parts_in_a_message_with_a_type_are_said_in_this_apis_words(self) -> None:
        """An image in an item of the user's is an image."""
        item = {"type": "message", "role": "user", "content": ["a", Image(PNG)]}
        (made,) = items(item)
        assert [part["type"] for part in made["content"]] == ["input_text", "input_image"]

    def test_marks_for_claudes_cache_are_dropped(self) -> None:
        """OpenAI caches by itself."""
        turns = [Message("user", "hi", cache=True), {**USER, "cache": "1h"}]
        item = {"type": "compaction", "encrypted_content": "x", "cache": True}
        assert items(*turns, item)[:2] == [USER, USER]
        assert "cache" not in items(*turns, item)[2]

    @pytest.mark.parametrize(
        ("turn", "text"),
        [
            ({"content": ["a", {"type": "text", "text": "b"}]}, "ab"),
            ({"content": [{"type": "output_text", "text": "a"}]}, "a"),
            ({"content": None, "refusal": "No."}, "No."),
            ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
            ({"content": "a", "reasoning_content": "hm", "annotations": [], "audio": None}, "a"),
            (
                {"content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "a"}]},
                "a",
            ),
        ],
    )
    def test_an_assistants_turn_is_text(self, turn: dict[str, Any], text: str) -> None:
        """Replies of other dialects go on as what they said."""
        made = items(USER, {"role": "assistant", **turn})
        assert made[1] == {"role": "assistant", "content": text}

    def test_a_phase_goes_on(self) -> None:
        """The vendor asks for it back."""
        turn = {"role": "assistant", "content": "a", "phase": "commentary"}
        assert items(USER, turn) == [USER, turn]

    def test_an_image_of_an_assistants_is_refused(self) -> None:
        """This API has no way to say it."""
        turn = {"role": "assistant", "content": [Image(PNG)]}
        assert "messages[0].content[0]: an assistant's turn holds text, not Image" in refused(
            [turn]
        )

    def test_nothing_to_say_is_refused(self) -> None:
        """A conversation of another vendor's thinking is none."""
        turn = {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}
        assert "hold nothing" in refused([turn])


class TestToolTurns:
    """Calls of tools and their results, in the neutral form and in those of the vendors."""

    def test_neutral_calls_and_results(self) -> None:
        """Those of chat completions: calls beside the words, results as messages of their own."""
        call = {"name": "f", "arguments": '{"a": 1}'}
        custom = {"name": "sh", "input": "ls"}
        turn = {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c0", "type": "function", "function": call},
                {"id": "c1", "type": "custom", "custom": custom},
            ],
        }
        results = [
            {"role": "tool", "tool_call_id": "c0", "content": "3", "is_error": True},
            {"role": "tool", "tool_call_id": "c1", "content": ""},
        ]
        assert items(USER, turn, *results) == [
            USER,
            {"role": "assistant", "content": "I look."},
            {"type": "function_call", "call_id": "c0", **call},
            {"type": "custom_tool_call", "call_id": "c1", **custom},
            {"type": "function_call_output", "call_id": "c0", "output": "3"},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": ""},
        ]

    def test_calls_alone_have_no_message(self) -> None:
        """Without words there is nothing but the call; arguments may be an object, or nothing."""
        for given, written in (({"a": 1}, '{"a":1}'), ("", "{}"), (None, "{}")):
            function = {"name": "f", "arguments": given}
            turn = {"role": "assistant", "content": None}
            turn["tool_calls"] = [{"id": "c", "type": "function", "function": function}]
            told = {"call_id": "c", "name": "f", "arguments": written}
            assert items(USER, turn)[1:] == [{"type": "function_call", **told}]

    def test_own_items_are_answered(self) -> None:
        """The results of the tools that a reply asked for, after its items as they came."""
        turn = [
            {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x"},
            {"type": "function_call", "call_id": "c0", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "c1", "name": "sh", "input": "ls"},
        ]
        results = [
            {"role": "tool", "tool_call_id": call_id, "content": "ok"} for call_id in ("c0", "c1")
        ]
        made = items(USER, *turn, *results)
        assert made[:4] == [USER, *turn]
        assert [item["type"] for item in made[4:]] == [
            "function_call_output",
            "custom_tool_call_output",
        ]

    def test_a_result_may_be_an_image(self) -> None:
        """In parts, as a user's turn; a single text of them is text."""
        for content, output in (
            (["a"], "a"),
            (["a", "b"], [{"type": "input_text", "text": text} for text in "ab"]),
        ):
            result = {"role": "tool", "tool_call_id": "c", "content": content}
            assert items(result)[0]["output"] == output
        result = {"role": "tool", "tool_call_id": "c", "content": [Image(PNG)]}
        assert items(result)[0]["output"][0]["type"] == "input_image"

    def test_claudes_turns_are_translated(self) -> None:
        """Words and calls are kept, thinking is dropped, results become items."""
        turn = {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "x", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t0", "name": "f", "input": {"a": 1}},
            ],
        }
        results = {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t0", "content": "3", "is_error": True},
                {"type": "text", "text": "And?"},
            ],
        }
        assert items(USER, turn, results) == [
            USER,
            {"role": "assistant", "content": "I look."},
            {"type": "function_call", "call_id": "t0", "name": "f", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "t0", "output": "3"},
            {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
        ]

    @pytest.mark.parametrize(
        ("turn", "words"),
        [
            ({"role": "tool", "content": CANARY}, "messages[1].tool_call_id is missing"),
            ({"role": "function", "name": "f", "content": CANARY}, 'use "tool"'),
            ({"role": "assistant", "content": CANARY, "tool_calls": ["x"]}, "tool_calls[0] has no"),
            ({"role": "assistant", "tool_calls": [{"function": {}}]}, "tool_calls[0] has no"),
            ({"role": "assistant", "content": None, "function_call": {"name": "f"}}, "tool_calls"),
            ({"role": "assistant", "tool_calls": 5}, "messages[1].tool_calls must be a list"),
            ({"role": "assistant", "content": None, "audio": {"id": "1"}}, "[1] holds nothing"),
        ],
    )
    def test_turns_without_what_they_need_are_refused(
        self, turn: dict[str, Any], words: str
    ) -> None:
        """The message names the place and what is missing."""
        assert words in refused([USER, turn])


class TestParameters:
    """Everything beside the input."""

    def test_limits_and_reasoning(self) -> None:
        """A word is the effort; a dict goes out as it is."""
        body = encode(max_tokens=9, reasoning="low")
        assert (body["max_output_tokens"], body["reasoning"]) == (9, {"effort": "low"})
        given = {"effort": "high", "summary": "auto"}
        assert encode(reasoning=MappingProxyType(given))["reasoning"] == given

    @pytest.mark.parametrize("strict", [True, False])
    def test_tools_are_flat_and_say_whether_they_are_strict(self, strict: bool) -> None:
        """Left out, strict would mean True."""
        spec = ToolSpec(name="f", description="Adds.", parameters=SCHEMA, strict=strict)
        bare = ToolSpec(name="g", parameters=MappingProxyType(SCHEMA))
        named = {"type": "function", "parameters": SCHEMA}
        assert encode(tools=[spec, bare])["tools"] == [
            {**named, "name": "f", "description": "Adds.", "strict": strict},
            {**named, "name": "g", "strict": False},
        ]

    def test_tools_of_the_vendors_stay_as_they_are(self) -> None:
        """Those of other forms are said in this one."""
        own = [{"type": "web_search"}, {"type": "function", "name": "f", "parameters": None}]
        function = {"name": "g", "description": "d", "parameters": SCHEMA}
        chats = {"type": "function", "function": function}
        claudes = {"name": "h", "input_schema": SCHEMA}
        assert encode(tools=[*own, chats, claudes])["tools"] == [
            *own,
            {"type": "function", "strict": False, **function},
            {"type": "function", "strict": False, "name": "h", "parameters": SCHEMA},
        ]

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ("auto", "auto"),
            ("none", "none"),
            ("required", "required"),
            ("f", {"type": "function", "name": "f"}),
            ("sh", {"type": "custom", "name": "sh"}),
            ("web_search", {"type": "web_search"}),
            ({"type": "allowed_tools", "mode": "auto"}, {"type": "allowed_tools", "mode": "auto"}),
        ],
    )
    def test_the_choice_of_a_tool(self, given: Any, sent: Any) -> None:
        """The three words, the name of a given tool, or the vendor's own."""
        tools = [ToolSpec(name="f", parameters=SCHEMA), {"type": "custom", "name": "sh"}]
        body = encode(tools=[*tools, {"type": "web_search"}], extra={"tool_choice": given})
        assert body["tool_choice"] == sent

    def test_a_choice_that_is_no_tool_is_refused(self) -> None:
        """The message names what it can be."""
        assert "'required', the name of a given tool" in refused(extra={"tool_choice": "any"})

    def test_output_is_a_format_of_the_text(self) -> None:
        """Beside what the caller says of the text otherwise."""
        output = OutputSpec(name="Answer", schema=SCHEMA, read=str)
        form = {"type": "json_schema", "name": "Answer", "schema": SCHEMA, "strict": True}
        assert encode(output=output)["text"] == {"format": form}
        body = encode(output=output, extra={"text": {"verbosity": "low"}})
        assert body["text"] == {"verbosity": "low", "format": form}
        again = {"text": {"format": {"type": "text"}}}
        assert "say the same" in refused(output=output, extra=again)
        assert "text must be a dict, not str" in refused(output=output, extra={"text": CANARY})

    @pytest.mark.parametrize("name", PARAMETERS)
    def test_the_vendors_parameters_pass(self, name: str) -> None:
        """By their names, without a slip being suspected."""
        value = "auto" if name == "tool_choice" else 1
        check_params({name: value})
        assert encode(extra={name: value})[name] == value

    @pytest.mark.parametrize(
        ("name", "right"),
        [
            ("max_completion_tokens", "max_tokens="),
            ("response_format", "output="),
            ("reasoning_effort", "reasoning="),
            ("verbosity", 'text={"verbosity"'),
            ("functions", "tools="),
            ("function_call", "tool_choice="),
            ("logprobs", "include="),
            ("web_search_options", 'tools=[{"type": "web_search"}]'),
            ("input", "first argument"),
            ("cache_control", "prompt_cache_key="),
            ("output_config", "output="),
            ("thinking", "reasoning="),
        ],
    )
    def test_a_name_of_chat_completions_is_told_with_the_right_one(
        self, name: str, right: str
    ) -> None:
        """The API itself would only say that it does not know it."""
        said = refused(extra={name: CANARY})
        assert name in said
        assert right in said
        assert encode(extra={name: None}) == encode()

    @pytest.mark.parametrize(
        "name",
        ["n", "seed", "logit_bias", "presence_penalty", "frequency_penalty", "prediction", "top_k"],
    )
    def test_what_this_api_has_not_is_refused(self, name: str) -> None:
        """With the way to send it to a server that knows it."""
        said = refused(extra={name: 1})
        assert f"has no {name}" in said
        assert "extra_body=" in said

    def test_stop_sequences_are_refused(self) -> None:
        """This API has none."""
        assert "has no stop" in refused(stop=[CANARY])

    def test_nothing_is_said_twice(self) -> None:
        """Two names for one thing cannot both be right."""
        assert "system= and the parameter instructions " in refused(
            system="a", extra={"instructions": CANARY}
        )
        assert "max_tokens= and the parameter max_output_tokens " in refused(
            max_tokens=1, extra={"max_output_tokens": 2}
        )
        assert "tools= and the parameter tools " in refused(
            tools=[{"type": "x"}], extra={"tools": []}
        )
        own = {"effort": CANARY}
        assert "reasoning= and the parameter reasoning " in refused(
            reasoning="low", extra={"reasoning": own}
        )


class TestBody:
    """The whole body, as a call makes it."""

    def test_extra_body_wins(self) -> None:
        """Also for what this API has not: a compatible server may."""
        options = CallOptions(extra_body={"seed": 7, "input": "other"})
        body = encode_body(TARGET, ChatRequest("m", "hi"), options)
        assert body == {"model": "m", "input": "other", "seed": 7}

    @pytest.mark.parametrize(
        "body",
        [
            {"input": "hi"},
            {"input": [{"role": "user", "content": "hi"}, {"type": "item_reference", "id": "x"}]},
            {"input": "hi", "tools": [], "brand_new": {"x": None}},
            {"previous_response_id": "r"},
            {"conversation": {"id": "c"}, "input": []},
            {"prompt": {"id": "p"}},
        ],
    )
    def test_the_vendors_own_body_goes_out_as_it_is(self, body: dict[str, Any]) -> None:
        """It needs an input, or something in its place."""
        given = {"model": "m", **body}
        made = DIALECT.adopt(given)
        assert made == given
        assert made is not given

    def test_what_is_ours_in_a_body_of_the_vendors_is_encoded(self) -> None:
        """An input may hold what a prompt may; nothing of the caller's is changed."""
        turn = {"role": "user", "content": ["look", Image("https://x.test/a.png")]}
        item = {"type": "item_reference", "id": "x"}
        given = {"model": "m", "input": [Message("system", "s"), item, turn]}
        image = {"type": "input_image", "image_url": "https://x.test/a.png", "detail": "auto"}
        said = [{"type": "input_text", "text": "look"}, image]
        system = {"role": "system", "content": "s"}
        made = DIALECT.adopt(given)
        assert made["input"] == [system, item, {"role": "user", "content": said}]
        assert given["input"][2]["content"][0] == "look"
        assert DIALECT.adopt({"input": [said[0], Image("https://x.test/a.png")]})["input"] == [
            {"role": "user", "content": said}
        ]

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({}, "it is missing"),
            ({"input": ""}, "input is empty"),
            ({"input": " "}, "input is empty"),
            ({"input": []}, "input is empty"),
            ({"input": 7}, "it is int"),
            ({"input": {"role": "user"}}, "it is dict"),
            ({"messages": [USER]}, "responses take input"),
        ],
    )
    def test_a_body_with_nothing_to_answer_is_refused(
        self, body: dict[str, Any], words: str
    ) -> None:
        """The message says what is wrong with it."""
        with pytest.raises(InvalidRequestError, match=words):
            DIALECT.adopt({"model": "m", **body})

    def test_the_background_is_refused(self) -> None:
        """Its answer would be no reply, but a promise of one."""
        for request in (
            ChatRequest("m", "hi", extra={"background": True}),
            {"model": "m", "input": "hi", "background": True},
        ):
            with pytest.raises(InvalidRequestError, match=r"timeout=.*RequestHandler"):
                encode_body(TARGET, request, CallOptions())
        request = ChatRequest("m", "hi", extra={"background": False})
        assert encode_body(TARGET, request, CallOptions())["background"] is False

    def test_a_stream_is_asked_for_by_one_field(self) -> None:
        """The usage comes unasked."""
        body = {"model": "m", "input": "hi"}
        DIALECT.ask_to_stream(body)
        assert body == {"model": "m", "input": "hi", "stream": True}

    def test_headers_authenticate(self) -> None:
        """A bearer token, and whose account it is."""
        assert DIALECT.headers(Secret("k"), bearer=True) == {"Authorization": "Bearer k"}
        dialect = OpenAIResponses(organization="o", project="p")
        headers = dialect.headers(Secret("k"), bearer=True)
        assert headers == {
            "Authorization": "Bearer k",
            "OpenAI-Organization": "o",
            "OpenAI-Project": "p",
        }
        assert "Bearer k" not in repr(headers)


def test_a_part_without_a_type_is_refused_wherever_it_stands() -> None:
    """Within what a tool of Claude's gave, too, the place is named."""
    result = {"type": "tool_result", "tool_use_id": "a", "content": [{"text": "x"}]}
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    with pytest.raises(InvalidRequestError, match=r"messages\[2\]"):
        OpenAIResponses().encode(ChatRequest("m", messages))


def test_a_body_that_asks_for_a_stream_is_streamed_and_not_read_whole() -> None:
    """The vendor's own body may say what the call says already, and not the opposite."""
    body = {"model": "m", "input": "hi", "stream": True}
    with pytest.raises(InvalidRequestError, match="whole reply"):
        encode_body(TARGET, body, CallOptions())
    assert encode_body(TARGET, body, CallOptions(), streaming=True) == body


def test_an_answer_that_says_nothing_is_left_out() -> None:
    """A refusal is text, or none."""
    assert items(USER, {"role": "assistant", "content": None, "refusal": True}) == [USER]
