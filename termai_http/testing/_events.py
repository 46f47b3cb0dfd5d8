"""Server-sent events as values, and text in the small pieces that a model streams."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["FINISH", "MARK", "Event", "as_json", "pieces"]

# Where a stream says that its reply is whole, and where it says that nothing more comes.
FINISH, MARK = 1, 2

# A word with the space after it; a long one is cut.
_PIECE = re.compile(r"\S{1,16}\s*|\s+")


@attrs.frozen(kw_only=True)
class Event:
    """One event of a stream.

    Attributes:
        name: The ``event:`` field; None sends none.
        data: An object that goes out as JSON, or the text itself.
        ends: ``FINISH`` or ``MARK`` for an event that ends the reply, else 0.
    """

    name: str | None = None
    data: Mapping[str, Any] | str
    ends: int = 0

    def encoded(self) -> bytes:
        """Return the event as it goes out."""
        data = self.data.encode() if isinstance(self.data, str) else as_json(self.data)
        head = b"" if self.name is None else b"event: %b\n" % self.name.encode()
        return b"%bdata: %b\n\n" % (head, data)


def as_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8; halves of surrogate pairs are escaped, as UTF-8 has none."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def pieces(text: str) -> list[str]:
    """Cut a text into words; joined they are the text."""
    return _PIECE.findall(text)
