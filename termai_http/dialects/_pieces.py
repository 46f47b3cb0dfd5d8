"""Text and objects that come in pieces, put together in time linear in the pieces."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from .._secrets import without_lone_surrogates

__all__ = ["Assembled", "InOrder", "Text"]


class Text:
    """Text that comes in pieces, whose surrogate pairs may be cut in two.

    What ``add`` and ``flush`` returned, joined, is at any time what ``str()`` gives.
    """

    __slots__ = ("_held", "_written")

    def __init__(self) -> None:
        self._held = ""
        # UTF-8, since pieces are short: a list of them, which io.StringIO may be too, would take
        # many times the memory of the text.
        self._written = io.BytesIO()

    def add(self, piece: str) -> str:
        """Take a piece and return what can be handed out: half a pair waits for its other half."""
        if self._held or not piece.isascii():
            piece = self._held + piece
            self._held = ""
            if piece and "\ud800" <= piece[-1] <= "\udbff":
                piece, self._held = piece[:-1], piece[-1]
            piece = without_lone_surrogates(piece)
        self._written.write(piece.encode())
        return piece

    def flush(self) -> str:
        """Return U+FFFD where half a pair still waits, since no other half will come; else ""."""
        if not self._held:
            return ""
        self._held = ""
        self._written.write("\ufffd".encode())
        return "\ufffd"

    def drop_half(self) -> None:
        """Forget half a pair that waits, where what comes next has the whole of it."""
        self._held = ""

    def encoded(self) -> bytes:
        """Return it as UTF-8, which is what it is kept as."""
        return self._written.getvalue()

    def size(self) -> int:
        """Return the bytes of that."""
        return self._written.tell()

    def __str__(self) -> str:
        return self._written.getvalue().decode()


class InOrder:
    """The pieces of several ``Text`` in the order in which they came, kept in no second place.

    Attributes:
        last: The text that the last piece was of; a piece of any other has to be told by ``turn``.
    """

    __slots__ = ("_turns", "last")

    def __init__(self) -> None:
        self.last: Text | None = None
        self._turns: list[tuple[Text, int]] = []

    def turn(self, text: Text) -> None:
        """Take the pieces that come from now on as those of ``text``."""
        self.last = text
        self._turns.append((text, text.size()))

    def __str__(self) -> str:
        ends: dict[int, int] = {}
        parts: list[bytes] = []
        for text, start in reversed(self._turns):
            parts.append(text.encoded()[start : ends.get(id(text))])
            ends[id(text)] = start
        return b"".join(reversed(parts)).decode()


class Assembled:
    """A JSON object put together from its deltas.

    Text of the fields that grow is joined, lists are extended, objects are assembled one level
    deep; of anything else the last that says something stands.

    Args:
        growing: The fields whose text grows.
    """

    __slots__ = ("_depth", "_fields", "_growing")

    def __init__(self, growing: frozenset[str], depth: int = 1) -> None:
        self._growing = growing
        self._depth = depth
        self._fields: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> str:
        """Take one field of a delta and return what of its growing text can be handed out."""
        fields = self._fields
        grows = name in self._growing
        if grows and isinstance(value, str):
            return self.text(name).add(value)
        if isinstance(value, dict) and self._depth and not grows:
            inner = fields.get(name)
            if not isinstance(inner, Assembled):
                inner = fields[name] = Assembled(self._growing, self._depth - 1)
            return "".join([inner.add(key, item) for key, item in value.items()])
        if isinstance(value, list) and isinstance(fields.get(name), list):
            fields[name].extend(value)
        elif name not in fields or (value and not isinstance(fields[name], Text)):
            # The delta belongs to whoever reads the events, so its list is not extended.
            fields[name] = list(value) if isinstance(value, list) else value
        return ""

    def text(self, name: str) -> Text:
        """Return the text of a field that grows, begun where it was not."""
        text = self._fields.get(name)
        if not isinstance(text, Text):
            text = self._fields[name] = Text()
        return text

    def get(self, name: str) -> Any:
        """Return a field that does not grow, or None."""
        return self._fields.get(name)

    def flush(self) -> Iterator[tuple[str, str]]:
        """Yield each field whose text ended with half a surrogate pair, and the U+FFFD for it."""
        for name, value in self._fields.items():
            if isinstance(value, Text):
                if piece := value.flush():
                    yield name, piece
            elif isinstance(value, Assembled):
                for _, piece in value.flush():
                    yield name, piece

    def built(self) -> dict[str, Any]:
        """Return the object as far as it came."""
        built: dict[str, Any] = {}
        for name, value in self._fields.items():
            if isinstance(value, Text):
                built[name] = str(value)
            else:
                built[name] = value.built() if isinstance(value, Assembled) else value
        return built
