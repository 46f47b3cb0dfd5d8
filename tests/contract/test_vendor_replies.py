"""What we read, against the reply types that the vendors publish in their SDKs.

Replies and events of every published kind are made of the types themselves, and read; what a reply
gives to go on with is judged as a request again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.types import (
    ContentBlock,
    MessageTokensCount,
    RawContentBlockDelta,
    RawMessageStreamEvent,
)
from anthropic.types import Message as ClaudeMessage
from anthropic.types import ModelInfo as ClaudeModel
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.types import CreateEmbeddingResponse
from openai.types import Model as OpenAIModel
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses import (
    Response,
    ResponseError,
    ResponseOutputItem,
    ResponseStreamEvent,
)
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from termai_http import APIStatusError, ChatRequest, InvalidRequestError, InvalidResponseError
from termai_http._query_replies import read_count, read_embeddings, read_models
from termai_http._sse import ServerEvent
from termai_http.dialects._base import Decoded, Dialect
from termai_http.dialects.claude_messages import ClaudeMessages
from termai_http.dialects.openai_chat import OpenAIChat
from termai_http.dialects.openai_responses import OpenAIResponses
from tests.contract.vendor_types import faults, members, named, samples

_DIALECTS: dict[str, Dialect] = {
    "chat": OpenAIChat(),
    "responses": OpenAIResponses(),
    "claude": ClaudeMessages(),
}
_REQUESTS: dict[str, Any] = {
    "chat": CompletionCreateParamsNonStreaming,
    "responses": ResponseCreateParamsNonStreaming,
    "claude": MessageCreateParamsNonStreaming,
}
_KINDS = {
    *("text", "thinking", "tool_call_delta", "tool_call", "usage", "finish", "other"),
}
_RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-5.5",
    "status": "completed",
    "error": None,
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
_STATUSES = {"response.completed": "completed", "response.incomplete": "incomplete"}
_CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}


def _each(kind: Any) -> list[Any]:
    return [pytest.param(member, id=named(member)) for member in members(kind)]


def _no_texts() -> list[str]:
    return []


def _read(dialect: str, payload: Any) -> Decoded:
    return _DIALECTS[dialect].decode(payload, _no_texts)


def _of_item(item: Any) -> dict[str, Any]:
    return {**_RESPONSE, "output": [item]}


@pytest.mark.parametrize(
    "kind", [ChatCompletion, ChatCompletionChunk, ClaudeMessage, RawMessageStreamEvent], ids=named
)
def test_samples_are_what_the_sdk_takes(kind: Any) -> None:
    """What this module makes of a published type is of that type, as the SDK sees it."""
    judge = TypeAdapter(kind)
    for sample in samples(kind):
        judge.validate_python(sample)


@pytest.mark.parametrize("kind", _each(ResponseOutputItem))
def test_samples_of_items_are_what_the_sdk_takes(kind: Any) -> None:
    """What this module makes of each item of a response is one, as the SDK sees it."""
    judge = TypeAdapter(kind)
    for sample in samples(kind):
        judge.validate_python(sample)


def test_every_chat_completion_is_read() -> None:
    """Text, finish reason and calls of every published form of a completion are read."""
    for payload in samples(ChatCompletion):
        if not payload["choices"]:
            with pytest.raises(InvalidResponseError):
                _read("chat", payload)
            continue
        decoded, choice = _read("chat", payload), payload["choices"][0]
        message = choice["message"]
        assert decoded.text == (message.get("content") or "")
        assert decoded.finish_reason == choice.get("finish_reason")
        assert len(decoded.tool_calls) == len(message.get("tool_calls") or ())
        assert decoded.raw is payload


@pytest.mark.parametrize("kind", _each(ContentBlock))
def test_every_block_of_claude_is_read(kind: Any) -> None:
    """Text, thinking and tool use are read of the blocks that hold them, and of no other."""
    for block in samples(kind):
        decoded = _read("claude", {**_CLAUDE, "content": [block]})
        assert decoded.text == (block["text"] if block["type"] == "text" else "")
        assert decoded.thinking == (block["thinking"] if block["type"] == "thinking" else "")
        assert len(decoded.tool_calls) == (block["type"] == "tool_use")
        assert decoded.raw["content"] == [block]


def test_every_message_of_claude_is_read() -> None:
    """Stop reasons, usage and the rest of a message are read in every published form."""
    for payload in samples(ClaudeMessage):
        decoded = _read("claude", payload)
        assert decoded.finish_reason == payload.get("stop_reason")
        assert decoded.usage.output_tokens == payload["usage"]["output_tokens"]


@pytest.mark.parametrize("kind", _each(ResponseOutputItem))
def test_every_item_of_a_response_is_read(kind: Any) -> None:
    """Text is what the SDK takes for it, commentary apart; calls are read of their items only."""
    for item in samples(kind):
        payload = _of_item(item)
        decoded = _read("responses", payload)
        if item.get("phase") == "commentary":
            assert not decoded.text
        else:
            assert decoded.text == Response.model_validate(payload).output_text
        called = item["type"] in ("function_call", "custom_tool_call")
        assert len(decoded.tool_calls) == called
        assert decoded.raw["output"] == [item]


def test_every_response_is_read() -> None:
    """All that stands in a response beside its items is read in every published form."""
    for payload in samples(Response):
        for status in ("completed", "incomplete", None):
            decoded = _read("responses", {**payload, "error": None, "status": status})
            assert decoded.id == payload["id"]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_every_failure_inside_a_response_is_an_error(status: str) -> None:
    """A response with a published error, or one that failed without, is no reply."""
    for error in [*samples(ResponseError), None]:
        with pytest.raises(APIStatusError):
            _read("responses", {**_RESPONSE, "status": status, "error": error})


def _feed(dialect: str, *events: Any) -> Decoded:
    """Read events as one stream, its end included, and return the reply."""
    decoder = _DIALECTS[dialect].decode_stream(_no_texts)
    for payload in events:
        if decoder.ended:
            break
        data = payload if isinstance(payload, str) else json.dumps(payload)
        name = "message" if dialect == "chat" else payload["type"]
        pieces = decoder.feed(ServerEvent(name, data))
        assert {kind for kind, _, _ in pieces} <= _KINDS
    assert decoder.ended
    return decoder.result()


def test_every_chunk_of_a_chat_completion_is_taken() -> None:
    """A stream with any published chunk in its middle comes to its end."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.5"}
    begin = {"index": 0, "delta": {"role": "assistant", "content": "A"}, "finish_reason": None}
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    for chunk in samples(ChatCompletionChunk):
        decoded = _feed(
            "chat", {**head, "choices": [begin]}, chunk, {**head, "choices": [end]}, "[DONE]"
        )
        said = [one["delta"].get("content") or "" for one in chunk["choices"] if not one["index"]]
        assert decoded.text == "A" + "".join(said)


def _claude_events(block: Any, *more: Any) -> Iterator[Any]:
    yield {"type": "message_start", "message": {**_CLAUDE, "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield from more
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 2},
    }
    yield {"type": "message_stop"}


@pytest.mark.parametrize("kind", _each(RawMessageStreamEvent))
def test_every_event_of_claude_is_taken(kind: Any) -> None:
    """A stream with any published event in its middle comes to its end."""
    for event in samples(kind):
        _feed("claude", *_claude_events({"type": "text", "text": "A"}, event))


@pytest.mark.parametrize("delta", _each(RawContentBlockDelta))
@pytest.mark.parametrize("block", _each(ContentBlock))
def test_every_delta_fits_every_block(block: Any, delta: Any) -> None:
    """No published delta makes trouble, in whatever block it comes."""
    begun = samples(block)[0]
    for one in samples(delta):
        event = {"type": "content_block_delta", "index": 0, "delta": one}
        decoded = _feed("claude", *_claude_events(begun, event))
        assert decoded.raw["content"]


@pytest.mark.parametrize("block", _each(ContentBlock))
def test_every_streamed_block_of_claude_is_the_block(block: Any) -> None:
    """A block that begins whole, and gets no delta, ends as it began."""
    for begun in samples(block):
        assert _feed("claude", *_claude_events(begun)).raw["content"] == [begun]


@pytest.mark.parametrize("kind", _each(ResponseStreamEvent))
def test_every_event_of_a_response_is_taken(kind: Any) -> None:
    """A stream with any published event in its middle comes to its end, or is a typed error."""
    begin = {"type": "response.created", "response": {**_RESPONSE, "status": "in_progress"}}
    end = {"type": "response.completed", "response": _RESPONSE}
    for event in samples(kind):
        name = event["type"]
        if "response" in event and name != "response.failed":
            status = _STATUSES.get(name, "in_progress")
            event = {**event, "response": {**event["response"], "status": status, "error": None}}
        if name in ("error", "response.failed"):
            with pytest.raises(APIStatusError):
                _feed("responses", begin, event, end)
        else:
            _feed("responses", begin, event, end)


@pytest.mark.parametrize("kind", _each(ResponseOutputItem))
def test_every_streamed_item_of_a_response_is_the_item(kind: Any) -> None:
    """A streamed item is read as the whole one, whether or not the end tells it again."""
    begin = {"type": "response.created", "response": {**_RESPONSE, "status": "in_progress"}}
    for item in samples(kind):
        added = {"type": "response.output_item.added", "output_index": 0, "item": item}
        done = {"type": "response.output_item.done", "output_index": 0, "item": item}
        whole = _read("responses", _of_item(item))
        for output in ([], [item]):
            end = {"type": "response.completed", "response": {**_RESPONSE, "output": output}}
            decoded = _feed("responses", begin, added, done, end)
            assert decoded.raw["output"] == [item]
            assert (decoded.text, decoded.tool_calls) == (whole.text, whole.tool_calls)


def _replies() -> Iterator[Any]:
    for payload in samples(ChatCompletion):
        if payload["choices"]:
            yield pytest.param("chat", payload, id="chat")
    for kind in members(ContentBlock):
        for block in samples(kind):
            yield pytest.param("claude", {**_CLAUDE, "content": [block]}, id=named(kind))
    for kind in members(ResponseOutputItem):
        for item in samples(kind):
            yield pytest.param("responses", _of_item(item), id=named(kind))


def _without_nulls(item: Any) -> dict[str, Any]:
    return {name: value for name, value in item.items() if value is not None}


def _judge(to: str, body: dict[str, Any], payload: Any) -> list[str]:
    """Return what is wrong with a body; an item that goes back as it came is never wrong."""
    sent = json.loads(json.dumps(body))
    if to == "responses":
        items = [_without_nulls(item) for item in payload.get("output", ())]
        sent["input"] = [item for item in sent["input"] if _without_nulls(item) not in items]
    return faults(_REQUESTS[to], sent)


@pytest.mark.parametrize("to", list(_REQUESTS))
@pytest.mark.parametrize("kind", ["chat", "claude", "responses"])
def test_every_reply_goes_back(kind: str, to: str) -> None:
    """The messages of any reply make a good request again, to its own vendor and to the other.

    What the other vendor cannot be told is refused before it is sent.
    """
    turn = {"role": "user", "content": "Go on."}
    for param in _replies():
        origin, payload = param.values
        if origin != kind:
            continue
        messages = [turn, *_read(kind, payload).messages, turn]
        try:
            body = _DIALECTS[to].encode(ChatRequest("m", messages))
        except InvalidRequestError:
            assert kind != to, payload
            continue
        _DIALECTS[to].check(body)
        assert _judge(to, body, payload) == []


@pytest.mark.parametrize("to", list(_REQUESTS))
def test_reasoning_with_a_role_never_becomes_words(to: str) -> None:
    """Reasoning as LiteLLM's proxy writes it, with the role and parts of a message, stays one."""
    thought = {"type": "output_text", "text": "It is hard.", "annotations": []}
    reasoning = {"type": "reasoning", "id": "rs_1", "role": "assistant", "content": [thought]}
    said = {"type": "output_text", "text": "42", "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [said]}
    payload = {**_RESPONSE, "output": [reasoning, {**message, "status": "completed"}]}
    turn = {"role": "user", "content": "Go on."}
    messages = [turn, *_read("responses", payload).messages, turn]
    body = _DIALECTS[to].encode(ChatRequest("m", messages))
    _DIALECTS[to].check(body)
    assert _judge(to, body, payload) == []
    assert ("It is hard." in json.dumps(body)) == (to == "responses")


def test_every_list_of_models_is_read() -> None:
    """Models of both vendors are read in every published form."""
    for kind in (OpenAIModel, ClaudeModel):
        for model in samples(kind):
            (read,), after = read_models({"data": [model], "object": "list"})
            assert (read.id, read.raw, after) == (model["id"], model, None)
            assert read.created is not None


def test_every_count_of_tokens_is_read() -> None:
    """Token counts of both vendors are read in every published form."""
    for kind in (InputTokenCountResponse, MessageTokensCount):
        for payload in samples(kind):
            assert read_count(payload) == payload["input_tokens"]


def test_every_embedding_is_read() -> None:
    """Embeddings are read in every published form."""
    for payload in samples(CreateEmbeddingResponse):
        if payload["data"] and payload["data"][0]["embedding"]:
            payload["data"][0]["index"] = 0
            read = read_embeddings(payload, {"input": "text"})
            assert read["vectors"] == [payload["data"][0]["embedding"]]
