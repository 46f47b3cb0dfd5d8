"""What other dialects say, said neutrally.

Neutral turns are OpenAI chat's messages: an assistant's ``tool_calls``, and ``role: "tool"`` with a
``tool_call_id``. Neutral parts are text, ``Image`` and ``Document``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import _json
from .._content import Document, Image, Source
from ..errors import InvalidRequestError
from ..models import is_item

__all__ = [
    "CLAUDES",
    "THOUGHTS",
    "call_of",
    "is_text",
    "kind_of",
    "made_id",
    "neutral_blocks",
    "neutral_items",
    "neutral_part",
    "refuse_old_forms",
    "refuse_part",
]

# Parts of Claude's, which no API of OpenAI's has a form for.
CLAUDES = frozenset({"container_upload", "search_result", "tool_reference"})
# What models of compatible servers thought, and go on from between their tool calls.
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details")
# What the model did beside talking, which only OpenAI can read again.
_DROPPED_ITEMS = frozenset(
    {
        "additional_tools",
        "code_interpreter_call",
        "compaction",
        "file_search_call",
        "image_generation_call",
        "mcp_call",
        "mcp_list_tools",
        "reasoning",
        "tool_search_call",
        "tool_search_output",
        "web_search_call",
    }
)
_OF_CLAUDES_TURNS = (
    *("container_upload", "mcp_tool_use", "redacted_thinking", "server_tool_use"),
    "tool_use",
)
_DETAILS = ("auto", "low", "high", "original")
# How the base64 of "%PDF-" begins.
_BARE_PDF = "JVBERi"


def made_id(at: int, *said: object) -> str:
    """Return an id for a tool call whose server gave none, the same each time it is read."""
    told = "\0".join([str(at), *map(str, said)]).encode("utf-8", "replace")
    return "call_" + hashlib.sha256(told).hexdigest()[:24]


def neutral_items(
    messages: Sequence[dict[str, Any]], begin: int = 0
) -> list[tuple[int, dict[str, Any]]]:
    """Turn items of OpenAI's responses into turns; messages stay as they are.

    Args:
        messages: Messages and items.
        begin: Those before it are left out.

    Returns:
        Each turn with the index of what it was made of.

    Raises:
        InvalidRequestError: An item has no counterpart in the other dialects.
    """
    if not any("type" in message for message in messages):
        return list(enumerate(messages))[begin:]
    turns: list[tuple[int, dict[str, Any]]] = []
    for index, message in list(enumerate(messages))[begin:]:
        item = is_item(message)
        if item:
            turn = _item(message, f"messages[{index}]")
        elif message.get("type") == "message":
            turn = _message(message)
        else:
            turn = message
        if turn is None:
            continue
        joined = _joined(turns[-1][1], turn) if turns and turn is not message else None
        if joined is None:
            turns.append((index, turn))
        else:
            turns[-1] = (turns[-1][0], joined)
    return turns


def _joined(last: Mapping[str, Any], turn: Mapping[str, Any]) -> dict[str, Any] | None:
    """Join what an item says to the turn before it, where both are one message of an assistant's.

    Its words and calls are several items; and between a call and its result nothing may stand.
    """
    if last.get("role") != "assistant" or turn["role"] != "assistant":
        return None
    if "tool_calls" in turn:
        return {**last, "tool_calls": [*(last.get("tool_calls") or ()), *turn["tool_calls"]]}
    said, more = last.get("content"), turn.get("content")
    if last.get("tool_calls") and isinstance(said or "", str) and isinstance(more, str):
        return {**last, "content": (said or "") + more}
    return None


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    turn = {name: item[name] for name in ("role", "content", "cache") if name in item}
    parts = item.get("content")
    if isinstance(parts, (list, tuple)):
        texts = [_text(part) for part in parts if _kind(part) == "output_text"]
        if len(texts) == len(parts):
            turn["content"] = "".join([text for text in texts if text])
    return turn


def _kind(part: Any) -> Any:
    return part.get("type") if isinstance(part, Mapping) else None


def _item(item: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    kind = item["type"]
    if kind in _DROPPED_ITEMS:
        return None
    if kind in ("function_call", "custom_tool_call"):
        custom = kind == "custom_tool_call"
        written = item.get("input" if custom else "arguments")
        call = {"name": item.get("name"), "input" if custom else "arguments": written}
        named = "custom" if custom else "function"
        calls = [{"id": _call_id(item, where), "type": named, named: call}]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    if kind in ("function_call_output", "custom_tool_call_output"):
        return {
            "role": "tool",
            "tool_call_id": _call_id(item, where),
            "content": item.get("output") or "",
        }
    raise InvalidRequestError(
        f"{where} is an item of type {kind!r}, which only OpenAI's responses take: use "
        'api="responses", or leave it out.'
    )


def _call_id(item: Mapping[str, Any], where: str) -> str:
    call_id = item.get("call_id")
    if not isinstance(call_id, str) or not call_id:
        raise InvalidRequestError(f"{where}.call_id is missing.")
    return call_id


def refuse_old_forms(turn: Mapping[str, Any], where: str) -> None:
    """Refuse what chat completions had before tools, whose calls have no ids.

    Raises:
        InvalidRequestError: The message says what to use.
    """
    if turn["role"] == "function":
        raise InvalidRequestError(
            f'{where}.role "function" is OpenAI\'s old one; use "tool" with a tool_call_id.'
        )
    if turn.get("function_call"):
        raise InvalidRequestError(
            f"{where}.function_call is OpenAI's old form; use tool_calls, each with its id."
        )


def call_of(call: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """Return what a neutral tool call calls: ``"function"`` or ``"custom"``, and its fields.

    Raises:
        InvalidRequestError: It names nothing.
    """
    kind = "custom" if isinstance(call, Mapping) and "custom" in call else "function"
    inner = call.get(kind) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise InvalidRequestError(f'{where} has no "function" with a "name".')
    return kind, inner


def neutral_blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn a message of Claude's into the turns that it stands for; any other is returned as is.

    An assistant's words and tool calls are kept. Its thinking, and what the server's own tools did,
    nobody but Claude can read.
    """
    content = message.get("content")
    if not isinstance(content, (list, tuple)) or all(map(is_text, content)):
        return [message]
    blocks = [part for part in content if isinstance(part, Mapping)]
    if message["role"] == "assistant" and any(map(_is_claudes, blocks)):
        return _assistant(blocks)
    if message["role"] == "user" and any(block["type"] == "tool_result" for block in blocks):
        return _results(message, content)
    return [message]


def _is_claudes(block: Mapping[str, Any]) -> bool:
    kind = block["type"]
    if kind == "thinking":
        # Other servers have parts of that name, too, which hold parts.
        return isinstance(block.get("thinking"), str)
    return kind in _OF_CLAUDES_TURNS or kind.endswith("_tool_result")


def _assistant(blocks: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    texts = [block.get("text") for block in blocks if block["type"] == "text"]
    text = "".join([text for text in texts if isinstance(text, str)])
    calls = [_tool_call(block) for block in blocks if block["type"] == "tool_use"]
    if calls:
        return [{"role": "assistant", "content": text or None, "tool_calls": calls}]
    return [{"role": "assistant", "content": text}] if text else []


def _tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    given = block.get("input")
    # Cut short, an input is the text as far as it came.
    written = _json.dumps(given).decode() if isinstance(given, Mapping) else str(given or "{}")
    function = {"name": block.get("name"), "arguments": written}
    return {"id": block.get("id"), "type": "function", "function": function}


def _results(message: Mapping[str, Any], content: Sequence[Any]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    rest = []
    for part in content:
        if not isinstance(part, Mapping) or part["type"] != "tool_result":
            rest.append(part)
            continue
        turn = {"role": "tool", "tool_call_id": part.get("tool_use_id")}
        turns.append({**turn, "content": part.get("content") or ""})
    return [*turns, {**message, "content": rest}] if rest else turns


def is_text(part: Any) -> bool:
    """Tell whether a part is text in the form that both vendors take, and no more."""
    return (
        type(part) is dict
        and len(part) == 2
        and part.get("type") == "text"
        and type(part.get("text")) is str
        and part["text"] != ""
    )


def kind_of(part: Any, where: str) -> str:
    """Return the type of a part of the vendors' own; ``""`` for text, an image or a document.

    Raises:
        InvalidRequestError: It is none of these.
    """
    if isinstance(part, (str, Image, Document)):
        return ""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str) or not kind:
        raise InvalidRequestError(
            f'{where} must be text, an Image, a Document or an object with a "type", '
            f"not {type(part).__name__}."
        )
    return kind


def neutral_part(part: Mapping[str, Any], where: str, to: str) -> str | Image | Document:
    """Read a content part of any dialect.

    Args:
        part: The part.
        where: Its place, as errors name it.
        to: The vendor that shall take it, as errors name it.

    Raises:
        InvalidRequestError: It cannot be said otherwise without loss.
    """
    read = _READERS.get(part["type"])
    found = None if read is None else read(part)
    return refuse_part(part, where, to) if found is None else found


def refuse_part(part: Mapping[str, Any], where: str, to: str) -> Any:
    """Refuse a part that a vendor does not take.

    Raises:
        InvalidRequestError: Always.
    """
    kind, source = part["type"], part.get("source")
    inner = source if isinstance(source, Mapping) else part.get("file", part)
    if isinstance(inner, Mapping) and inner.get("file_id"):
        raise InvalidRequestError(
            f"{where} is a file that the other vendor keeps, which {to} cannot read: pass its "
            "bytes, as Image or Document."
        )
    of = f" of {source.get('type')!r}" if isinstance(source, Mapping) else ""
    raise InvalidRequestError(
        f"{where} is a {kind!r} part{of}, which {to} does not take; text, Image and Document are "
        "the same for every vendor."
    )


def _text(part: Mapping[str, Any]) -> str | None:
    text = part.get("refusal" if part["type"] == "refusal" else "text")
    return text if isinstance(text, str) else None


def _openai_image(part: Mapping[str, Any]) -> Image | None:
    given = part.get("image_url")
    fields: Mapping[str, Any] = given if isinstance(given, Mapping) else {**part, "url": given}
    url, detail = fields.get("url"), fields.get("detail")
    if not isinstance(url, str) or not url:
        return None
    return Image(Source(url=url), detail=detail if detail in _DETAILS else None)


def _claude_image(part: Mapping[str, Any]) -> Image | None:
    url = _url_of(part.get("source"))
    return None if url is None else Image(Source(url=url))


def _openai_file(part: Mapping[str, Any]) -> Document | None:
    fields = part.get("file", part)
    if not isinstance(fields, Mapping):
        return None
    url, name = fields.get("file_data") or fields.get("file_url"), fields.get("filename")
    if not isinstance(url, str) or not url:
        return None
    if url.startswith(_BARE_PDF):
        url = "data:application/pdf;base64," + url
    return Document(Source(url=url), name=name if isinstance(name, str) else None)


def _claude_document(part: Mapping[str, Any]) -> Document | None:
    url, title = _url_of(part.get("source")), part.get("title")
    if url is None:
        return None
    return Document(Source(url=url), name=title if isinstance(title, str) else None)


def _url_of(source: Any) -> str | None:
    if not isinstance(source, Mapping):
        return None
    if source.get("type") == "url" and isinstance(source.get("url"), str):
        return str(source["url"])
    if source.get("type") == "base64" and isinstance(source.get("data"), str):
        return f"data:{source.get('media_type')};base64,{source['data']}"
    return None


_READERS: dict[str, Callable[[Mapping[str, Any]], str | Image | Document | None]] = {
    "input_text": _text,
    "output_text": _text,
    "refusal": _text,
    "image_url": _openai_image,
    "input_image": _openai_image,
    "image": _claude_image,
    "file": _openai_file,
    "input_file": _openai_file,
    "document": _claude_document,
}
