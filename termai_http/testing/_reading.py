"""What a request says, read from its body in any of the dialects; pure, and never raises."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "called_tools",
    "marks_of",
    "messages_of",
    "prompt_of",
    "results_of",
    "schema_of",
    "stops_of",
    "text_of",
    "tools_of",
]

# The types of tools that the caller runs, in all dialects; the vendor runs the others.
_FUNCTIONS = (None, "custom", "function")
# Where a request says what its reply shall look like, and in which field there.
_FORMAT_HOMES = {"response_format": None, "text": "format", "output_config": "format"}
_ANY_OBJECT = {
    "type": "object",
    "properties": {"said": {"type": "string"}},
    "required": ["said"],
}


def messages_of(body: Any) -> list[dict[str, Any]]:
    """Return the messages, or the input items of a responses request."""
    given = body.get("messages", body.get("input")) if isinstance(body, dict) else None
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def text_of(content: Any) -> str:
    """Return the text of a message's content, which may be made of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def prompt_of(body: Any) -> str:
    """Return the text of the last user turn; ``""`` where there is none."""
    if isinstance(body, dict) and isinstance(body.get("input"), str):
        return str(body["input"])
    for message in reversed(messages_of(body)):
        content = message.get("content")
        # Claude gives the results of tools in turns of the user.
        if message.get("role") == "user" and not (_results(content) and not text_of(content)):
            return text_of(content)
    return ""


def results_of(body: Any) -> list[str]:
    """Return the texts of the tools' results that the last turn holds."""
    found: list[str] = []
    for message in reversed(messages_of(body)):
        if message.get("role") == "tool":
            found.append(text_of(message.get("content")))
        elif message.get("type") == "function_call_output":
            found.append(text_of(message.get("output")))
        else:
            if not found and message.get("role") == "user":
                return _results(message.get("content"))
            break
    return found[::-1]


def _results(content: Any) -> list[str]:
    blocks = content if isinstance(content, list) else []
    return [
        text_of(block.get("content"))
        for block in blocks
        if isinstance(block, dict) and block.get("type") == "tool_result"
    ]


def tools_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the functions that may be called: a JSON schema by name."""
    found = {}
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and tool.get("type") in _FUNCTIONS:
            function = tool.get("function")
            named = function if isinstance(function, dict) else tool
            schema = named.get("parameters", named.get("input_schema"))
            if isinstance(named.get("name"), str):
                found[named["name"]] = {"type": "object"} if schema is None else schema
    return found


def called_tools(body: Mapping[str, Any], prompt: str) -> list[str]:
    """Return the names of the tools that a reply to a prompt calls.

    They are what ``tool_choice`` forces, else those that the prompt names, else the first. None
    is called where ``tool_choice`` says so.
    """
    tools, choice = list(tools_of(body)), body.get("tool_choice")
    if isinstance(choice, dict):
        function = choice.get("function")
        name = (function if isinstance(function, dict) else choice).get("name")
        if name in tools:
            return [str(name)]
        choice = choice.get("type")
    named = [name for name in tools if re.search(rf"\b{re.escape(name)}\b", prompt)]
    return [] if choice == "none" else named or tools[:1]


def schema_of(body: Mapping[str, Any]) -> Any:
    """Return the JSON schema that the reply's text shall fit; None where there is none."""
    for form in _formats(body):
        if form.get("type") == "json_object":
            return _ANY_OBJECT
        inner = form.get("json_schema")
        schema = (inner if isinstance(inner, dict) else form).get("schema")
        if form.get("type") == "json_schema" and schema is not None:
            return schema
    return None


def _formats(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name, inner in _FORMAT_HOMES.items():
        if name in body:
            found = body[name]
            if inner is not None and isinstance(found, dict):
                found = found.get(inner)
            if isinstance(found, dict):
                yield found


def stops_of(body: Mapping[str, Any]) -> list[str]:
    """Return the texts before which a reply stops."""
    given = body.get("stop", body.get("stop_sequences"))
    given = [given] if isinstance(given, str) else given
    return [one for one in given if isinstance(one, str) and one] if isinstance(given, list) else []


def marks_of(body: Mapping[str, Any]) -> list[Any]:
    """Return Claude's marks for the prompt cache, in the order in which the model reads."""
    found: list[Any] = []
    for name in ("tools", "system", "messages"):
        parts = body.get(name)
        for part in parts if isinstance(parts, list) else ():
            _find_marks(part, found)
    return found + ([body["cache_control"]] if body.get("cache_control") else [])


def _find_marks(part: Any, found: list[Any]) -> None:
    if isinstance(part, dict):
        if part.get("cache_control") is not None:
            found.append(part["cache_control"])
        content = part.get("content")
        for inner in content if isinstance(content, list) else ():
            _find_marks(inner, found)
