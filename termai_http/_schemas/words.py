"""What a schema says in words, since the vendors' strict modes do not take it otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["described", "in_words", "is_plain", "joined", "shortened"]

# What one vendor or both refuse in a schema, as the model can be told it.
_NOTES = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matching the regular expression {}",
    "format": "format {}",
    "contentEncoding": "encoded as {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "uniqueItems": "no item twice",
    "examples": "for example {}",
}
# Of regular expressions the vendors take a part: no look-around, back references, word borders.
_HARD_PATTERN = re.compile(r"\(\?|\\[1-9bBpPk]|\{\d*,?\d{3,}\}")
_MOST_NOTE = 200


def is_plain(pattern: str) -> bool:
    """Tell whether both vendors take a regular expression."""
    return not _HARD_PATTERN.search(pattern)


def described(
    kept: dict[str, Any], raw: Mapping[str, Any], words: str | None = None
) -> dict[str, Any]:
    """Add title and description, with what was not kept said in words."""
    notes = [words] if words else []
    for key, note in _NOTES.items():
        value = raw.get(key)
        if key in kept or value is None or value is False or value == []:
            continue
        if not (key.startswith("min") and value == 0 and key != "minimum"):
            notes.append(note.format(shortened(value)))
    if isinstance(raw.get("title"), str):
        kept["title"] = raw["title"]
    words = raw.get("description")
    words = joined(words if isinstance(words, str) and words.strip() else None, notes)
    return {**kept, "description": words} if words else kept


def joined(words: str | None, notes: Sequence[str]) -> str:
    """Return a description with notes after it."""
    note = "; ".join(notes)
    if words and note:
        return f"{words} ({note})"
    return words or note


def shortened(value: Any) -> str:
    """Return a value as a note shows it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST_NOTE else text[: _MOST_NOTE - 3] + "..."


def in_words(part: Any) -> str:
    """Say what one item of a tuple is."""
    if not isinstance(part, Mapping):
        return "anything"
    kind, title = part.get("type"), part.get("title")
    if not isinstance(kind, str):
        kind = str(part.get("$ref", "")).rpartition("/")[2] or "value"
    return f"{title} ({kind})" if isinstance(title, str) else kind
