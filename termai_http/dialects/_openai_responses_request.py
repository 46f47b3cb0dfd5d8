"""Requests for responses: the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._specs import OutputSpec, ToolSpec
from ..errors import InvalidRequestError
from ..models import ChatRequest, as_messages
from ._openai_responses_input import encode_input

__all__ = ["encode_request"]

_RENAMED = {
    "cache_control": "prompt_cache_key=",
    "function_call": "tool_choice=",
    "functions": "tools=",
    "input": "the prompt as the first argument",
    "logprobs": 'include=["message.output_text.logprobs"] and top_logprobs=',
    "max_completion_tokens": "max_tokens=",
    "output_config": "output= and reasoning=",
    "reasoning_effort": "reasoning=",
    "response_format": 'output=, or text={"format": {...}}',
    "thinking": "reasoning=",
    "verbosity": 'text={"verbosity": ...}',
    "web_search_options": 'tools=[{"type": "web_search"}]',
}
_UNKNOWN = (
    *("audio", "frequency_penalty", "logit_bias", "modalities", "n", "prediction"),
    *("presence_penalty", "seed", "stop", "stop_sequences", "top_k"),
)
# Options, and the parameters that say the same.
_TWICE = {
    "max_tokens": "max_output_tokens",
    "reasoning": "reasoning",
    "system": "instructions",
    "tools": "tools",
}
_CHOICES = ("auto", "none", "required")


def _check_extra(request: ChatRequest) -> None:
    """Refuse parameters that only chat completions have, or that say the same thing twice."""
    extra = request.extra
    for name, right in _RENAMED.items():
        if extra.get(name) is not None:
            raise InvalidRequestError(f"{name}= is none of the responses API's; it takes {right}.")
    given = [name for name in _UNKNOWN if extra.get(name) is not None]
    if request.stop is not None:
        given.append("stop")
    if given:
        raise InvalidRequestError(
            f"The responses API has no {', '.join(given)}. Leave it out, or use the chat API; for "
            "another server that knows it, extra_body={...} sends it."
        )
    for ours, its in _TWICE.items():
        if getattr(request, ours) is not None and extra.get(its) is not None:
            raise InvalidRequestError(f"{ours}= and the parameter {its} are both given; drop one.")


def encode_request(request: ChatRequest) -> dict[str, Any]:
    """Return the body for a request.

    Raises:
        InvalidRequestError: Something in it cannot be said to this API; the message names the right
            parameter, where there is one.
    """
    _check_extra(request)
    extra = dict(request.extra)
    for name in (*_RENAMED, *_UNKNOWN):
        extra.pop(name, None)
    stored = extra.get("store") is not False
    body: dict[str, Any] = {
        "model": request.model,
        "input": encode_input(as_messages(request.messages), stored=stored),
    }
    if request.system is not None:
        body["instructions"] = request.system
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    if request.tools is not None:
        body["tools"] = [_encode_tool(tool) for tool in request.tools]
    if isinstance(choice := extra.get("tool_choice"), str):
        extra["tool_choice"] = _encode_choice(choice, body.get("tools") or extra.get("tools") or ())
    if request.reasoning is not None:
        given = request.reasoning
        body["reasoning"] = {"effort": given} if isinstance(given, str) else dict(given)
    if request.output is not None:
        extra["text"] = _encode_output(request.output, extra.get("text"))
    body.update(extra)
    return body


def _encode_tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, ToolSpec):
        return _encode_foreign(tool)
    described = {"description": tool.description} if tool.description else {}
    return {
        "type": "function",
        "name": tool.name,
        **described,
        "parameters": dict(tool.parameters),
        # Left out it would mean True, and many a schema is none that the strict mode takes.
        "strict": tool.strict,
    }


def _encode_foreign(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool of the vendor's own, also in the forms of chat completions and of Claude."""
    function = tool.get("function")
    if tool.get("type") == "function" and isinstance(function, Mapping):
        return {"type": "function", "strict": False, "parameters": None, **function}
    if "input_schema" in tool:
        told = {name: tool[name] for name in ("name", "description") if name in tool}
        strict = bool(tool.get("strict"))
        return {"type": "function", **told, "parameters": tool["input_schema"], "strict": strict}
    return dict(tool)


def _encode_choice(choice: str, tools: Iterable[Mapping[str, Any]]) -> Any:
    if choice in _CHOICES:
        return choice
    for tool in tools:
        if not isinstance(tool, Mapping):
            continue
        if tool.get("name") == choice:
            return {"type": tool.get("type"), "name": choice}
        if tool.get("type") == choice:
            return {"type": choice}
    raise InvalidRequestError(
        f"tool_choice must be {', '.join(map(repr, _CHOICES))}, the name of a given tool, or the "
        "vendor's own dict."
    )


def _encode_output(output: OutputSpec, given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise InvalidRequestError(f"text must be a dict, not {type(given).__name__}.")
    given = given or {}
    if given.get("format") is not None:
        raise InvalidRequestError(
            'output= and text={"format": ...} say the same; give one of them.'
        )
    named = {"type": "json_schema", "name": output.name}
    return {**given, "format": {**named, "schema": dict(output.schema), "strict": True}}
