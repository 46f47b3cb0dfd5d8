"""The messages of a request to Claude."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .. import _json
from .._content import Document, Image
from ..errors import InvalidRequestError
from ._neutral import (
    THOUGHTS,
    call_of,
    is_text,
    kind_of,
    neutral_items,
    neutral_part,
    refuse_old_forms,
    refuse_part,
)

__all__ = ["encode_messages", "encode_system"]

_VENDOR = "Claude"
_SPEAKERS = ("assistant", "system", "user")
_FOREIGN = frozenset(
    {"file", "image_url", "input_file", "input_image", "input_text", "output_text", "refusal"}
)
# Ours, and the name that OpenAI's messages may have.
_NOT_CLAUDES = frozenset({"cache", "is_error", "name"})
# What OpenAI's replies have beside their text, and this API refuses to read.
_OF_REPLIES = frozenset(
    {"annotations", "audio", "function_call", "phase", "refusal", "tool_calls", *THOUGHTS}
)
# The API answers 400 to a cache mark on them: "Extra inputs are not permitted".
_UNMARKED = ("redacted_thinking", "thinking")
# The API's own pattern of ids is the reverse; ids of other servers have dots, colons and bars.
_NOT_OF_IDS = re.compile(r"[^a-zA-Z0-9_-]")
_BASE64_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)[^,]*;base64,", re.IGNORECASE)
_PDF = "application/pdf"


def encode_messages(messages: Sequence[dict[str, Any]], *, begin: int = 0) -> list[dict[str, Any]]:
    """Return messages as this API takes them; those that are so already are not copied.

    Results of tools that follow one another become one turn of the user, as the API asks for.

    Args:
        messages: Neutral messages.
        begin: Those before it are left out.

    Raises:
        InvalidRequestError: Something in them cannot be said to Claude.
    """
    if all(map(_is_plain, messages)):
        return list(messages[begin:])
    turns: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    for index, message in neutral_items(messages, begin):
        role = message["role"]
        if role == "tool":
            if results is None:
                results = []
                turns.append({"role": "user", "content": results})
            results.append(_result(message, f"messages[{index}]"))
            continue
        results = None
        if _is_plain(message):
            turns.append(message)
        elif turn := _turn(message, f"messages[{index}]"):
            turns.append(turn)
    return turns


def _is_plain(turn: Mapping[str, Any]) -> bool:
    return len(turn) == 2 and type(turn.get("content")) is str and turn.get("role") in _SPEAKERS


def encode_system(
    system: str | None, messages: Sequence[Mapping[str, Any]]
) -> str | list[Any] | None:
    """Join a system prompt and system messages: as text, or as blocks where they are more.

    Raises:
        InvalidRequestError: There is something else than text in them.
    """
    contents = [] if system is None else [system]
    contents += [message["content"] for message in messages]
    marked = any(message.get("cache") for message in messages)
    if not marked and all(isinstance(content, str) for content in contents):
        return "\n\n".join(contents) if contents else None
    blocks: list[Any] = [] if system is None else [{"type": "text", "text": system}]
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        made = _blocks(message["content"], where)
        _check_text_only(made, where)
        blocks += _marked(made, message.get("cache"), where)
    return blocks


def _check_text_only(blocks: Sequence[Mapping[str, Any]], where: str) -> None:
    for at, block in enumerate(blocks):
        if block["type"] != "text":
            raise InvalidRequestError(
                f"{where}.content[{at}] is no text, and Claude's system prompt takes nothing "
                "else: put it into a turn of the user."
            )


def _turn(message: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    role, content = message["role"], message.get("content")
    refuse_old_forms(message, where)
    # Of an OpenAI reply the words and tool calls go on; Claude refuses keys that it does not know.
    dropped = _NOT_CLAUDES | _OF_REPLIES if role == "assistant" else _NOT_CLAUDES
    turn = {name: value for name, value in message.items() if name not in dropped}
    if role == "developer":
        turn["role"] = "system"
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, (list, tuple)):
        raise InvalidRequestError(f"{where}.tool_calls must be a list.")
    if isinstance(content, str) and not calls and not message.get("cache"):
        if content:
            return turn
        content = None
    blocks = _blocks(content, where)
    if turn["role"] == "system":
        _check_text_only(blocks, where)
    blocks += [_tool_use(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(calls)]
    if not blocks and isinstance(refusal := message.get("refusal"), str) and refusal:
        blocks = [{"type": "text", "text": refusal}]
    if blocks:
        return {**turn, "content": _marked(blocks, message.get("cache"), where)}
    if role == "assistant" and not message.get("audio"):
        # Nothing but thinking that only another vendor can read.
        return None
    raise InvalidRequestError(f"{where} holds nothing that Claude takes.")


def _blocks(content: Any, where: str) -> list[Any]:
    """Return content as blocks, without blank text, which the API refuses."""
    if not isinstance(content, (list, tuple)):
        content = [content] if isinstance(content, str) else []
    made = [
        part if is_text(part) else _block(part, f"{where}.content[{at}]")
        for at, part in enumerate(content)
    ]
    return [block for block in made if block is not None]


def _block(part: Any, where: str) -> Any:
    if kind := kind_of(part, where):
        if kind == "input_audio":
            refuse_part(part, where, _VENDOR)
        if kind == "text":
            return _text_block(part)
        if kind == "tool_result" and isinstance(part.get("content"), (list, tuple)):
            return {**part, "content": _blocks(part["content"], where)}
        if kind not in _FOREIGN:
            return part
        part = neutral_part(part, where, _VENDOR)
    if isinstance(part, str):
        return {"type": "text", "text": part} if part.strip() else None
    if isinstance(part, Image):
        return {"type": "image", "source": _source(part, where)}
    named = part.name or part.source.name
    title = {"title": named} if named else {}
    return {"type": "document", "source": _source(part, where), **title}


def _text_block(part: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if part.get("text") == "":
        return None
    if "prompt_cache_breakpoint" not in part:
        return part
    # OpenAI's mark for its own cache.
    return {name: value for name, value in part.items() if name != "prompt_cache_breakpoint"}


def _source(part: Image | Document, where: str) -> dict[str, str]:
    source = part.source
    media_type, data = source.media_type, source.url
    if data is None:
        return {"type": "base64", "media_type": str(media_type), "data": source.base64}
    if data[:8].lower().startswith(("http://", "https://")):
        return {"type": "url", "url": data}
    head = _BASE64_URL.match(data)
    media_type = head[1].lower() if head is not None else None
    if head is None or (media_type == _PDF) is isinstance(part, Image):
        raise InvalidRequestError(
            f"{where} is data of {media_type or 'no known type'}; Claude takes images and PDFs, "
            "at an https: URL or as base64."
        )
    return {"type": "base64", "media_type": str(media_type), "data": data[head.end() :]}


def _result(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    content = message.get("content")
    made = content if isinstance(content, str) else _blocks(content, where)
    block: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": _id(message.get("tool_call_id"), f"{where}.tool_call_id"),
    }
    if message.get("is_error"):
        # An error without a word is refused: "content cannot be empty if `is_error` is true".
        block.update(content=made or "The tool failed.", is_error=True)
    elif made:
        block["content"] = made
    (marked,) = _marked([block], message.get("cache"), where)
    return dict(marked)


def _tool_use(call: Any, where: str) -> dict[str, Any]:
    kind, inner = call_of(call, where)
    if kind == "custom":
        given: Mapping[str, Any] = {"input": inner.get("input") or ""}
    else:
        given = _arguments(inner.get("arguments"))
    id = _id(call.get("id"), f"{where}.id")
    return {"type": "tool_use", "id": id, "name": inner["name"], "input": given}


def _arguments(written: Any) -> Mapping[str, Any]:
    """Read arguments; what is no object is put in one, since the API takes nothing else."""
    if isinstance(written, Mapping):
        return written
    text = written if isinstance(written, str) else ""
    try:
        given = _json.loads(text.encode("utf-8", "replace")) if text.strip() else {}
    except ValueError:
        given = text
    return given if isinstance(given, Mapping) else {"arguments": given}


def _id(given: Any, where: str) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidRequestError(f"{where} is missing.")
    return _NOT_OF_IDS.sub("_", given)


def _marked(blocks: list[Any], cache: Any, where: str) -> list[Any]:
    """Return blocks with a cache mark on the last that can have one."""
    if not cache:
        return blocks
    mark = {"type": "ephemeral", **({"ttl": cache} if isinstance(cache, str) else {})}
    for at in reversed(range(len(blocks))):
        if blocks[at]["type"] not in _UNMARKED:
            return [*blocks[:at], {"cache_control": mark, **blocks[at]}, *blocks[at + 1 :]]
    raise InvalidRequestError(f"{where}.cache: there is nothing in this turn that Claude caches.")
