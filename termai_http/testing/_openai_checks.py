"""What OpenAI's APIs refuse alike, in the vendor's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ._checks import IMAGES, Problem, decoded, image_type, split_data_url
from ._reading import tools_of
from ._strict import openai_refuses

__all__ = [
    "bad_name",
    "bad_numbers",
    "bad_schema",
    "bad_tool_choice",
    "bad_tools",
    "file_problems",
    "image_problems",
    "missing",
    "text_problems",
    "unknown_parameter",
    "unknown_value",
    "wrong_type",
]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# The least and the most that a parameter takes, and whether it is a whole number.
_NUMBERS: dict[str, tuple[float, float, bool]] = {
    "frequency_penalty": (-2, 2, False),
    "max_completion_tokens": (1, 10**9, True),
    "max_output_tokens": (16, 10**9, True),
    "max_tokens": (1, 10**9, True),
    "n": (1, 128, True),
    "presence_penalty": (-2, 2, False),
    "temperature": (0, 2, False),
    "top_logprobs": (0, 20, True),
    "top_p": (0, 1, False),
}


def missing(param: str) -> Problem:
    """Return what is said of a parameter that is not there."""
    return Problem(
        message=f"Missing required parameter: '{param}'.",
        param=param,
        code="missing_required_parameter",
    )


def wrong_type(param: str, wanted: str, value: Any) -> Problem:
    """Return what is said of a parameter of the wrong type.

    Args:
        param: The parameter.
        wanted: What it should be, as ``"a string"``.
        value: What it is.
    """
    return Problem(
        message=f"Invalid type for '{param}': expected {wanted}, but got {_kind(value)} instead.",
        param=param,
        code="invalid_type",
    )


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a boolean"
    if isinstance(value, (int, float)):
        return "an integer" if isinstance(value, int) else "a decimal"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def unknown_parameter(param: str) -> Problem:
    """Return what is said of a parameter that the vendor does not know."""
    return Problem(message=f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def unknown_value(param: str, value: Any, known: Iterable[str]) -> Problem:
    """Return what is said of a value that a parameter does not take."""
    names = [f"'{name}'" for name in known]
    listed = ", ".join(names[:-1]) + f", and {names[-1]}" if len(names) > 2 else " and ".join(names)
    return Problem(
        message=f"Invalid value: '{value}'. Supported values are: {listed}.",
        param=param,
        code="invalid_value",
    )


def bad_name(param: str, name: Any) -> Iterator[Problem]:
    """Check a name of a tool or of a schema."""
    if name is None:
        yield missing(param)
    elif not isinstance(name, str):
        yield wrong_type(param, "a string", name)
    elif not _NAME.fullmatch(name):
        yield Problem(
            message=f"Invalid '{param}': string does not match pattern. Expected a string that "
            "matches the pattern '^[a-zA-Z0-9_-]+$', of at most 64 characters.",
            param=param,
            code="invalid_value",
        )


def bad_numbers(body: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the parameters that are numbers."""
    for name in _NUMBERS.keys() & body.keys():
        value, (least, most, whole) = body[name], _NUMBERS[name]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            yield wrong_type(name, "an integer" if whole else "a decimal", value)
            continue
        kind = "integer" if whole else "decimal"
        if least <= value <= most:
            continue
        side, bound = ("below min", f">= {least}") if value < least else ("above max", f"<= {most}")
        yield Problem(
            message=f"Invalid '{name}': {kind} {side}imum value. Expected a value {bound}, but "
            f"got {value} instead.",
            param=name,
            code=f"{kind}_{side.replace(' ', '_')}_value",
        )


def bad_schema(param: str, schema: Any, what: str, code: str, strict: Any) -> Iterator[Problem]:
    """Check a JSON schema.

    Args:
        param: Where it stands.
        schema: The schema.
        what: Whose it is, as ``"function 'f'"``.
        code: The error's code.
        strict: Whether strict mode has to take it.
    """
    if not isinstance(schema, dict):
        yield wrong_type(param, "an object", schema)
    elif strict is True:
        for wrong in openai_refuses(schema):
            yield _not_strict(param, what, wrong, code)


def _not_strict(param: str, what: str, wrong: str, code: str) -> Problem:
    """Return what is said of a schema."""
    return Problem(message=f"Invalid schema for {what}: {wrong}", param=param, code=code)


def bad_tools(body: Mapping[str, Any], nested: bool) -> Iterator[Problem]:
    """Check ``tools``.

    Args:
        body: The request's body.
        nested: Whether what describes a function stands in a field ``function``.
    """
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list):
        yield wrong_type("tools", "an array of objects", tools)
    elif nested and not tools:
        yield Problem(
            message="Invalid 'tools': empty array. Expected an array with minimum length 1, but "
            "got an empty array instead.",
            param="tools",
            code="empty_array",
        )
    for at, tool in enumerate(tools):
        yield from _bad_tool(f"tools[{at}]", tool, nested)


def _bad_tool(param: str, tool: Any, nested: bool) -> Iterator[Problem]:
    if not isinstance(tool, dict):
        yield wrong_type(param, "an object", tool)
        return
    if "type" not in tool:
        yield missing(f"{param}.type")
    elif nested and tool["type"] not in ("function", "custom"):
        yield unknown_value(f"{param}.type", tool["type"], ("function", "custom"))
    if tool["type"] != "function":
        return
    function, where = (tool.get("function"), f"{param}.function") if nested else (tool, param)
    if not isinstance(function, dict):
        yield missing(where) if function is None else wrong_type(where, "an object", function)
        return
    yield from bad_name(f"{where}.name", function.get("name"))
    schema = function.get("parameters")
    if schema is None:
        return
    what, code = f"function '{function['name']}'", "invalid_function_parameters"
    if isinstance(schema, dict) and schema.get("type") != "object":
        wrong = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {_said(schema)}'."
        yield _not_strict(f"{where}.parameters", what, wrong, code)
    yield from bad_schema(f"{where}.parameters", schema, what, code, function.get("strict"))


def _said(schema: Mapping[str, Any]) -> str:
    return f'"{schema.get("type")}"'


def bad_tool_choice(body: Mapping[str, Any]) -> Iterator[Problem]:
    """Check ``tool_choice`` and what else goes with tools only."""
    choice = body.get("tool_choice")
    for name in ("tool_choice", "parallel_tool_calls"):
        if body.get(name) is not None and not body.get("tools"):
            yield Problem(
                message=f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are "
                "specified.",
                param=name,
            )
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        yield unknown_value("tool_choice", choice, ("none", "auto", "required"))
    if isinstance(choice, dict) and choice.get("type") == "function":
        function = choice.get("function")
        named = (function if isinstance(function, dict) else choice).get("name")
        if named not in tools_of(body):
            yield Problem(
                message=f"Tool choice '{named}' not found in 'tools' parameter.",
                param="tool_choice",
            )


def text_problems(param: str, text: Any) -> Iterator[Problem]:
    """Check the text of a part."""
    if text is None:
        yield missing(param)
    elif not isinstance(text, str):
        yield wrong_type(param, "a string", text)


def image_problems(param: str, url: Any) -> Iterator[Problem]:
    """Check the URL of an image."""
    if not isinstance(url, str):
        yield missing(param) if url is None else wrong_type(param, "a string", url)
        return
    if url.startswith(("https://", "http://")):
        return
    split = split_data_url(url)
    if split is None:
        yield Problem(
            message=f"Invalid '{param}'. Expected a valid URL, or a base64-encoded data URL.",
            param=param,
            code="invalid_value",
        )
        return
    kind, text = split
    data = decoded(text)
    if data is None:
        yield Problem(message="Invalid base64 image_url.", param=param, code="invalid_base64_image")
    elif kind not in IMAGES or image_type(data) is None:
        yield Problem(
            message="You uploaded an unsupported image. Please make sure your image has of one "
            "the following formats: ['png', 'jpeg', 'gif', 'webp'].",
            param=param,
            code="invalid_image_format",
        )


def file_problems(param: str, part: Mapping[str, Any]) -> Iterator[Problem]:
    """Check a file: its id, its URL where one may stand, or its bytes with a name."""
    data = part.get("file_data")
    if data is None:
        if part.get("file_id") is None and part.get("file_url") is None:
            yield missing(f"{param}.file_id")
        return
    split = split_data_url(data) if isinstance(data, str) else None
    if split is None or decoded(split[1]) is None:
        yield Problem(
            message=f"Invalid '{param}.file_data'. Expected a base64-encoded data URL with an "
            "application/pdf MIME type.",
            param=f"{param}.file_data",
            code="invalid_value",
        )
    if not isinstance(part.get("filename"), str):
        yield missing(f"{param}.filename")
