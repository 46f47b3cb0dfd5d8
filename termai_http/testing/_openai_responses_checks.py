"""What OpenAI's responses refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._checks import EFFORTS, Problem
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

__all__ = ["count_problems", "responses_problems"]

_MOVED = {
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
}
_ROLES = ("assistant", "system", "developer", "user")
_GIVEN_PARTS = ("input_text", "input_image", "input_file", "input_audio")
_SAID_PARTS = ("output_text", "refusal")
# How the ids of items begin that come back.
_BEGINNINGS = {
    "function_call": "fc",
    "function_call_output": "fc",
    "message": "msg",
    "reasoning": "rs",
}
_ITEMS = (
    *("additional_tools", "apply_patch_call", "apply_patch_call_output", "code_interpreter_call"),
    *("compaction", "compaction_trigger", "computer_call", "computer_call_output"),
    *("configuration_update", "custom_tool_call", "custom_tool_call_output", "file_search_call"),
    *("function_call", "function_call_output", "image_generation_call", "item_reference"),
    *("local_shell_call", "local_shell_call_output", "mcp_approval_request"),
    *("mcp_approval_response", "mcp_call", "mcp_list_tools", "message", "program"),
    *("program_output", "reasoning", "shell_call", "shell_call_output", "tool_search_call"),
    *("tool_search_output", "web_search_call"),
)


def responses_problems(
    body: Mapping[str, Any], headers: Mapping[str, str], memory: Memory
) -> Iterator[Problem]:
    """Check a request of responses.

    Args:
        body: The request's body.
        headers: Its headers.
        memory: What the server remembers.
    """
    if not isinstance(body.get("prompt"), dict):
        if not body.get("model"):
            yield missing("model")
        if not any(body.get(name) for name in ("input", "previous_response_id", "conversation")):
            yield missing("input")
    yield from _problems(body, memory, "responses")


def count_problems(
    body: Mapping[str, Any], headers: Mapping[str, str], memory: Memory
) -> Iterator[Problem]:
    """Check a request whose tokens shall be counted, which may leave out what it likes."""
    yield from _problems(body, memory, "input_tokens")


def _problems(body: Mapping[str, Any], memory: Memory, api: str) -> Iterator[Problem]:
    name = foreign(body, api)
    if name in _MOVED:
        yield Problem(
            message=f"Unsupported parameter: '{name}'. In the Responses API, this parameter has "
            f"moved to '{_MOVED[name]}'.",
            param=name,
            code="unsupported_parameter",
        )
    elif name is not None:
        yield unknown_parameter(name)
    yield from _texts(body)
    yield from bad_numbers(body)
    yield from bad_tools(body, nested=False)
    yield from bad_tool_choice(body)
    yield from _format(body)
    effort = _within(body, "reasoning").get("effort")
    if effort is not None and effort not in EFFORTS:
        yield unknown_value("reasoning.effort", effort, EFFORTS)
    before = memory.conversation(body.get("previous_response_id"))
    if body.get("previous_response_id") is not None and before is None:
        yield Problem(
            message=f"Previous response with id '{body['previous_response_id']}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    given = body["input"] if isinstance(body.get("input"), list) else []
    yield from _input(given)
    yield from _answered(before or [], given)
    yield from _reasoned(given, memory)


def _texts(body: Mapping[str, Any]) -> Iterator[Problem]:
    for name in ("model", "instructions", "previous_response_id"):
        if not isinstance(body.get(name), (str, type(None))):
            yield wrong_type(name, "a string", body[name])
    if not isinstance(body.get("input"), (str, list, type(None))):
        yield wrong_type("input", "one of a string or array of input items", body["input"])
    for name in ("reasoning", "text"):
        if not isinstance(body.get(name), (dict, type(None))):
            yield wrong_type(name, "an object", body[name])


def _within(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def _format(body: Mapping[str, Any]) -> Iterator[Problem]:
    form, param = _within(body, "text").get("format"), "text.format"
    if form is None:
        return
    known = ("json_object", "json_schema", "text")
    kind = form.get("type") if isinstance(form, dict) else None
    if kind not in known:
        yield missing(f"{param}.type") if kind is None else unknown_value(param, kind, known)
    elif kind == "json_schema":
        yield from bad_name(f"{param}.name", form.get("name"))
        if "schema" not in form:
            yield missing(f"{param}.schema")
        what = f"response_format '{form['name']}'"
        strict = form.get("strict")
        yield from bad_schema(
            f"{param}.schema", form["schema"], what, "invalid_json_schema", strict
        )


def _input(items: Sequence[Any]) -> Iterator[Problem]:
    for at, item in enumerate(items):
        param = f"input[{at}]"
        if not isinstance(item, dict):
            yield wrong_type(param, "an object", item)
            continue
        kind = item.get("type", "message")
        if kind not in _ITEMS:
            yield unknown_value(f"{param}.type", kind, _ITEMS)
        yield from _id(f"{param}.id", item.get("id"), _BEGINNINGS.get(kind))
        if kind == "message":
            yield from _message(param, item)
        elif kind == "function_call":
            for name in ("arguments", "call_id", "name"):
                yield from text_problems(f"{param}.{name}", item.get(name))
        elif kind == "function_call_output":
            yield from text_problems(f"{param}.call_id", item.get("call_id"))
            yield from _content(f"{param}.output", item.get("output"), _GIVEN_PARTS)
        elif kind == "reasoning" and not isinstance(item.get("summary"), list):
            yield missing(f"{param}.summary")


def _id(param: str, given: Any, beginning: str | None) -> Iterator[Problem]:
    if isinstance(given, str) and beginning is not None and not given.startswith(beginning):
        yield Problem(
            message=f"Invalid '{param}': '{given}'. Expected an ID that begins with '{beginning}'.",
            param=param,
            code="invalid_value",
        )


def _message(param: str, item: Mapping[str, Any]) -> Iterator[Problem]:
    role = item.get("role")
    if role is None:
        yield missing(f"{param}.role")
    elif role not in _ROLES:
        yield unknown_value(f"{param}.role", role, _ROLES)
    for name in item:
        if name not in ("content", "id", "phase", "role", "status", "type"):
            yield unknown_parameter(f"{param}.{name}")
    known = _SAID_PARTS if role == "assistant" else _GIVEN_PARTS
    yield from _content(f"{param}.content", item.get("content"), known)


def _content(param: str, content: Any, known: Sequence[str]) -> Iterator[Problem]:
    if content is None:
        yield missing(param)
    elif not isinstance(content, (str, list)):
        yield wrong_type(param, "one of an array of objects or string", content)
    for at, part in enumerate(content if isinstance(content, list) else ()):
        where = f"{param}[{at}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict):
            yield wrong_type(where, "an object", part)
        elif kind not in known:
            yield unknown_value(where, kind, known)
        elif kind == "input_image" and part.get("file_id") is None:
            yield from image_problems(f"{where}.image_url", part.get("image_url"))
        elif kind == "input_file":
            yield from file_problems(where, part)
        elif kind in ("input_text", "output_text", "refusal"):
            name = "refusal" if kind == "refusal" else "text"
            yield from text_problems(f"{where}.{name}", part.get(name))


def _answered(
    before: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]]
) -> Iterator[Problem]:
    """Check that every call of a function has its output, and every output its call."""
    all_items = [*before, *items]
    calls = [item["call_id"] for item in all_items if item.get("type") == "function_call"]
    outputs = [item["call_id"] for item in all_items if item.get("type") == "function_call_output"]
    referred = any(item.get("type") == "item_reference" for item in all_items)
    for call in outputs:
        if call not in calls and not referred:
            yield Problem(
                message=f"No tool call found for function call output with call_id {call}.",
                param="input",
            )
    for call in calls:
        if call not in outputs:
            yield Problem(message=f"No tool output found for function call {call}.", param="input")


def _reasoned(items: Sequence[Mapping[str, Any]], memory: Memory) -> Iterator[Problem]:
    """Check that reasoning comes back with what it led to, and what it led to with it."""
    here = {item["id"] for item in items if item.get("type") == "reasoning" and "id" in item}
    for at, item in enumerate(items):
        name, kind = item.get("id"), item.get("type", "message")
        reason = memory.reason_of(name)
        if reason is not None and reason not in here:
            yield Problem(
                message=f"Item '{name}' of type '{kind}' was provided without its required "
                f"'reasoning' item: '{reason}'.",
                param="input",
            )
        if kind != "reasoning":
            continue
        if not item.get("encrypted_content") and not memory.knows_item(name):
            yield Problem(
                message=f"Item with id '{name}' not found. Items are not persisted when `store` "
                "is set to false. Try again with `store` set to true, or remove this item from "
                "your input.",
                param="input",
                status=404,
            )
        after = items[at + 1].get("type", "message") if at + 1 < len(items) else None
        if after in (None, "function_call_output"):
            yield Problem(
                message=f"Item '{name}' of type 'reasoning' was provided without its required "
                "following item.",
                param="input",
            )
