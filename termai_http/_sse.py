"""Bytes to server-sent events: the WHATWG rules, under limits, in time linear in the bytes.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .errors import ResponseTooLarge

__all__ = ["EventParser", "ServerEvent"]

_BOM = b"\xef\xbb\xbf"
# As nearly every line of a model's reply begins.
_DATA = b"data: "


class ServerEvent(NamedTuple):
    """One event as a server sent it.

    Attributes:
        name: Its ``event`` field; ``"message"`` where there is none.
        data: Its ``data`` fields, joined with line feeds.
    """

    name: str
    data: str


_make = tuple.__new__


class EventParser:
    """Cuts the bytes of a stream into events, wherever the bytes themselves are cut.

    Works on bytes and decodes whole values only, so no character is ever torn; bytes that are no
    UTF-8 become U+FFFD. ``id`` and ``retry`` serve reconnecting, which a model's reply cannot do.

    Args:
        most_line: Most bytes of one line.
        most_event: Most bytes of one event's data.
    """

    def __init__(self, *, most_line: int, most_event: int) -> None:
        self._most_line = most_line
        self._most_event = most_event
        self._start: bytes | None = b""
        self._after_cr = False
        self._rest = bytearray()
        self._name = ""
        self._data: bytes | bytearray | None = None
        self._refusal = ""
        self._small = min(most_line, most_event)
        # The last line that named an event, and the name: most of a reply's events have one.
        self._event, self._event_name = b"\n", ""

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take what came next, and return the events that it completes.

        Raises:
            ResponseTooLarge: A line or an event is larger than the limits. Where events came
                before it, they are returned first, and the next ``feed`` or ``finish`` raises.
        """
        self._check_refused()
        if self._start is not None:
            data = self._without_bom(data)
        lines = self._split(data)
        last = lines.pop()
        events: list[ServerEvent] = []
        try:
            self._interpret(lines, events)
            if len(self._rest) + len(last) > self._most_line:
                raise self._line_too_long()
            self._rest += last
        except ResponseTooLarge as error:
            self._refuse(error)
            if not events:
                raise
        return events

    def finish(self) -> list[ServerEvent]:
        """Return the last event where the blank line that ends it is missing, if it has any data.

        The rules drop such an event; the caller decides what it is worth.

        Raises:
            ResponseTooLarge: As ``feed``.
        """
        self._check_refused()
        events: list[ServerEvent] = []
        line, self._rest = bytes(self._rest), bytearray()
        # Two empty lines: one may end the line, and one ends the event.
        self._interpret((line, b""), events)
        return events

    def _without_bom(self, data: bytes) -> bytes:
        start = (self._start or b"") + data
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(_BOM)

    def _split(self, data: bytes) -> list[bytes]:
        """Split into lines; the last one has not ended yet, and is without what came before."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            # A CR ends its line at once: to wait for the LF would hold the event back.
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        if self._rest and len(lines) > 1:
            self._rest += lines[0]
            lines[0] = bytes(self._rest)
            self._rest = bytearray()
        return lines

    def _interpret(self, lines: Iterable[bytes], events: list[ServerEvent]) -> None:
        small = self._small
        data, name = self._data, self._name
        for line in lines:
            if not line:
                if data is not None:
                    # Without the class's own __new__, which is written in Python.
                    event = (name or "message", data.decode("utf-8", "replace"))
                    events.append(_make(ServerEvent, event))
                    data = None
                name = ""
            elif data is None and line.startswith(_DATA) and len(line) <= small:
                data = line[6:]
            elif line == self._event:
                name = self._event_name
            else:
                self._data, self._name = data, name
                self._take_field(line)
                data, name = self._data, self._name
        self._data, self._name = data, name

    def _take_field(self, line: bytes) -> None:
        if len(line) > self._most_line:
            raise self._line_too_long()
        field, _, value = line.partition(b":")
        if field == b"data":
            self._add(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")
            self._event, self._event_name = line, self._name

    def _add(self, value: bytes) -> None:
        data = self._data
        if data is None:
            self._data = value
            size = len(value)
        else:
            if isinstance(data, bytes):
                self._data = data = bytearray(data)
            data += b"\n"
            data += value
            size = len(data)
        if size > self._most_event:
            raise ResponseTooLarge(
                f"An event of the stream is larger than Limits(stream_event={self._most_event}) "
                "bytes.",
                maybe_billed=True,
            )

    def _line_too_long(self) -> ResponseTooLarge:
        return ResponseTooLarge(
            f"A line of the stream is longer than Limits(stream_line={self._most_line}) bytes.",
            maybe_billed=True,
        )

    def _refuse(self, error: ResponseTooLarge) -> None:
        self._refusal = error.message
        self._rest = bytearray()
        self._name, self._data = "", None

    def _check_refused(self) -> None:
        if self._refusal:
            raise ResponseTooLarge(self._refusal, maybe_billed=True)
