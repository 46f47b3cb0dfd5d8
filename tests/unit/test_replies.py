"""Whole replies of both chat dialects: everything that is in them, and what other servers write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from termai_http import ChatRequest, InvalidResponseError, ToolCall
from termai_http.dialects._base import Decoded
from termai_http.dialects._errors import status_error
from termai_http.dialects.claude_messages import ClaudeMessages
from termai_http.dialects.openai_chat import OpenAIChat

OPENAI = OpenAIChat()
CLAUDE = ClaudeMessages()


def openais(message: dict[str, Any], **more: Any) -> Decoded:
    """Read a completion with one message."""
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more}
    return OPENAI.decode({"id": "c", "model": "m", "choices": [choice]}, list)


def claudes(*content: Any, **more: Any) -> Decoded:
    """Read a message of Claude's."""
    return CLAUDE.decode({"id": "c", "model": "m", "content": list(content), **more}, list)


def call(**more: Any) -> dict[str, Any]:
    """Return a tool call as OpenAI writes it."""
    function = {"name": "f", "arguments": '{"a": 1}'}
    return {"id": "1", "type": "function", "function": function, **more}


def test_a_reply_of_text_is_one_message() -> None:
    """Text, its usage and the turn for the next request are read."""
    reply = openais({"role": "assistant", "content": "hi", "refusal": None, "annotations": []})
    assert (reply.text, reply.texts, reply.thinking, reply.tool_calls) == ("hi", ("hi",), "", ())
    assert reply.messages == ({"role": "assistant", "content": "hi"},)
    assert reply.refusal is None
    reply = claudes({"type": "text", "text": "h", "citations": None}, {"type": "text", "text": "i"})
    assert (reply.text, reply.texts, reply.thinking, reply.tool_calls) == ("hi", ("hi",), "", ())
    assert reply.messages == ({"role": "assistant", "content": "hi"},)


@pytest.mark.parametrize("message", [{"content": ""}, {"content": None}, {}, {"content": 3}])
def test_a_reply_of_nothing_is_no_message(message: dict[str, Any]) -> None:
    """An empty turn, which no vendor takes back, is not handed out as one."""
    assert openais(message).messages == ()
    assert claudes().messages == claudes({"type": "text", "text": ""}).messages == ()


def test_every_choice_has_its_text() -> None:
    """With ``n`` the texts are all there, in their order, and the first is the reply's own."""
    choices = [
        {"index": 0, "message": {"content": "a"}},
        {"index": 1, "message": {"content": [{"type": "text", "text": "b"}]}},
        {"index": 2, "message": None},
    ]
    reply = OPENAI.decode({"choices": choices}, list)
    assert (reply.text, reply.texts) == ("a", ("a", "b", ""))


def test_openais_tool_calls_are_read_and_go_back_as_they_came() -> None:
    """A call has its arguments read; the turn holds it with whatever else the server said."""
    signed = call(extra_content={"google": {"thought_signature": "s"}})
    custom = {"id": "2", "type": "custom", "custom": {"name": "g", "input": "x"}}
    reply = openais({"content": None, "tool_calls": [signed, custom]})
    assert reply.tool_calls == (
        ToolCall(id="1", name="f", arguments={"a": 1}, text='{"a": 1}'),
        ToolCall(id="2", name="g", arguments=None, text="x"),
    )
    turn = {"role": "assistant", "content": None, "tool_calls": [signed, custom]}
    assert reply.messages == (turn,)


@pytest.mark.parametrize(
    ("sent", "arguments", "text", "again"),
    [
        (call(index=0), {"a": 1}, '{"a": 1}', call()),
        ({"id": "1", "function": call()["function"]}, {"a": 1}, '{"a": 1}', call()),
        (
            call(function={"name": "f", "arguments": {"a": 1}}),
            {"a": 1},
            '{"a":1}',
            call(function={"name": "f", "arguments": '{"a":1}'}),
        ),
        (
            call(function={"name": "f", "arguments": None}),
            {},
            "",
            call(function={"name": "f", "arguments": "{}"}),
        ),
        (
            call(function={"name": "f"}),
            {},
            "",
            call(function={"name": "f", "arguments": "{}"}),
        ),
        (
            call(function={"name": "f", "arguments": "{cut"}),
            None,
            "{cut",
            call(function={"name": "f", "arguments": "{cut"}),
        ),
        (
            call(function={"name": "f", "arguments": '"\ud83c"'}),
            {},
            '"\ufffd"',
            call(function={"name": "f", "arguments": '"\ufffd"'}),
        ),
    ],
)
def test_calls_of_other_servers_are_made_good(
    sent: dict[str, Any], arguments: Any, text: str, again: dict[str, Any]
) -> None:
    """What a server writes in its own way is read, and goes back in OpenAI's."""
    reply = openais({"content": "", "tool_calls": [sent]})
    assert reply.tool_calls[0].text == text
    if text != '"\ufffd"':
        assert reply.tool_calls[0].arguments == arguments
    assert reply.messages[0]["tool_calls"] == [again]


@pytest.mark.parametrize("id", [None, "", 3])
def test_a_call_without_an_id_gets_one(id: Any) -> None:
    """The id is the same each time, another for each call, and the same in the turn."""
    sent = {"content": None, "tool_calls": [call(id=id), call(id=id)]}
    first, second = openais(sent).tool_calls
    assert openais(sent).tool_calls == (first, second)
    assert first.id != second.id
    assert [made["id"] for made in openais(sent).messages[0]["tool_calls"]] == [first.id, second.id]
    blocks = [{"type": "tool_use", "id": id, "name": "f", "input": {"a": at}} for at in (1, 2)]
    reply = claudes(*blocks)
    ids = [made.id for made in reply.tool_calls]
    assert len(set(ids)) == 2
    assert [block["id"] for block in reply.messages[0]["content"]] == ids
    assert all(id.replace("_", "").isalnum() for id in [first.id, *ids])


@pytest.mark.parametrize("calls", [None, {}, "x", [3, None, {}, {"function": 3}, {"custom": "x"}]])
def test_what_is_no_call_is_none(calls: Any) -> None:
    """Junk in the place of tool calls is no tool call."""
    reply = openais({"content": "a", "tool_calls": calls})
    assert reply.tool_calls == ()
    assert reply.messages == ({"role": "assistant", "content": "a"},)


@pytest.mark.parametrize(
    ("message", "thinking"),
    [
        ({"reasoning_content": "t"}, "t"),
        ({"reasoning": "t", "reasoning_content": "t"}, "t"),
        ({"reasoning": {"effort": "low"}}, ""),
        ({"reasoning_content": 3, "reasoning": "t"}, "t"),
        ({"reasoning_content": "", "reasoning": "t"}, "t"),
        ({"content": [{"type": "thinking", "thinking": "t"}]}, "t"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                    {"type": "text", "text": "a"},
                ]
            },
            "t",
        ),
    ],
)
def test_thinking_is_read_wherever_servers_put_it(message: dict[str, Any], thinking: str) -> None:
    """The ways of compatible servers are all read, and none ends in the text."""
    assert openais(message).thinking == thinking
    assert openais(message).text in ("", "a")


def test_thinking_goes_back_between_tool_calls_only() -> None:
    """Models that think go on from it between their calls, and refuse it after their answer."""
    thoughts = {"reasoning_content": "t", "reasoning_details": [{"type": "reasoning.text"}]}
    reply = openais({"content": "a", "tool_calls": [call()], **thoughts})
    assert reply.messages == (
        {"role": "assistant", "content": "a", **thoughts, "tool_calls": [call()]},
    )
    assert openais({"content": "a", **thoughts}).messages == (
        {"role": "assistant", "content": "a"},
    )


def test_a_refusal_and_audio_are_turns() -> None:
    """A reply without text goes back as what it is."""
    reply = openais({"content": None, "refusal": "no"})
    assert (reply.text, reply.refusal) == ("", "no")
    assert reply.messages == ({"role": "assistant", "content": None, "refusal": "no"},)
    for junk in ("", 3):
        reply = openais({"content": None, "refusal": junk})
        assert (reply.refusal, reply.messages) == (None, ())
    reply = openais({"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": "hi"}})
    assert reply.messages == ({"role": "assistant", "content": None, "audio": {"id": "a"}},)
    assert openais({"content": None, "audio": {"data": "AAAA"}}).messages == ()


def test_claudes_blocks_go_back_unchanged() -> None:
    """Thinking with its signature, calls and blocks that nobody knows are kept, in their order."""
    blocks = [
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": ""},
        {"type": "text", "text": "a", "citations": [{"type": "page_location"}]},
        {"type": "brand_new", "a": 1},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
    ]
    reply = claudes(*blocks, stop_reason="tool_use")
    assert (reply.text, reply.thinking) == ("a", "t")
    assert reply.tool_calls == (
        ToolCall(id="toolu_1", name="f", arguments={"a": 1}, text='{"a":1}'),
        ToolCall(id="toolu_2", name="g", arguments={}, text="{}"),
    )
    kept = [block for block in blocks if block.get("text") != ""]
    assert reply.messages == ({"role": "assistant", "content": kept},)
    assert reply.raw["content"] == blocks
    alone = {"type": "brand_new"}
    assert claudes(alone).messages == ({"role": "assistant", "content": [alone]},)
    again = CLAUDE.encode(ChatRequest("m", [{"role": "user", "content": "q"}, *reply.messages]))
    assert again["messages"][1]["content"] == kept


def test_an_input_cut_short_is_its_text() -> None:
    """What a stream that ended early left of an input is told, and is no object."""
    reply = claudes({"type": "tool_use", "id": "1", "name": "f", "input": '{"a'})
    assert reply.tool_calls == (ToolCall(id="1", name="f", arguments=None, text='{"a'),)
    assert reply.messages[0]["content"][0]["input"] == {"arguments": '{"a'}
    reply = claudes({"type": "tool_use", "id": "1", "name": "f", "input": None})
    assert reply.tool_calls == (ToolCall(id="1", name="f", arguments={}, text="{}"),)
    assert reply.messages[0]["content"][0]["input"] == {}


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({"stop_reason": "end_turn"}, None),
        ({"stop_reason": "end_turn", "stop_details": {"explanation": "x"}}, None),
        ({"stop_reason": "refusal", "stop_details": {"explanation": "why"}}, "why"),
        ({"stop_reason": "refusal", "stop_details": {"explanation": None}}, "words"),
        ({"stop_reason": "refusal", "stop_details": {"explanation": ""}}, "words"),
        ({"stop_reason": "refusal", "stop_details": {"explanation": 3}}, "words"),
        ({"stop_reason": "refusal", "stop_details": None}, "words"),
        ({"stop_reason": "refusal"}, "words"),
    ],
)
def test_claudes_refusal_is_told(more: dict[str, Any], refusal: str | None) -> None:
    """Its explanation, else the words, where Claude stopped to refuse."""
    assert claudes({"type": "text", "text": "words"}, **more).refusal == refusal


def test_a_refusal_without_a_word_is_one_all_the_same() -> None:
    """A refusal is never None or empty."""
    assert claudes(stop_reason="refusal").refusal


def test_halves_of_surrogate_pairs_are_made_good() -> None:
    """Text that no file takes does not come out, and does not break the next request."""
    half = "a\ud83c"
    reply = openais({"content": half, "reasoning_content": half, "tool_calls": [call()]})
    assert (reply.text, reply.thinking) == ("a\ufffd", "a\ufffd")
    assert reply.messages[0]["reasoning_content"] == "a\ufffd"
    reply = claudes({"type": "text", "text": half}, {"type": "thinking", "thinking": half})
    assert (reply.text, reply.thinking) == ("a\ufffd", "a\ufffd")
    assert reply.messages[0]["content"][0] == {"type": "text", "text": "a\ufffd"}


@pytest.mark.parametrize(
    "payload", [{}, {"choices": []}, {"choices": [3]}, {"choices": [{"message": "x"}]}]
)
def test_what_is_no_completion_is_refused(payload: dict[str, Any]) -> None:
    """A success that holds no message is an error."""
    with pytest.raises(InvalidResponseError, match="no choice with a message"):
        OPENAI.decode(payload, list)


@pytest.mark.parametrize("payload", [{}, {"content": None}, {"content": "text"}])
def test_what_is_no_message_is_refused(payload: dict[str, Any]) -> None:
    """A success that holds no blocks is an error."""
    with pytest.raises(InvalidResponseError, match="no list of content blocks"):
        CLAUDE.decode(payload, list)


@pytest.mark.parametrize("junk", [3, None, "x", [], {}, {"type": "text"}, {"type": 3}])
def test_junk_among_blocks_is_no_text(junk: Any) -> None:
    """One strange block does not break a reply, and stays in ``raw``."""
    reply = claudes({"type": "text", "text": "a"}, junk)
    assert (reply.text, reply.tool_calls) == ("a", ())
    assert reply.raw["content"][1] == junk
    CLAUDE.encode(ChatRequest("m", [*reply.messages, {"role": "user", "content": "go on"}]))


@pytest.mark.parametrize("first", [OPENAI, CLAUDE])
@pytest.mark.parametrize("second", [OPENAI, CLAUDE])
def test_a_reply_goes_on_in_every_dialect(first: Any, second: Any) -> None:
    """A turn with a tool call of one vendor is one of the other, too."""
    if first is OPENAI:
        reply = openais({"content": "I look.", "tool_calls": [call()]})
    else:
        reply = claudes(
            {"type": "thinking", "thinking": "t", "signature": "s"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
        )
    result = {"role": "tool", "tool_call_id": "1", "content": "b"}
    messages = [{"role": "user", "content": "q"}, *reply.messages, result]
    body = second.encode(ChatRequest("m", messages))
    written = json.dumps(body["messages"])
    assert "I look." in written
    assert body["messages"][2]["role"] == ("tool" if second is OPENAI else "user")
    assert ("signature" in written) == (first is second is CLAUDE)


def test_half_a_surrogate_pair_in_an_input_is_made_good() -> None:
    """What cannot be JSON again does not end a conversation."""
    content = {"type": "tool_use", "id": "c", "name": "f", "input": {"a": "\ud83d"}}
    reply = claudes(content)
    (made,) = reply.tool_calls
    assert (made.arguments, made.text) == ({"a": "\ufffd"}, '{"a":"\ufffd"}')
    assert reply.messages[0]["content"] == [{**content, "input": {"a": "\ufffd"}}]
    assert reply.raw["content"] == [content]


def test_an_input_that_is_the_text_of_an_object_goes_back_as_that_object() -> None:
    """The turn says what the call says."""
    reply = claudes({"type": "tool_use", "id": "c", "name": "f", "input": '{"a": 1}'})
    assert reply.tool_calls[0].arguments == {"a": 1}
    assert reply.messages[0]["content"][0]["input"] == {"a": 1}


def test_an_error_in_the_form_of_an_event_is_read() -> None:
    """LiteLLM answers a stream that it cannot begin with a status and an event."""
    body = b'data: {"error": {"message": "Error at the start", "code": "c1"}}\n\ndata: [DONE]\n\n'
    error = status_error(500, {}, body, [])
    assert "Error at the start" in str(error)
    assert error.code == "c1"
