"""Tools, output, reasoning and the other options of a request to Claude."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .._schemas.strict import refers_to_itself
from .._specs import ToolSpec
from ..errors import InvalidRequestError
from ..models import ChatRequest
from ._claude_rules import check_names

__all__ = ["encode_options"]

_CHOICES = {"any": "any", "auto": "auto", "none": "none", "required": "any"}
# platform.claude.com/docs/en/build-with-claude/structured-outputs, "Schema complexity limits":
# strict tools, optional parameters, and parameters of several types, over all strict schemas.
_STRICT_ROOM = (20, 24, 16)
# What its error says of a tool's property keys.
_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_Cost = tuple[int, int, int]


def encode_options(request: ChatRequest) -> dict[str, Any]:
    """Return the fields of a body that are neither messages, system nor limits of tokens.

    Raises:
        InvalidRequestError: Something in them cannot be said to Claude, or is said twice.
    """
    extra = dict(request.extra)
    asked = (request.stop, request.output, request.reasoning, request.tools or None)
    if not extra and asked == (None, None, None, None):
        return {}
    check_names(extra)
    fields: dict[str, Any] = {}
    config = _config(extra.pop("output_config", None))
    if request.stop is not None:
        if not all(map(str.strip, request.stop)):
            # "each stop sequence must contain non-whitespace"
            raise InvalidRequestError("stop has a text of white space only, which Claude refuses.")
        fields["stop_sequences"] = list(request.stop)
    if request.tools:
        schema = None if request.output is None else request.output.schema
        fields["tools"] = _tools(request.tools, schema)
    if request.output is not None:
        schema = dict(request.output.schema)
        if refers_to_itself(schema):
            raise InvalidRequestError(
                "output= refers to itself, which Claude's strict mode refuses; OpenAI's takes it."
            )
        _set(config, "output", "format", {"type": "json_schema", "schema": schema})
    _reason(request.reasoning, fields, config)
    if config:
        fields["output_config"] = config
    for name in fields.keys() & extra.keys():
        option = {"stop_sequences": "stop", "thinking": "reasoning"}.get(name, name)
        raise InvalidRequestError(f"{option}= and the parameter {name} are both given; drop one.")
    if isinstance(extra.get("tool_choice"), (str, Mapping)):
        extra["tool_choice"] = _tool_choice(extra["tool_choice"], fields.get("tools") or ())
    return {**fields, **extra}


def _config(given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise InvalidRequestError(f"output_config must be a dict, not {type(given).__name__}.")
    return dict(given or {})


def _set(config: dict[str, Any], option: str, name: str, value: Any) -> None:
    if config.get(name) is not None:
        raise InvalidRequestError(f"{option}= and output_config's {name} are both given; drop one.")
    config[name] = value


def _reason(reasoning: Any, fields: dict[str, Any], config: dict[str, Any]) -> None:
    if reasoning is None:
        return
    if isinstance(reasoning, Mapping):
        fields["thinking"] = dict(reasoning)
    elif reasoning == "none":
        fields["thinking"] = {"type": "disabled"}
    else:
        fields["thinking"] = {"type": "adaptive"}
        _set(config, "reasoning", "effort", "low" if reasoning == "minimal" else reasoning)


def _tools(tools: Iterable[Any], output: Mapping[str, Any] | None) -> list[Any]:
    """Return tools as this API takes them, strict as far as it compiles strict schemas.

    Without ``strict`` a tool's schema is followed nearly always, with it always; but a request
    that asks for more of it than the API has room for is refused as a whole.
    """
    room = _left(_STRICT_ROOM, (0, *_cost(output)))
    made = []
    for tool in tools:
        spec = _spec_of(tool)
        if spec is None:
            if tool.get("strict"):
                room = _left(room, (1, *_cost(tool.get("input_schema"))))
            made.append(tool)
            continue
        _check_properties(spec)
        described = {"description": spec.description} if spec.description else {}
        told: dict[str, Any] = {
            "name": spec.name,
            **described,
            "input_schema": dict(spec.parameters),
        }
        after = _left(room, (1, *_cost(spec.parameters)))
        if spec.strict and min(after) >= 0 and not refers_to_itself(spec.parameters):
            room, told["strict"] = after, True
        made.append(told)
    return made


def _check_properties(spec: ToolSpec) -> None:
    properties = spec.parameters.get("properties")
    for name in properties if isinstance(properties, Mapping) else ():
        if not _PROPERTY.fullmatch(name):
            raise InvalidRequestError(
                f"The tool {spec.name!r} has a parameter {name!r}; Claude takes names of at most "
                "64 ASCII letters, digits, dots, hyphens and underscores."
            )


def _spec_of(tool: Any) -> ToolSpec | None:
    """Return a tool as a spec, one in OpenAI's form too; None for Claude's own."""
    if isinstance(tool, ToolSpec):
        return tool
    # The responses API says flatly what chat completions say within "function".
    function = tool.get("function", tool) if tool.get("type") == "function" else None
    if not isinstance(function, Mapping):
        return None
    return ToolSpec(
        name=function.get("name", ""),
        description=function.get("description") or "",
        parameters=function.get("parameters") or {"type": "object", "properties": {}},
        strict=bool(function.get("strict")),
    )


def _left(room: _Cost, cost: _Cost) -> _Cost:
    return (room[0] - cost[0], room[1] - cost[1], room[2] - cost[2])


def _cost(schema: Any) -> tuple[int, int]:
    """Count the optional parameters of a schema, and those of several types."""
    optional, several = 0, 0
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, (list, tuple)):
            pending.extend(node)
        if not isinstance(node, Mapping):
            continue
        properties = node.get("properties")
        if isinstance(properties, Mapping):
            optional += len(properties.keys() - set(node.get("required") or ()))
        several += "anyOf" in node or isinstance(node.get("type"), (list, tuple))
        pending.extend(node.values())
    return optional, several


def _tool_choice(choice: str | Mapping[str, Any], tools: Iterable[Any]) -> Any:
    if not isinstance(choice, str):
        function = choice.get("function") if choice.get("type") == "function" else None
        # OpenAI's form of it.
        if isinstance(function, Mapping):
            return {"type": "tool", "name": function.get("name")}
        return choice
    if choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    if any(isinstance(tool, Mapping) and tool.get("name") == choice for tool in tools):
        return {"type": "tool", "name": choice}
    raise InvalidRequestError(
        "tool_choice must be 'auto', 'none', 'required', the name of a tool given by tools=, or "
        "Claude's own dict."
    )
