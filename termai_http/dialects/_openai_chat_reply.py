"""The parts of a chat completion's reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._secrets import without_lone_surrogates
from ..models import ToolCall, Usage
from ._base import count, made_good, tool_call
from ._neutral import THOUGHTS, made_id

__all__ = [
    "read_text",
    "read_texts",
    "read_thinking",
    "read_tool_calls",
    "read_turn",
    "read_usage",
]


def read_text(message: Mapping[str, Any]) -> str:
    """Read the text of a message."""
    content = message.get("content")
    if isinstance(content, str):
        return without_lone_surrogates(content)
    # Some compatible servers answer in the parts that requests may have.
    return _joined(content, "text")


def _joined(parts: Any, name: str) -> str:
    if not isinstance(parts, list):
        return ""
    found = (part.get(name) for part in parts if isinstance(part, dict))
    return without_lone_surrogates("".join([text for text in found if isinstance(text, str)]))


def read_texts(choices: list[Any]) -> tuple[str, ...]:
    """Read the text of every choice, in their order."""
    messages = [choice.get("message") for choice in choices if isinstance(choice, dict)]
    return tuple(read_text(message) if isinstance(message, dict) else "" for message in messages)


def read_thinking(message: Mapping[str, Any]) -> str:
    """Read the reasoning, which compatible servers send in their own ways; OpenAI sends none."""
    for name in THOUGHTS[:2]:
        if isinstance(value := message.get(name), str) and value:
            return without_lone_surrogates(value)
    parts = message.get("content")
    if not isinstance(parts, list):
        return ""
    thoughts = [part.get("thinking") for part in parts if isinstance(part, dict)]
    return "".join(
        without_lone_surrogates(thought) if isinstance(thought, str) else _joined(thought, "text")
        for thought in thoughts
    )


def read_tool_calls(calls: Any) -> tuple[ToolCall, ...]:
    """Read the tool calls of a message; () where there are none.

    One without an id gets one that is the same each time it is read.
    """
    return tuple([call for _, _, call in _paired(calls)]) if calls else ()


def _paired(calls: Any) -> list[tuple[Mapping[str, Any], str, ToolCall]]:
    """Return each call as it came, its kind, and what it says."""
    found: list[tuple[Mapping[str, Any], str, ToolCall]] = []
    for call in made_good(calls) if isinstance(calls, list) else ():
        if not isinstance(call, dict):
            continue
        kind = "custom" if isinstance(call.get("custom"), dict) else "function"
        inner = call.get(kind)
        if not isinstance(inner, dict):
            continue
        said = inner.get("input" if kind == "custom" else "arguments") or ""
        given = call.get("id")
        id = given if isinstance(given, str) and given else made_id(len(found), inner)
        found.append((call, kind, tool_call(id, inner.get("name"), said)))
    return found


def read_turn(message: Mapping[str, Any], text: str) -> tuple[Mapping[str, Any], ...]:
    """Read a message, whose text was read, as those of a next request; () where it says nothing."""
    came = message.get("tool_calls")
    calls = [_again(*paired) for paired in _paired(came)] if came else []
    if calls:
        kept = {name: made_good(message[name]) for name in THOUGHTS if message.get(name)}
        return ({"role": "assistant", "content": text or None, **kept, "tool_calls": calls},)
    if text:
        return ({"role": "assistant", "content": text},)
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        return ({"role": "assistant", "content": None, "refusal": refusal},)
    audio = message.get("audio")
    if isinstance(audio, dict) and audio.get("id"):
        return ({"role": "assistant", "content": None, "audio": {"id": audio["id"]}},)
    return ()


def _again(came: Mapping[str, Any], kind: str, call: ToolCall) -> Mapping[str, Any]:
    """Return a call as a request takes it, where it came in some other form."""
    name, written = ("input", call.text) if kind == "custom" else ("arguments", call.text or "{}")
    good = {"id": call.id, "type": kind, kind: {**came[kind], name: written}}
    return {**{key: value for key, value in came.items() if key != "index"}, **good}


def read_usage(usage: Any) -> Usage:
    """Read the tokens; zeros where it says nothing."""
    if not isinstance(usage, dict):
        return Usage()
    prompt = usage.get("prompt_tokens_details")
    completion = usage.get("completion_tokens_details")
    return Usage(
        input_tokens=count(usage.get("prompt_tokens")),
        output_tokens=count(usage.get("completion_tokens")),
        cached_tokens=count(prompt.get("cached_tokens")) if isinstance(prompt, dict) else 0,
        reasoning_tokens=(
            count(completion.get("reasoning_tokens")) if isinstance(completion, dict) else 0
        ),
    )
