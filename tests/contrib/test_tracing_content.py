"""Prompts and replies as messages of OpenTelemetry's conventions, from what really goes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import Client, Document, Image, StreamInterrupted
from termai_http._job import Outcome
from termai_http.contrib._tracing_content import of_outcome, of_request
from termai_http.testing import Server, Text, ToolCalls

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
MESSAGES = [
    {"role": "user", "content": ["What is it?", Image(PNG), Image("https://example.org/a.png")]},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "look", "arguments": '{"city": "Rome"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    {"role": "user", "content": ["Read", Document(b"%PDF-1.4 xx")]},
]
CALL = {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"city": "Rome"}}
APIS = {
    "chat": ("gpt-5.5", "chat"),
    "responses": ("gpt-5.5", "responses"),
    "claude": ("claude-x", None),
}


def text(content: str) -> dict[str, Any]:
    """Return a part that is text."""
    return {"type": "text", "content": content}


def blob(modality: str, mime_type: str, size: int) -> dict[str, Any]:
    """Return a part whose bytes are left out."""
    return {
        "type": "blob",
        "modality": modality,
        "mime_type": mime_type,
        "byte_size": size,
        "content": "",
    }


def look(city: str) -> str:
    """Look at a city."""
    return city


def ask(client: Client, server: Server, api: str, prompt: Any, **options: Any) -> Any:
    """Ask by one of the dialects."""
    model, name = APIS[api]
    url = server.claude_url if api == "claude" else server.openai_url
    return client.chat(prompt, model=model, api=name, base_url=url, api_key="k", **options)


@pytest.mark.parametrize("api", APIS)
def test_each_dialects_body_becomes_the_same_messages(
    client: Client, server: Server, api: str
) -> None:
    """Roles, texts, images, documents, calls of tools and their results are told alike."""
    options = {"system": "Brief.", "temperature": 0.5, "max_tokens": 99}
    ask(client, server, api, MESSAGES, tools=[look], **options)
    found = of_request(server.requests[-1].body)
    assert (found["gen_ai.request.temperature"], found["gen_ai.request.max_tokens"]) == (0.5, 99)
    said = json.loads(found["gen_ai.input.messages"])
    if api == "chat":
        assert said.pop(0) == {"role": "system", "parts": [text("Brief.")]}
    else:
        assert json.loads(found["gen_ai.system_instructions"]) == [text("Brief.")]
    looked = [part for message in said[1:-2] for part in message["parts"]]
    image = {"type": "uri", "modality": "image", "uri": "https://example.org/a.png"}
    assert said[0] == {
        "role": "user",
        "parts": [text("What is it?"), blob("image", "image/png", len(PNG)), image],
    }
    assert ({message["role"] for message in said[1:-2]}, looked) == (
        {"assistant"},
        [text("I look."), CALL],
    )
    result = {"type": "tool_call_response", "id": "c1", "response": "sunny"}
    assert said[-2] == {"role": "tool", "parts": [result]}
    assert said[-1] == {
        "role": "user",
        "parts": [text("Read"), blob("document", "application/pdf", 11)],
    }


@pytest.mark.parametrize("api", APIS)
def test_a_reply_is_a_message_of_the_assistants(client: Client, server: Server, api: str) -> None:
    """Text, and the tools that the model asks for, are parts of one message."""
    server.script(ToolCalls(("look", {"city": "Rome"}), text="I look."))
    reply = ask(client, server, api, "Hi", tools=[look])
    (message,) = json.loads(of_outcome(Outcome(value=reply))["gen_ai.output.messages"])
    assert message["role"] == "assistant"
    spoken, call = message["parts"]
    assert spoken == text("I look.")
    assert call == {**CALL, "id": reply.tool_calls[0].id}


def test_every_choice_is_a_message(client: Client, server: Server) -> None:
    """Of several choices each is a message of its own."""
    server.script(Text("One"))
    reply = ask(client, server, "chat", "Hi", n=2)
    said = json.loads(of_outcome(Outcome(value=reply))["gen_ai.output.messages"])
    assert [message["parts"] for message in said] == [[text(one)] for one in reply.texts]
    assert len(said) == 2


def test_what_came_of_a_broken_stream_is_told() -> None:
    """The text that came before the end is the message."""
    error = StreamInterrupted("It broke.", partial="Once upon")
    said = of_outcome(Outcome(error=error))["gen_ai.output.messages"]
    assert json.loads(said) == [{"role": "assistant", "parts": [text("Once upon")]}]
    assert of_outcome(Outcome(error=StreamInterrupted("It broke."))) == {}


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"type": "thinking", "thinking": "Hm."}, {"type": "reasoning", "content": "Hm."}),
        (
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "reasoning", "content": "Hm."},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            blob("audio", "audio/wav", 3),
        ),
        (
            {"type": "file", "file": {"file_id": "f1"}},
            {"type": "file", "modality": "document", "file_id": "f1"},
        ),
        (
            {"type": "input_image", "file_id": "f1"},
            {"type": "file", "modality": "image", "file_id": "f1"},
        ),
        (
            {"type": "image", "source": {"type": "file", "file_id": "f1"}},
            {"type": "file", "modality": "image", "file_id": "f1"},
        ),
        (
            {"type": "document", "source": {"type": "text", "data": "Plain."}},
            {"type": "text", "content": "Plain."},
        ),
        ({"type": "something_new", "secret": "s"}, {"type": "something_new"}),
    ],
)
def test_other_parts(part: dict[str, Any], told: dict[str, Any]) -> None:
    """Each kind of part that a vendor knows has its own, one unknown only its name."""
    body = json.dumps({"messages": [{"role": "user", "content": [part]}]})
    said = of_request(body.encode())["gen_ai.input.messages"]
    assert json.loads(said) == [{"role": "user", "parts": [told]}]


def test_half_a_surrogate_pair_can_be_exported() -> None:
    """What no exporter could encode becomes the sign for that."""
    said = of_request(b'{"input": "a \\ud83d b"}')["gen_ai.input.messages"]
    assert (
        said.encode()
        == '[{"role":"user","parts":[{"type":"text","content":"a \ufffd b"}]}]'.encode()
    )


_NAMES = (
    "role",
    "content",
    "type",
    "text",
    "source",
    "tool_calls",
    "function",
    "image_url",
    "file",
)
_WORDS = ("user", "tool", "text", "image", "image_url", "tool_use", "tool_result", "file")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(_WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(("messages", "input", "system", "instructions")), _JSON))
def test_no_body_breaks_the_reading(body: dict[str, Any]) -> None:
    """Whatever stands in a body of the caller's own, attributes come of it."""
    found = of_request(json.dumps(body).encode())
    assert all(isinstance(json.loads(value), list) for value in found.values())


@pytest.mark.parametrize("body", [None, b"", b"{", b"[1]", b'"x"'])
def test_what_is_no_object_gives_nothing(body: bytes | None) -> None:
    """A body that is none gives no attribute."""
    assert of_request(body) == {}
