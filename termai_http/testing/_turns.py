"""What a model's turn says, before a dialect puts it into its own words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ._faults import ChosenReply, Failed, Refusal, Text, ToolCalls
from ._fitting import fitting
from ._reading import called_tools, prompt_of, results_of, schema_of, stops_of, tools_of
from ._record import RecordedRequest

__all__ = ["Saying", "Turn", "next_turn"]

# A user's function: the reply to a request, or None for the usual one.
Saying = Callable[[RecordedRequest], "str | ChosenReply | None"]


@attrs.frozen(kw_only=True)
class Turn:
    """One turn of the model.

    Attributes:
        text: What it says; with ``refusal``, why it refuses.
        calls: The tools it asks for: each a name and the text of the arguments.
        refusal: Whether it refuses.
        finish: ``"stop"``, ``"length"``, ``"content_filter"`` or ``"tool_calls"``.
        stop: The stop sequence that ended it; None for none.
        failed: The error that stands in its place; None for none.
    """

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    refusal: bool = False
    finish: str = "stop"
    stop: str | None = None
    failed: Failed | None = None


def next_turn(
    request: RecordedRequest,
    body: Mapping[str, Any],
    chosen: ChosenReply | None,
    reply: Saying | None,
) -> Turn:
    """Return what the model says to a request.

    Args:
        request: The request.
        body: Its body.
        chosen: What the script says; None leaves it to ``reply``.
        reply: The user's function; None, or one that returns None, leaves it to the server: calls
            of tools; where there are none, or the request brings their results, JSON that fits
            the schema asked for; else what was said again.
    """
    said: str | ChosenReply | None = chosen
    if said is None and reply is not None:
        said = reply(request)
    if said is None:
        said = _usual(body)
    if isinstance(said, str):
        return _stopped(said, "stop", stops_of(body))
    return _turn(said, stops_of(body))


def _usual(body: Mapping[str, Any]) -> str | ChosenReply:
    results = results_of(body)
    words = ", ".join(results) if results else prompt_of(body)
    if not results and (tools := tools_of(body)):
        calls = [(name, fitting(tools[name], words)) for name in called_tools(body, words)]
        if calls:
            return ToolCalls(*calls)
    schema = schema_of(body)
    if schema is not None:
        return json.dumps(fitting(schema, words), ensure_ascii=False)
    return f"You said: {words}"


def _turn(said: ChosenReply, stops: list[str]) -> Turn:
    if isinstance(said, Text):
        return _stopped(said.text, said.finish, stops)
    if isinstance(said, ToolCalls):
        return Turn(
            text=said.text,
            calls=tuple((name, _as_text(arguments)) for name, arguments in said.calls),
            finish="tool_calls",
        )
    if isinstance(said, Refusal):
        return Turn(text=said.text, refusal=True)
    if isinstance(said, Failed):
        return Turn(failed=said)
    raise TypeError(f"{said!r} is no reply: give text, or a value such as ToolCalls")


def _as_text(arguments: Mapping[str, Any] | str) -> str:
    if isinstance(arguments, str):
        return arguments
    return json.dumps(dict(arguments), ensure_ascii=False)


def _stopped(text: str, finish: str, stops: list[str]) -> Turn:
    """Cut a text before the first stop sequence in it."""
    found = [(text.find(stop), stop) for stop in stops if stop in text] if stops else []
    if not found:
        return Turn(text=text, finish=finish)
    at, stop = min(found)
    return Turn(text=text[:at], stop=stop)
