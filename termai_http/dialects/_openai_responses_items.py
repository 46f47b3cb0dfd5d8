"""The items of a streamed response, put together from their events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._secrets import without_lone_surrogates
from ..models import ToolCall
from ._openai_responses_kinds import CALLS
from ._pieces import Text

__all__ = ["Item", "Part", "texts_of", "whole_text"]

# Where the whole text of a part stands; "text" for all others.
_FIELDS = {"arguments": "arguments", "input": "input", "refusal": "refusal"}
_LISTS = ("summary", "content")
# The texts of each type of item, by the lists that they stand in.
_TEXTS: Mapping[Any, Mapping[str, tuple[str, ...]]] = {
    "message": {"content": ("output_text", "refusal")},
    "reasoning": {"summary": ("summary_text",), "content": ("reasoning_text", "output_text")},
}


def whole_text(kind: str, fields: Mapping[str, Any]) -> Any:
    """Return the whole text of a part of a kind, as the part or the event that ends it has it."""
    return fields.get(_FIELDS.get(kind, "text"))


def texts_of(fields: Mapping[str, Any]) -> Iterator[tuple[str, int, str, Any]]:
    """Yield the texts of an item: where each stands, its place there, its kind, and itself."""
    home = fields.get("type")
    home = home if isinstance(home, str) else ""
    if home in CALLS:
        yield CALLS[home], 0, CALLS[home], fields.get(CALLS[home])
    for group, kinds in _TEXTS.get(home, {}).items():
        parts = fields.get(group)
        if isinstance(parts, str) and home == "message":
            parts = [{"type": "output_text", "text": parts}]
        for at, part in enumerate(parts if isinstance(parts, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind in kinds:
                yield group, at, kind, whole_text(kind, part)


class Part:
    """One text that grows.

    Attributes:
        kind: Its type in the item, or the field of the item that it is.
        hands_out: The kind of its pieces; ``""`` where they are none of the reply's.
        fields: What else the server says of it.
        text: The text so far.
        begun: Whether any of it was handed out.
    """

    __slots__ = ("begun", "fields", "hands_out", "kind", "text")

    def __init__(self, kind: str, hands_out: str) -> None:
        self.kind = kind
        self.hands_out = hands_out
        self.fields: dict[str, Any] = {}
        self.text = Text()
        self.begun = False

    def complete(self, whole: object) -> str:
        """Take the whole text, and return what of it was not handed out yet.

        What was handed out cannot be taken back, so another text is left where it is.
        """
        if not isinstance(whole, str):
            return ""
        known = str(self.text)
        whole = without_lone_surrogates(whole)
        if not whole.startswith(known):
            return self.text.flush()
        if len(whole) == len(known):
            return ""
        # Half a pair that waits for its other half is a part of the whole.
        self.text.drop_half()
        return self.text.add(whole[len(known) :])

    def built(self) -> dict[str, Any]:
        """Return it as far as it came."""
        return {**self.fields, "type": self.kind, _FIELDS.get(self.kind, "text"): str(self.text)}


class Item:
    """One item.

    Attributes:
        index: Its place in the output.
        type: Its type.
        fields: What the server says of it beside its texts.
        parts: Its texts, by where they stand and their place there.
        call: What is known of a tool call before its arguments are whole.
        called: Whether the whole call was handed out.
        done: Whether its end came.
    """

    __slots__ = ("_whole", "call", "called", "done", "fields", "index", "parts", "type")

    def __init__(self, index: int, fields: Mapping[str, Any]) -> None:
        self.index = index
        self.fields = fields
        self.type = str(fields.get("type"))
        self.parts: dict[tuple[str, int], Part] = {}
        self.call = ToolCall(
            id=str(fields.get("call_id") or ""),
            name=str(fields.get("name") or ""),
            arguments=None,
            text="",
        )
        self.called = False
        self.done = False
        self._whole: Mapping[str, Any] | None = None

    def is_named(self, fields: Mapping[str, Any]) -> bool:
        """Tell whether an item with these fields is this one, by its type and an id of it."""
        return self.type == fields.get("type") and any(
            fields.get(name) and fields.get(name) == self.fields.get(name)
            for name in ("id", "call_id")
        )

    def end(self, fields: Mapping[str, Any]) -> None:
        """Take the whole item; where its texts are those that were handed out, as it is."""
        self.done = True
        texts = {(group, at): text for group, at, _, text in texts_of(fields)}
        if all(_equal(part.text, texts.get(place)) for place, part in self.parts.items()):
            self._whole = fields
            self.parts.clear()
        else:
            self.fields = fields

    def built(self) -> Mapping[str, Any]:
        """Return it as far as it came."""
        if self._whole is not None:
            return self._whole
        built = dict(self.fields)
        places = sorted(self.parts, key=lambda place: place[1])
        for group in _LISTS:
            parts = [self.parts[place].built() for place in places if place[0] == group]
            if parts:
                built[group] = parts
        for (group, _), part in self.parts.items():
            if group not in _LISTS:
                built[group] = str(part.text)
        return built


def _equal(text: Text, whole: Any) -> bool:
    whole = whole if isinstance(whole, str) else ""
    return str(text) == without_lone_surrogates(whole)
