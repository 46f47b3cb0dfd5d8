"""Text and objects that come in pieces, put together in time linear in the pieces."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .._json import read_object, scan
from .._secrets import without_lone_surrogates
from .._sse import ServerEvent

__all__ = ["Alike", "Assembled", "InOrder", "Text"]

# Longer events are few, and have long texts.
_MOST_LEARNT_FROM = 4096
_MOST_LEARNT = 8


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


class Alike:
    """Reads the text of events that are like the one before them, and nothing else of them.

    Nearly all events of a reply differ in a few values only: the text, a number, padding. JSON is
    read from left to right, so where all around those values is the same to the character, it means
    the same, and has not to be read, nor to be made an object of.

    Args:
        names: The field with the text, and the other fields that may differ, which stand at the top
            and say nothing.
        read: Returns the text of an event that adds nothing but text; None for any other.
    """

    __slots__ = ("_around", "_event", "_fits", "_left", "_names", "_read", "_text", "_text_at")

    def __init__(
        self, names: tuple[str, ...], read: Callable[[Mapping[str, Any]], str | None]
    ) -> None:
        self._names = names
        self._read = read
        # How often it may still be learnt: what is never alike shall not cost more for that.
        self._left = _MOST_LEARNT
        self._event: ServerEvent | None = None
        self._text: Text | None = None
        self._around: list[str] = []
        self._text_at = 0
        self._fits = False

    def keep(self, event: ServerEvent, text: Text | None) -> None:
        """Remember the last event that was read whole; ``text`` where it only added to that."""
        self._text = text
        self._event = None if text is None else event
        self._fits = False

    def text_of(self, event: ServerEvent) -> str | None:
        """Add the text of an event, and return what of it can be handed out.

        Returns:
            None where the event has to be read whole; nothing was added then.
        """
        known, text = self._event, self._text
        if known is None or text is None or known[0] != event[0]:
            return None
        if not self._fits:
            self._fits = self._value(known[1]) is not None or self._learn(known[1])
            if not self._fits:
                self._event = None
                return None
        value = self._value(event[1])
        return None if value is None else text.add(value)

    def _value(self, data: str) -> str | None:
        around = self._around
        if not around or not data.startswith(around[0]):
            return None
        try:
            value, end = scan(data, len(around[0]))
            text = value
            for place in range(1, len(around) - 1):
                if not data.startswith(around[place], end):
                    return None
                value, end = scan(data, end + len(around[place]))
                if place == self._text_at:
                    text = value
        except (StopIteration, ValueError, RecursionError):
            return None
        return text if type(text) is str and data[end:] == around[-1] else None

    def _learn(self, data: str) -> bool:
        """Find what stands around the values that differ, and check that they are where it says."""
        if not self._left or len(data) > _MOST_LEARNT_FROM:
            return False
        self._left -= 1
        found: list[tuple[int, int, str]] = []
        for name in self._names:
            places = list(re.finditer(rf'"{name}"[ \t\r\n]*:[ \t\r\n]*', data))
            if len(places) == 1:
                start = places[0].end()
                try:
                    found.append((start, scan(data, start)[1], name))
                except (StopIteration, ValueError, RecursionError):
                    return False
            elif places or name == self._names[0]:
                return False
        found.sort()
        ends = [0, *(end for _, end, _ in found)]
        around = [data[end:start] for end, (start, _, _) in zip(ends, found, strict=False)]
        after = data[ends[-1] :]
        # No value was one of these words: each has to be found where its value was.
        words = {name: f"\0{name}{data}" for _, _, name in found}
        filled = zip(around, map(json.dumps, words.values()), strict=True)
        payload = read_object("".join(map("".join, filled)) + after)
        text = words.pop(self._names[0])
        if payload is None or self._read(payload) != text:
            return False
        if any(payload.get(name) != word for name, word in words.items()):
            return False
        self._text_at = [name for _, _, name in found].index(self._names[0])
        self._around = [*around, after]
        return True
