"""Messages of every dialect as the items that responses take for input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from .. import _json
from .._content import Document, Image
from ..errors import InvalidRequestError
from ..models import Message
from ._neutral import (
    CLAUDES,
    call_of,
    kind_of,
    neutral_blocks,
    neutral_part,
    refuse_old_forms,
    refuse_part,
)
from ._openai_responses_kinds import without_stored

__all__ = ["encode_input", "has_ours"]

_VENDOR = "OpenAI's responses API"
_INPUT_ROLES = ("developer", "system", "user")
_WORDS = frozenset({"output_text", "refusal", "text"})
_FOREIGN = frozenset({"document", "image", "image_url"})


def encode_input(messages: list[dict[str, Any]], *, stored: bool) -> str | list[dict[str, Any]]:
    """Return messages as the input of a response, which is text where one user's text is all.

    Args:
        messages: Neutral messages, those of other dialects, and items of this one.
        stored: Whether the server keeps what it answers, and can look it up.

    Raises:
        InvalidRequestError: Something in it cannot be said to this API; the message names it.
    """
    only = messages[0] if len(messages) == 1 else {}
    if only.get("role") == "user" and isinstance(only.get("content"), str):
        return str(only["content"])
    writer = _Writer()
    for index, message in enumerate(messages):
        writer.add(message, f"messages[{index}]")
    items = writer.items if stored else without_stored(writer.items)
    if not items:
        raise InvalidRequestError(f"The messages hold nothing that {_VENDOR} takes.")
    return items


def has_ours(items: Iterable[Any]) -> bool:
    """Tell whether there is something in an input that is not the vendor's own JSON."""
    ours = (Document, Image, Message)
    contents = (item.get("content") for item in items if isinstance(item, Mapping))
    parts = (part for parts in contents if isinstance(parts, (list, tuple)) for part in parts)
    return any(isinstance(one, ours) for one in (*items, *parts))


class _Writer:
    """Writes items, and knows which of the calls before were of custom tools."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._custom: list[Any] = []

    def add(self, message: dict[str, Any], where: str) -> None:
        """Add a message, or an item as it is."""
        if isinstance(message.get("type"), str):
            self._add_item(message, where)
            return
        for turn in neutral_blocks(message):
            refuse_old_forms(turn, where)
            if turn["role"] == "assistant":
                self._add_answer(turn, where)
            elif turn["role"] == "tool":
                self._add_result(turn, where)
            else:
                content = _content(turn["content"], where)
                self.items.append({"role": turn["role"], "content": content})

    def _add_item(self, item: Mapping[str, Any], where: str) -> None:
        if item["type"] == "custom_tool_call":
            self._custom.append(item.get("call_id"))
        kept = {name: value for name, value in item.items() if name != "cache"}
        if item.get("role") in _INPUT_ROLES and "content" in item:
            kept["content"] = _content(item["content"], where)
        self.items.append(kept)

    def _add_result(self, turn: Mapping[str, Any], where: str) -> None:
        call_id = turn.get("tool_call_id")
        if not isinstance(call_id, str) or not call_id:
            raise InvalidRequestError(f"{where}.tool_call_id is missing.")
        kind = "custom_tool_call_output" if call_id in self._custom else "function_call_output"
        output = _content(turn["content"], where)
        if isinstance(output, list) and len(output) == 1 and output[0]["type"] == "input_text":
            # Every server takes text.
            output = output[0]["text"]
        self.items.append({"type": kind, "call_id": call_id, "output": output})

    def _add_answer(self, turn: Mapping[str, Any], where: str) -> None:
        calls = turn.get("tool_calls") or ()
        if not isinstance(calls, (list, tuple)):
            raise InvalidRequestError(f"{where}.tool_calls must be a list.")
        refusal = turn.get("refusal")
        content = turn.get("content") or (refusal if isinstance(refusal, str) else "")
        if not (content or calls) and turn.get("audio"):
            raise InvalidRequestError(f"{where} holds nothing that {_VENDOR} takes.")
        if not isinstance(content, str):
            parts = enumerate(content)
            content = "".join([_words(part, f"{where}.content[{at}]") for at, part in parts])
        if content:
            phase = {"phase": turn["phase"]} if turn.get("phase") else {}
            self.items.append({"role": "assistant", "content": content, **phase})
        for at, call in enumerate(calls):
            self._add_call(call, f"{where}.tool_calls[{at}]")

    def _add_call(self, call: Any, where: str) -> None:
        kind, inner = call_of(call, where)
        named = {"call_id": call.get("id"), "name": inner["name"]}
        if kind == "custom":
            self._custom.append(call.get("id"))
            told = {"input": inner.get("input") or ""}
            self.items.append({"type": "custom_tool_call", **named, **told})
            return
        arguments = inner.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = _json.dumps(arguments).decode()
        self.items.append({"type": "function_call", **named, "arguments": arguments or "{}"})


def _words(part: Any, where: str) -> str:
    """Return a part of an assistant's turn as text, which is all that such a turn can have."""
    if isinstance(part, str):
        return part
    kind = kind_of(part, where)
    if kind in _WORDS:
        text = part.get("refusal" if kind == "refusal" else "text")
        return text if isinstance(text, str) else ""
    kind = repr(kind) if kind else type(part).__name__
    raise InvalidRequestError(f"{where}: an assistant's turn holds text, not {kind}.")


def _content(content: Any, where: str) -> Any:
    if not isinstance(content, (list, tuple)):
        return content
    return [_part(part, f"{where}.content[{at}]") for at, part in enumerate(content)]


def _part(part: Any, where: str) -> Mapping[str, Any]:
    if kind := kind_of(part, where):
        if kind in _WORDS:
            part = _words(part, where)
        elif kind == "file" and isinstance(part.get("file"), Mapping):
            return {"type": "input_file", **part["file"]}
        elif kind in CLAUDES:
            refuse_part(part, where, _VENDOR)
        elif kind in _FOREIGN:
            part = neutral_part(part, where, _VENDOR)
        else:
            return cast("Mapping[str, Any]", part)
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    if isinstance(part, Image):
        url, detail = part.source.data_url, part.detail or "auto"
        return {"type": "input_image", "image_url": url, "detail": detail}
    return _file(part)


def _file(document: Document) -> dict[str, Any]:
    url = document.source.data_url
    if url.lower().startswith(("http://", "https://")):
        return {"type": "input_file", "file_url": url}
    return {"type": "input_file", "filename": document.title, "file_data": url}
