"""The parts of a chat completion's request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .. import _json
from .._content import Document, Image
from .._specs import OutputSpec, ToolSpec
from ..errors import InvalidRequestError
from ..models import ChatRequest
from ._neutral import (
    CLAUDES,
    THOUGHTS,
    is_text,
    kind_of,
    neutral_blocks,
    neutral_items,
    neutral_part,
    refuse_part,
)

__all__ = ["encode_messages", "encode_options"]

_VENDOR = "OpenAI's chat API"
_SPEAKERS = ("assistant", "developer", "system", "user")
# Keys of a message that are ours.
_OURS = frozenset({"cache", "is_error"})
_FOREIGN = frozenset({"document", "input_file", "input_image", "input_text", "output_text"})
# developers.openai.com/api/docs/guides/images-vision, "Image input requirements", November 2026.
_MOST_IMAGES = 1500
# "Up to 4 sequences": API reference, chat completions, ``stop``.
_MOST_STOPS = 4
_CHOICES = ("auto", "none", "required")
_LIMITS = ("max_completion_tokens", "max_tokens")
_OPTIONS = {
    "max_completion_tokens": "max_tokens",
    "reasoning_effort": "reasoning",
    "response_format": "output",
}
_RESPONSES = 'It is one of the responses API: use api="responses".'
# Parameters that OpenAI refuses and people bring along, with what says the same to it.
_ELSEWHERE = {
    **dict.fromkeys(
        ("background", "conversation", "include", "previous_response_id", "truncation"), _RESPONSES
    ),
    "cache_control": "OpenAI caches by itself; prompt_cache_key= helps it.",
    "input": "The prompt is the first argument.",
    "instructions": "Use system=.",
    "max_output_tokens": "Use max_tokens=.",
    "output_config": "Use output= for the form of the reply, reasoning= for the effort.",
    "stop_sequences": "Use stop=.",
    "text": "Use output= for the form of the reply, verbosity= for its length.",
    "thinking": "Use reasoning=.",
    "top_k": "OpenAI has none; leave it out.",
}


def encode_messages(messages: Sequence[dict[str, Any]], *, known: bool) -> list[dict[str, Any]]:
    """Return messages as this API takes them; those that are so already are not copied.

    Args:
        messages: Neutral messages.
        known: Whether OpenAI itself will read them, whose rules are known.

    Raises:
        InvalidRequestError: Something in them cannot be said to it.
    """
    if all(map(_is_plain, messages)):
        return list(messages)
    turns: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for index, message in neutral_items(messages):
        for turn in neutral_blocks(message):
            if shown and turn["role"] != "tool":
                turns.append({"role": "user", "content": shown})
                shown = []
            if turn["role"] == "tool":
                turns.append(_tool_result(turn, f"messages[{index}]", known, shown))
            elif _is_plain(turn):
                turns.append(turn)
            else:
                turns.append(_turn(turn, f"messages[{index}]", known))
    if shown:
        turns.append({"role": "user", "content": shown})
    if known:
        _check_images(turns)
    return turns


def _is_plain(turn: Mapping[str, Any]) -> bool:
    return len(turn) == 2 and type(turn.get("content")) is str and turn.get("role") in _SPEAKERS


def _turn(turn: Mapping[str, Any], where: str, known: bool) -> dict[str, Any]:
    # OpenAI refuses keys that it does not know; the server that thought wants its thoughts back.
    dropped = _OURS.union(THOUGHTS) if known else _OURS
    made = {name: value for name, value in turn.items() if name not in dropped}
    content = turn.get("content")
    if isinstance(content, (list, tuple)):
        made["content"] = parts = _parts(content, where, known)
        if known and turn["role"] not in ("tool", "user"):
            _check_text_only(parts, turn["role"], where)
    if isinstance(turn.get("tool_calls"), (list, tuple)):
        made["tool_calls"] = [_tool_call(call) for call in turn["tool_calls"]]
    return made


def _check_text_only(parts: Iterable[Mapping[str, Any]], role: str, where: str) -> None:
    for at, part in enumerate(parts):
        if part["type"] in ("file", "image_url"):
            raise InvalidRequestError(
                f"{where}.content[{at}] is no text, and {_VENDOR} takes nothing else in a turn of "
                f"{role!r}: put it into a turn of the user."
            )


def _parts(content: Iterable[Any], where: str, known: bool) -> list[dict[str, Any]]:
    return [
        part if is_text(part) else _part(part, f"{where}.content[{at}]", known)
        for at, part in enumerate(content)
    ]


def _part(part: Any, where: str, known: bool) -> Any:
    if kind := kind_of(part, where):
        if kind == "text":
            return _text_part(part, known)
        # A part of that name without a source is some other server's.
        claudes = kind == "image" and isinstance(part.get("source"), Mapping)
        if kind in CLAUDES:
            refuse_part(part, where, _VENDOR)
        if kind not in _FOREIGN and not claudes:
            return part
        part = neutral_part(part, where, _VENDOR)
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, Image):
        detail = {} if part.detail is None else {"detail": part.detail}
        return {"type": "image_url", "image_url": {"url": part.source.data_url, **detail}}
    return _file(part, where)


def _text_part(part: Mapping[str, Any], known: bool) -> Mapping[str, Any]:
    # Claude's: nobody else has citations, and many compatible servers know its cache marks.
    dropped = [name for name in ("citations", "cache_control") if name in part]
    if not known and "cache_control" in dropped:
        dropped.remove("cache_control")
    if not dropped:
        return part
    return {name: value for name, value in part.items() if name not in dropped}


def _file(document: Document, where: str) -> dict[str, Any]:
    url = document.source.url
    if url is not None and url.lower().startswith(("http://", "https://")):
        raise InvalidRequestError(
            f"{where} is a document at a URL, which {_VENDOR} does not read: pass its path or "
            'bytes, or use api="responses". For another server that does, write its own part: '
            '{"type": "file", "file": {...}}.'
        )
    file = {"filename": document.title, "file_data": document.source.data_url}
    return {"type": "file", "file": file}


def _tool_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return call
    arguments = function.get("arguments")
    if not isinstance(arguments, Mapping):
        return call
    return {**call, "function": {**function, "arguments": _json.dumps(arguments).decode()}}


def _tool_result(
    turn: Mapping[str, Any], where: str, known: bool, shown: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return a tool message, and add to ``shown`` what a user message after it has to show.

    OpenAI answers 400 to an image in a tool message: "Image URLs are only allowed for messages with
    role 'user'".
    """
    if not isinstance(turn.get("tool_call_id"), str) or not turn["tool_call_id"]:
        raise InvalidRequestError(f"{where}.tool_call_id is missing.")
    made = _turn(turn, where, known)
    parts = made.get("content")
    if not isinstance(parts, list):
        return made
    texts = [part for part in parts if part["type"] == "text"]
    others = [part for part in parts if part["type"] != "text"]
    if others:
        label = f"Result of the tool call {turn['tool_call_id']}:"
        shown += [{"type": "text", "text": label}, *others]
    if len(texts) == 1 and texts[0].keys() == {"text", "type"}:
        return {**made, "content": texts[0]["text"]}
    return {**made, "content": texts or "The result is in the next message of the user."}


def _check_images(turns: Iterable[Mapping[str, Any]]) -> None:
    images = 0
    for turn in turns:
        content = turn.get("content")
        if isinstance(content, list):
            images += sum(part.get("type") == "image_url" for part in content)
    if images > _MOST_IMAGES:
        raise InvalidRequestError(
            f"The request has {images} images; OpenAI takes at most {_MOST_IMAGES}."
        )


def encode_options(request: ChatRequest, *, known: bool) -> dict[str, Any]:
    """Return the fields of a body that are neither messages nor limits of tokens.

    Args:
        request: The request, its tools and its output as specs or the vendor's own.
        known: Whether OpenAI itself will read them, whose rules are known.

    Raises:
        InvalidRequestError: Something in them cannot be said to it, or is said twice.
    """
    extra = dict(request.extra)
    asked = (request.stop, request.output, request.reasoning, request.tools or None)
    if not extra and asked == (None, None, None, None):
        return {}
    fields: dict[str, Any] = {}
    if known:
        _check_names(extra)
    if request.stop is not None:
        if known and len(request.stop) > _MOST_STOPS:
            raise InvalidRequestError(
                f"stop has {len(request.stop)} texts; OpenAI takes at most {_MOST_STOPS}."
            )
        fields["stop"] = list(request.stop)
    if request.tools:
        fields["tools"] = [_tool(tool) for tool in request.tools]
    if request.output is not None:
        fields["response_format"] = _response_format(request.output)
    if isinstance(request.reasoning, str):
        fields["reasoning_effort"] = request.reasoning
    elif request.reasoning is not None:
        if known:
            raise InvalidRequestError(
                "reasoning= as a dict is none of OpenAI's chat API, only of servers like it. Give "
                "a word, or use api='responses'."
            )
        fields["reasoning"] = dict(request.reasoning)
    limits = () if request.max_tokens is None else _LIMITS
    _check_once((*fields, *limits), extra)
    if isinstance(extra.get("tool_choice"), str):
        extra["tool_choice"] = _tool_choice(extra["tool_choice"], fields.get("tools") or (), known)
    return {**fields, **extra}


def _check_names(extra: dict[str, Any]) -> None:
    """Refuse parameters that only other APIs have, or leave them out where they are None."""
    for name in sorted(extra.keys() & _ELSEWHERE.keys()):
        if extra.pop(name) is not None:
            raise InvalidRequestError(
                f"{name}= is no parameter of {_VENDOR}. {_ELSEWHERE[name]} "
                "(extra_body={...} sends it all the same.)"
            )


def _check_once(given: Iterable[str], extra: Mapping[str, Any]) -> None:
    for name in given:
        if name in extra:
            raise InvalidRequestError(
                f"{_OPTIONS.get(name, name)}= and the parameter {name} are both given; drop one."
            )


def _tool(tool: Any) -> Any:
    if isinstance(tool, ToolSpec):
        function: dict[str, Any] = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        function["parameters"] = dict(tool.parameters)
        if tool.strict:
            function["strict"] = True
        return {"type": "function", "function": function}
    if not isinstance(tool, Mapping) or "function" in tool:
        return tool
    if "input_schema" in tool:
        function = {name: tool[name] for name in ("name", "description", "strict") if name in tool}
        function["parameters"] = tool["input_schema"]
        return {"type": "function", "function": function}
    if tool.get("type") == "function":
        # As the responses API has it.
        function = {name: value for name, value in tool.items() if name != "type"}
        return {"type": "function", "function": function}
    return tool


def _response_format(output: OutputSpec) -> dict[str, Any]:
    schema = {"name": output.name, "schema": dict(output.schema), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _tool_choice(choice: str, tools: Iterable[Any], known: bool) -> Any:
    if choice in _CHOICES:
        return choice
    named = {}
    for tool in tools:
        kind = tool.get("type")
        inner = tool.get(kind) if isinstance(kind, str) else None
        if isinstance(inner, Mapping):
            named[inner.get("name")] = kind
    if choice in named:
        kind = named[choice]
        return {"type": kind, kind: {"name": choice}}
    if known:
        raise InvalidRequestError(
            f"tool_choice must be {', '.join(map(repr, _CHOICES))}, the name of a tool given by "
            "tools=, or OpenAI's own dict."
        )
    return choice
