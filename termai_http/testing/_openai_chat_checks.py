"""What OpenAI's chat completions refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._checks import EFFORTS, Problem, decoded
from ._foreign import foreign
from ._memory import Memory
from ._openai_checks import (
    bad_name,
    bad_numbers,
    bad_schema,
    bad_tool_choice,
    bad_tools,
    file_problems,
    image_problems,
    missing,
    text_problems,
    unknown_parameter,
    unknown_value,
    wrong_type,
)

__all__ = ["chat_problems"]

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_KEYS = {
    # Annotations are a reply's, which may come back as it is.
    "assistant": ("annotations", "audio", "function_call", "refusal", "tool_calls"),
    "tool": ("tool_call_id",),
}
_PARTS = {
    "assistant": ("text", "refusal"),
    "user": ("text", "image_url", "input_audio", "file"),
}
_AFTER_CALLS = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
    "'tool_call_id'. The following tool_call_ids did not have response messages: "
)


def chat_problems(
    body: Mapping[str, Any], headers: Mapping[str, str], memory: Memory
) -> Iterator[Problem]:
    """Check a request of chat completions.

    Args:
        body: The request's body.
        headers: Its headers.
        memory: What the server remembers.
    """
    for name in ("model", "messages"):
        if body.get(name) is None or body[name] == "":
            yield missing(name)
    if (stray := foreign(body, "chat")) is not None:
        yield unknown_parameter(stray)
    if not isinstance(body["model"], str):
        yield wrong_type("model", "a string", body["model"])
    yield from _messages(body["messages"])
    yield from bad_numbers(body)
    yield from bad_tools(body, nested=True)
    yield from bad_tool_choice(body)
    yield from _format(body)
    yield from _options(body)


def _options(body: Mapping[str, Any]) -> Iterator[Problem]:
    if body.get("stream_options") is not None and body.get("stream") is not True:
        yield Problem(
            message="The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        yield Problem(
            message="Setting 'max_tokens' and 'max_completion_tokens' at the same time is not "
            "supported.",
            param="max_tokens",
        )
    effort = body.get("reasoning_effort")
    if effort is not None and effort not in EFFORTS:
        yield unknown_value("reasoning_effort", effort, EFFORTS)
    stop = body.get("stop")
    if isinstance(stop, list) and len(stop) > 4:
        yield Problem(
            message="Invalid 'stop': array too long. Expected an array with maximum length 4, but "
            f"got an array with length {len(stop)} instead.",
            param="stop",
            code="array_above_max_length",
        )


def _messages(messages: Any) -> Iterator[Problem]:
    if not isinstance(messages, list):
        yield wrong_type("messages", "an array of objects", messages)
    elif not messages:
        yield Problem(
            message="Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            param="messages",
            code="empty_array",
        )
    for at, message in enumerate(messages):
        yield from _message(f"messages[{at}]", message)
    yield from _answered(messages)


def _message(param: str, message: Any) -> Iterator[Problem]:
    if not isinstance(message, dict):
        yield wrong_type(param, "an object", message)
        return
    role = message.get("role")
    if role is None:
        yield missing(f"{param}.role")
    elif role not in _ROLES:
        yield unknown_value(f"{param}.role", role, _ROLES)
    known = ("role", "content", "name", *_KEYS.get(str(role), ()))
    for name in message:
        if name not in known:
            yield unknown_parameter(f"{param}.{name}")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        yield missing(f"{param}.tool_call_id")
    if message.get("tool_calls") is not None:
        yield from _calls(f"{param}.tool_calls", message["tool_calls"])
    yield from _content(f"{param}.content", message)


def _content(param: str, message: Mapping[str, Any]) -> Iterator[Problem]:
    role, content = str(message["role"]), message.get("content")
    if isinstance(content, str):
        return
    if content is None:
        if role != "assistant" or not any(message.get(name) for name in _KEYS[role]):
            yield Problem(
                message=f"Invalid value for '{param}': expected a string, got null.",
                param=param,
                code="invalid_value",
            )
    elif not isinstance(content, list):
        yield wrong_type(param, "one of a string or array of objects", content)
    elif not content:
        yield Problem(
            message=f"Invalid '{param}': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            param=param,
            code="empty_array",
        )
    for at, part in enumerate(content or ()):
        yield from _part(f"{param}[{at}]", part, _PARTS.get(role, ("text",)))


def _part(param: str, part: Any, known: Sequence[str]) -> Iterator[Problem]:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict):
        yield wrong_type(param, "an object", part)
    elif kind not in known:
        yield unknown_value(f"{param}.type", kind, known)
    elif kind in ("text", "refusal"):
        yield from text_problems(f"{param}.{kind}", part.get(kind))
    elif not isinstance(part.get(kind), dict):
        yield missing(f"{param}.{kind}")
    elif kind == "image_url":
        yield from image_problems(f"{param}.image_url.url", part["image_url"].get("url"))
    elif kind == "file":
        yield from file_problems(f"{param}.file", part["file"])
    elif decoded(part["input_audio"].get("data")) is None:
        yield Problem(message="The audio data is no valid base64.", param=f"{param}.input_audio")


def _calls(param: str, calls: Any) -> Iterator[Problem]:
    if not isinstance(calls, list):
        yield wrong_type(param, "an array of objects", calls)
    elif not calls:
        yield Problem(
            message=f"Invalid '{param}': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            param=param,
            code="empty_array",
        )
    for at, call in enumerate(calls):
        where = f"{param}[{at}]"
        if not isinstance(call, dict):
            yield wrong_type(where, "an object", call)
        for name in ("id", "type"):
            if not isinstance(call.get(name), str):
                yield missing(f"{where}.{name}")
        if call["type"] != "function":
            continue
        function = call.get("function")
        if not isinstance(function, dict):
            yield missing(f"{where}.function")
        else:
            yield from bad_name(f"{where}.function.name", function.get("name"))
            arguments = f"{where}.function.arguments"
            yield from text_problems(arguments, function.get("arguments"))


def _answered(messages: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Check that every call has its answer right after it, and every answer its call."""
    waiting: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                yield Problem(
                    message="Invalid parameter: messages with role 'tool' must be a response to "
                    "a preceding message with 'tool_calls'.",
                    param=f"messages.[{at}].role",
                )
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            break
        waiting = [str(call["id"]) for call in message.get("tool_calls") or ()]
    if waiting:
        yield Problem(message=_AFTER_CALLS + ", ".join(waiting), param="messages")


def _format(body: Mapping[str, Any]) -> Iterator[Problem]:
    form, param = body.get("response_format"), "response_format"
    if form is None:
        return
    known = ("json_object", "json_schema", "text")
    kind = form.get("type") if isinstance(form, dict) else None
    if not isinstance(form, dict):
        yield wrong_type(param, "an object", form)
    elif kind not in known:
        yield unknown_value(f"{param}.type", kind, known)
    elif kind == "json_object" and "json" not in json.dumps(body["messages"]).lower():
        yield Problem(
            message="'messages' must contain the word 'json' in some form, to use "
            "'response_format' of type 'json_object'.",
            param="messages",
        )
    elif kind == "json_schema":
        described = form.get("json_schema")
        if not isinstance(described, dict):
            yield missing(f"{param}.json_schema")
            return
        yield from bad_name(f"{param}.json_schema.name", described.get("name"))
        yield from bad_schema(
            param,
            described.get("schema", {}),
            f"response_format '{described['name']}'",
            "invalid_json_schema",
            described.get("strict"),
        )
