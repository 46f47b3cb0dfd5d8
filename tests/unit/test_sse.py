"""Bytes to server-sent events: the rules, however the bytes are cut, under limits."""

from __future__ import annotations

import itertools
import re
import sys
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import ResponseTooLarge, _sse
from termai_http._sse import EventParser, ServerEvent

MIB = 1024 * 1024
TRANSCRIPT = (
    b"\xef\xbb\xbf: a comment\r\n\r\n"
    b"event: first\rdata: caf\xc3\xa9 \xf0\x9f\x8e\x89\rid: 1\r\r\n"
    b"data\ndata:  two spaces\ndata:no space\nretry: 5\n\n"
    b"data: a\r\ndata: b\r\n\r\n"
    b"event: without data\n\nnonsense\ndata: \xff\xf0\x9f\r\n\r\ndata: [DONE]\n\n"
)
EVENTS = [
    ServerEvent("first", "café 🎉"),
    ServerEvent("message", "\n two spaces\nno space"),
    ServerEvent("message", "a\nb"),
    ServerEvent("message", "\ufffd\ufffd"),
    ServerEvent("message", "[DONE]"),
]
SOUP = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(b"\r", b"\n", b"\r\n", b"\n\n", b":", b" ", b"data", b"data: ", b"event", b"id"),
                *(b"event: a", b"retry: 1", b"\xef\xbb\xbf", b"\xef", b"\xf0\x9f", b"\x8e\x89"),
                *(b"\xc2\x85", b"\x0c", b"\x00", b"\xe2\x80\xa8", b"\xff", b"x", b"Data"),
            ]
        ),
        st.binary(max_size=3),
    ),
    max_size=30,
).map(b"".join)


def parser(most_line: int = MIB, most_event: int = MIB) -> EventParser:
    """Return a parser with roomy limits."""
    return EventParser(most_line=most_line, most_event=most_event)


def parse(pieces: Iterable[bytes]) -> tuple[list[ServerEvent], list[ServerEvent]]:
    """Return the events of a stream, and what ``finish`` adds."""
    made = parser()
    return [event for piece in pieces for event in made.feed(piece)], made.finish()


def feed_all(made: EventParser, pieces: Iterable[bytes], events: list[ServerEvent]) -> None:
    """Feed pieces, and keep the events that come before an error."""
    for piece in pieces:
        events += made.feed(piece)


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """Cut bytes at some places."""
    places = [0, *sorted(at), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def reference(data: bytes) -> tuple[list[ServerEvent], list[ServerEvent]]:
    """Do what the rules say, step by step and over the whole text."""
    lines = re.split("\r\n|\r|\n", data.decode("utf-8", "replace").removeprefix("\ufeff"))
    events: list[ServerEvent] = []
    buffer = kind = ""
    finished: list[ServerEvent] = []
    for number, line in enumerate([*lines, ""]):
        if line == "" and number != len(lines) - 1:
            if buffer:
                found = finished if number == len(lines) else events
                found.append(ServerEvent(kind or "message", buffer[:-1]))
            buffer = kind = ""
            continue
        field, colon, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if line.startswith(":"):
            continue
        if (field if colon else line) == "data":
            buffer += value + "\n"
        elif field == "event":
            kind = value
    return events, finished


def test_the_rules_hold() -> None:
    """Line ends, the BOM, comments, joined data and unknown fields are read as the rules say."""
    assert parse([TRANSCRIPT]) == (EVENTS, [])
    assert reference(TRANSCRIPT) == (EVENTS, [])


def test_one_or_two_cuts_change_nothing() -> None:
    """Cut in two and in three, at every place there is, a transcript gives the same events."""
    places = range(len(TRANSCRIPT) + 1)
    for at in itertools.combinations_with_replacement(places, 2):
        assert parse(cut(TRANSCRIPT, at)) == (EVENTS, [])


@given(st.sets(st.integers(0, len(TRANSCRIPT))))
def test_any_cuts_change_nothing(at: set[int]) -> None:
    """Cut at any set of places, a transcript gives the same events."""
    assert parse(cut(TRANSCRIPT, at)) == (EVENTS, [])


@given(data=SOUP, at=st.lists(st.integers(0, 60), max_size=8))
def test_any_bytes_give_what_the_rules_say(data: bytes, at: list[int]) -> None:
    """Whole, in pieces or byte by byte: any bytes give what a plain reading of the rules gives."""
    expected = reference(data)
    assert parse([data]) == expected
    assert parse(cut(data, [min(place, len(data)) for place in at])) == expected
    assert parse(bytes([byte]) for byte in data) == expected


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r", b"\r\n\n"])
def test_an_event_comes_with_the_byte_that_completes_it(end: bytes) -> None:
    """No event waits for a byte that may never come, and the LF of a CRLF is no blank line."""
    made = parser()
    assert made.feed(b"data: x" + end[:-1]) == []
    assert made.feed(end[-1:]) == [ServerEvent("message", "x")]
    assert made.feed(b"\n") == []
    assert made.finish() == []


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"event: a\ndata: x\ndata: y", [ServerEvent("a", "x\ny")]),
        (b"data: x\n", [ServerEvent("message", "x")]),
        (b"event: a\n", []),
        (b"data: x\n\ndat", []),
        (b"\xef\xbb", []),
        (b"", []),
    ],
)
def test_the_end_gives_the_event_that_was_begun(data: bytes, events: list[ServerEvent]) -> None:
    """``finish`` returns an event whose blank line is missing, where it has any data."""
    assert parse([data])[1] == events


@pytest.mark.parametrize(
    ("data", "setting"),
    [
        (b"data: 78901\n", "stream_line=10"),
        (b": 345678901", "stream_line=10"),
        (b"data:1234\ndata:5678\n", "stream_event=8"),
        (b"data\n" * 10, "stream_event=8"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_too_large_is_an_error(data: bytes, setting: str, size: int) -> None:
    """A line and an event have limits, whether they end or not; the error names the setting."""
    made = parser(most_line=10, most_event=8)
    good = b"data:1234\ndata:567\n\n"
    pieces = [(good + data)[at : at + size] for at in range(0, len(good + data), size)]
    events: list[ServerEvent] = []
    with pytest.raises(ResponseTooLarge) as caught:
        feed_all(made, [*pieces, b""], events)
    assert events == [ServerEvent("message", "1234\n567")]
    assert f"Limits({setting})" in str(caught.value)
    assert caught.value.maybe_billed
    for again in (lambda: made.feed(b"data: x\n\n"), made.finish):
        with pytest.raises(ResponseTooLarge, match="Limits"):
            again()


def test_what_is_just_small_enough_passes() -> None:
    """A line and an event of exactly the limit are read, and a limit is for each one anew."""
    made = parser(most_line=10, most_event=10)
    text = b"data: 7890\r\ndata: 7890\r\ndata\r\n\r\n"
    assert made.feed(text * 3) == [ServerEvent("message", "7890\n7890\n")] * 3


def test_the_last_line_may_be_what_is_too_much() -> None:
    """A line without an end counts too, at the end."""
    made = parser(most_line=10, most_event=8)
    made.feed(b"data:1234\ndata:5678")
    with pytest.raises(ResponseTooLarge, match="stream_event=8"):
        made.finish()


@pytest.mark.parametrize("piece", [b"x" * 65536, b"data:ab\n" * 8192, b":\n" * 32768])
def test_memory_is_bounded(piece: bytes) -> None:
    """Endless lines, events and comments take a few times the limits, and nothing once refused."""
    made = parser()
    tracemalloc.start()
    try:
        for _ in range(64):
            try:
                made.feed(piece)
            except ResponseTooLarge:
                break
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        assert tracemalloc.get_traced_memory()[0] < MIB / 2
    finally:
        tracemalloc.stop()


class Counted(bytearray):
    """Counts the bytes that everything done to it has to touch."""

    touched = 0

    def __iadd__(self, other: Any) -> Any:
        Counted.touched += len(other)
        return super().__iadd__(other)

    def __bytes__(self) -> bytes:
        Counted.touched += len(self)
        return bytes(memoryview(self))

    def __getattribute__(self, name: str) -> Any:
        # isinstance() asks for the class, and touches no byte.
        Counted.touched += 0 if name == "__class__" else len(self)
        return super().__getattribute__(name)

    def __add__(self, other: Any) -> Any:
        Counted.touched += len(self) + len(other)
        return super().__add__(other)

    def __getitem__(self, at: Any) -> Any:
        Counted.touched += len(self)
        return super().__getitem__(at)

    def __contains__(self, item: Any) -> bool:
        Counted.touched += len(self)
        return super().__contains__(item)


@pytest.mark.parametrize("data", [b"data: " + b"x" * 20_000 + b"\n\n", b"data: x\n" * 5000 + b"\n"])
def test_what_is_kept_is_touched_a_few_times_only(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte by byte, a long line or event costs a few times its bytes, not their square."""
    monkeypatch.setattr(_sse, "bytearray", Counted, raising=False)
    Counted.touched = 0
    events, _ = parse(bytes([byte]) for byte in data)
    assert len(events) == 1
    assert len(data) / 4 < Counted.touched < 4 * len(data)


def steps(data: bytes) -> int:
    """Count the calls that parsing takes."""
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    made = parser()
    sys.setprofile(count)
    try:
        made.feed(data)
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.parametrize(
    "unit", [b"data: x\n\n", b"\r\n", b"data\r", b"event: a\r\ndata: b\r\n\r\n"]
)
def test_work_grows_with_the_events(unit: bytes) -> None:
    """Ten times the events take about ten times the steps; a collector may add a few."""
    few, many = steps(unit * 200), steps(unit * 2000)
    assert few < many < 11 * few or many < 100
