"""What Claude's messages refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ._checks import EFFORTS, Problem
from ._claude_turns import turn_problems
from ._foreign import foreign
from ._memory import Memory
from ._reading import marks_of, tools_of
from ._strict import claude_refuses

__all__ = ["claude_problems", "count_problems"]

_VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
_SAMPLING = ("temperature", "top_k", "top_p")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_THINKING = ("adaptive", "between_tools", "disabled", "enabled")
_CHOICES = ("any", "auto", "none", "tool")
_CUSTOM = (
    *("allowed_callers", "cache_control", "defer_loading", "description"),
    *("eager_input_streaming", "input_examples", "input_schema", "name", "strict", "type"),
)
_MOST_MARKS = 4
_LEAST_BUDGET = 1024


def claude_problems(
    body: Mapping[str, Any], headers: Mapping[str, str], memory: Memory
) -> Iterator[Problem]:
    """Check a request of messages.

    Args:
        body: The request's body.
        headers: Its headers.
        memory: What the server remembers.
    """
    if body.get("max_tokens") is None:
        yield _wrong("max_tokens", "Field required")
    most = body["max_tokens"]
    if not isinstance(most, int) or isinstance(most, bool):
        yield _wrong("max_tokens", "Input should be a valid integer")
    if most < 0:
        yield _wrong("max_tokens", "Input should be greater than or equal to 0")
    yield from _problems(body, headers, "messages")
    budget = _within(body, "thinking").get("budget_tokens")
    if isinstance(budget, int) and most <= budget:
        yield Problem(message="`max_tokens` must be greater than `thinking.budget_tokens`.")


def count_problems(
    body: Mapping[str, Any], headers: Mapping[str, str], memory: Memory
) -> Iterator[Problem]:
    """Check a request whose tokens shall be counted."""
    yield from _problems(body, headers, "count_tokens")


def _problems(body: Mapping[str, Any], headers: Mapping[str, str], api: str) -> Iterator[Problem]:
    yield from _version(body, headers)
    for name in ("model", "messages"):
        if not body.get(name) and body.get(name) != []:
            yield _wrong(name, "Field required")
    if not isinstance(body["model"], str):
        yield _wrong("model", "Input should be a valid string")
    if (stray := foreign(body, api)) is not None:
        yield _wrong(stray, "Extra inputs are not permitted")
    yield from turn_problems(body, headers.get("anthropic-version") == "2026-10-21")
    yield from _tools(body)
    yield from _thinking(body)
    yield from _output(body)
    yield from _marks(body)
    yield from _numbers(body)
    for stop in body.get("stop_sequences") or ():
        if not isinstance(stop, str) or not stop.strip():
            yield _wrong("stop_sequences", "each stop sequence must contain non-whitespace")


def _wrong(where: str, what: str) -> Problem:
    return Problem(message=f"{where}: {what}")


def _within(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def _version(body: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[Problem]:
    version = headers.get("anthropic-version")
    if not version:
        yield _wrong("anthropic-version", "header is required")
    elif version not in _VERSIONS:
        yield _wrong("anthropic-version", f'"{version}" is not a valid version')
    refused = [name for name in _SAMPLING if name in body]
    if version == "2026-10-21" and refused:
        yield _wrong(refused[0], "not taken by version 2026-10-21")


def _numbers(body: Mapping[str, Any]) -> Iterator[Problem]:
    for name, most in (("temperature", 1), ("top_p", 1), ("top_k", 10**9)):
        value = body.get(name)
        if value is not None and (not isinstance(value, (int, float)) or not 0 <= value <= most):
            yield _wrong(name, f"Input should be a number from 0 to {most}")


def _tools(body: Mapping[str, Any]) -> Iterator[Problem]:
    tools, names = body.get("tools"), set()
    if not isinstance(tools, (list, type(None))):
        yield _wrong("tools", "Input should be a valid list")
    for at, tool in enumerate(tools or ()):
        where = f"tools.{at}"
        if not isinstance(tool, dict):
            yield _wrong(where, "Input should be a valid dictionary")
        if tool.get("type", "custom") in ("custom", None):
            yield from _custom(f"{where}.custom", tool)
        elif not re.search(r"_\d{8}$", str(tool["type"])):
            yield _wrong(
                where,
                f"Input tag '{tool['type']}' found using 'type' does not match any of the "
                "expected tags: 'custom', and the names of server tools with their dates",
            )
        if tool.get("name") in names:
            yield _wrong("tools", "Tool names must be unique.")
        names.add(tool.get("name"))
    yield from _choice(body)


def _custom(where: str, tool: Mapping[str, Any]) -> Iterator[Problem]:
    for name in tool:
        if name not in _CUSTOM:
            yield _wrong(f"{where}.{name}", "Extra inputs are not permitted")
    if not isinstance(tool.get("name"), str) or not _NAME.fullmatch(tool["name"]):
        yield _wrong(f"{where}.name", f"String should match pattern '^{_NAME.pattern}$'")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        yield _wrong(f"{where}.input_schema", "Field required")
        return
    if schema.get("type") != "object":
        yield _wrong(f"{where}.input_schema.type", "Input should be 'object'")
    if tool.get("strict") is True:
        for wrong in claude_refuses(schema):
            yield _wrong(f"{where}.input_schema", wrong)


def _choice(body: Mapping[str, Any]) -> Iterator[Problem]:
    choice = body.get("tool_choice")
    if choice is None:
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in _CHOICES:
        yield _tag("tool_choice", kind, _CHOICES)
    if not body.get("tools"):
        yield _wrong("tool_choice", "may only be specified while providing tools")
    if kind == "tool" and choice.get("name") not in tools_of(body):
        yield _wrong("tool_choice", f"Tool '{choice.get('name')}' not found in provided tools")


def _tag(where: str, kind: Any, known: tuple[str, ...]) -> Problem:
    names = ", ".join(f"'{name}'" for name in known)
    return _wrong(
        where,
        f"Input tag '{kind}' found using 'type' does not match any of the expected tags: {names}",
    )


def _thinking(body: Mapping[str, Any]) -> Iterator[Problem]:
    thinking = body.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if thinking is None:
        return
    if kind not in _THINKING:
        yield _tag("thinking", kind, _THINKING)
    budget = _within(body, "thinking").get("budget_tokens")
    if kind == "enabled" and (not isinstance(budget, int) or budget < _LEAST_BUDGET):
        yield _wrong(
            "thinking.enabled.budget_tokens",
            f"Input should be greater than or equal to {_LEAST_BUDGET}",
        )
    if kind != "enabled" and budget is not None:
        yield _wrong(f"thinking.{kind}.budget_tokens", "Extra inputs are not permitted")
    if kind not in ("adaptive", "enabled"):
        return
    if body.get("temperature", 1) != 1:
        yield Problem(message="`temperature` may only be set to 1 when thinking is enabled.")
    if "top_k" in body:
        yield Problem(message="`top_k` must be unset when thinking is enabled.")
    if _within(body, "tool_choice").get("type") in ("any", "tool"):
        yield Problem(message="Thinking may not be enabled when tool_choice forces tool use.")


def _output(body: Mapping[str, Any]) -> Iterator[Problem]:
    config = body.get("output_config")
    if not isinstance(config, (dict, type(None))):
        yield _wrong("output_config", "Input should be a valid dictionary")
    given = config or {}
    for name in given:
        if name not in ("effort", "format"):
            yield _wrong(f"output_config.{name}", "Extra inputs are not permitted")
    efforts = EFFORTS[2:]
    if given.get("effort") is not None and given["effort"] not in efforts:
        names = ", ".join(f"'{name}'" for name in efforts)
        yield _wrong("output_config.effort", f"Input should be one of {names}")
    form = given.get("format")
    if form is None:
        return
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        yield _wrong("output_config.format.type", "Input should be 'json_schema'")
    for name in form:
        if name not in ("schema", "type"):
            yield _wrong(f"output_config.format.{name}", "Extra inputs are not permitted")
    if not isinstance(form.get("schema"), dict):
        yield _wrong("output_config.format.schema", "Field required")
    for wrong in claude_refuses(form["schema"]):
        yield _wrong("output_config.format.schema", wrong)


def _marks(body: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the marks of the prompt cache: their form, their number and their order."""
    found = marks_of(body)
    if not found:
        return
    for mark in found:
        if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
            yield _wrong("cache_control", "Input should be {'type': 'ephemeral'}")
        if mark.get("ttl", "5m") not in ("5m", "1h") or set(mark) - {"type", "ttl"}:
            yield _wrong("cache_control.ephemeral.ttl", "Input should be '5m' or '1h'")
    if len(found) > _MOST_MARKS:
        yield Problem(
            message=f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided. Found "
            f"{len(found)}."
        )
    times = [mark.get("ttl", "5m") for mark in found]
    if "5m" in times and "1h" in times[times.index("5m") :]:
        yield Problem(
            message="a ttl='1h' cache_control block must not come after a ttl='5m' cache_control "
            "block."
        )
