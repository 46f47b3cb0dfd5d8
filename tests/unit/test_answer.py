"""Chunked bodies on the wire: the same bytes however they are cut, each handed on as it comes."""

from __future__ import annotations

import http.client
import io
import itertools
import socket
from collections.abc import Iterable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http._answer import Answer, BadFraming

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
PIECES = [b"data: one\n\n", b"x", b"\r\n5\r\n", b"y" * 300]
END = b"0\r\n\r\n"


class Wire(io.RawIOBase):
    """Gives what is sent in just these pieces, and counts how often it is asked."""

    def __init__(self, sent: Iterable[bytes]) -> None:
        self._sent = [piece for piece in sent if piece]
        self.asked = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give the next piece."""
        self.asked += 1
        if not self._sent:
            return 0
        piece = self._sent[0][: len(buffer)]
        self._sent[0] = self._sent[0][len(piece) :]
        if not self._sent[0]:
            del self._sent[0]
        buffer[: len(piece)] = piece
        return len(piece)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Stand for the socket."""
        return io.BufferedReader(self)


class Plain(Answer):
    """Asks for each chunk anew, as the standard library does."""

    def _chunks_that_came(self, most: int) -> bytes:
        return b""


def frame(*pieces: bytes) -> bytes:
    """Return pieces as chunks."""
    return b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def answer(
    *sent: bytes, cls: type[Answer] = Answer, headers: bytes = b"", method: str = "POST"
) -> tuple[Wire, Answer]:
    """Return the wire, and an answer whose head was read; the body comes in the pieces given."""
    wire = Wire([HEAD + headers + b"\r\n", *sent])
    made = cls(cast("socket.socket", wire), method=method)
    made.begin()
    return wire, made


def read(made: Answer, most: int = 65536) -> tuple[bytes, str]:
    """Read to the end; return what came, and the error that ended it."""
    found = b""
    try:
        while piece := made.read1(most):
            assert len(piece) <= most
            found += piece
    except (http.client.HTTPException, ValueError) as error:
        return found, type(error).__name__
    return found, ""


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """Cut bytes at some places."""
    places = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def test_all_that_came_is_read_at_once() -> None:
    """However many chunks a packet brings, they are read together, and nothing is waited for."""
    last = frame(b"the rest") + END
    wire, made = answer(frame(*PIECES) + last[:6], last[6:])
    assert made.read1(65536) == b"".join(PIECES) + b"the"
    # The head, and one packet.
    assert wire.asked == 2
    assert read(made) == (b" rest", "")
    assert made.isclosed()


def test_what_comes_is_read_in_the_moment_it_comes() -> None:
    """Byte by byte: each byte of a chunk is handed on without waiting for the next one."""
    data = frame(b"abc", b"de") + END
    wire, made = answer(*(data[at : at + 1] for at in range(len(data))))
    found = []
    while piece := made.read1(65536):
        found.append((piece, wire.asked))
    # Asked once for the head, three times for a size, and once for each byte.
    assert found == [(b"a", 5), (b"b", 6), (b"c", 7), (b"d", 13), (b"e", 14)]


def test_no_more_is_read_than_is_asked_for() -> None:
    """Less than came may be wanted; the rest is there for the next time."""
    whole = b"".join(PIECES)
    for most in range(1, len(whole) + 2):
        _, made = answer(frame(*PIECES) + END)
        assert read(made, most) == (whole, "")
    _, made = answer(frame(*PIECES) + END)
    assert made.read1(0) == b""
    assert (made.read1(), made.read1(), made.isclosed()) == (whole, b"", True)


def test_other_ways_of_reading_go_on_where_it_stopped() -> None:
    """The standard library's own methods and this one share what they know of the chunks."""
    whole = b"".join(PIECES)
    for most in range(1, len(whole)):
        _, made = answer(frame(*PIECES) + END)
        begun = made.read1(most)
        rest = made.read(3) if most % 2 else b""
        assert begun + rest + made.read() == whole


def test_an_answer_without_a_body_is_not_waited_for() -> None:
    """HEAD is answered by a head, whatever that says of a body."""
    wire, made = answer(method="HEAD")
    assert made.read1(10) == b""
    assert wire.asked == 1


def test_compressed_chunks_come_one_by_one() -> None:
    """What cannot be decompressed must not take along what came before it."""
    _, made = answer(frame(b"good", b"bad") + END, headers=b"Content-Encoding: gzip\r\n")
    assert [made.read1(99), made.read1(99), made.read1(99)] == [b"good", b"bad", b""]


@pytest.mark.parametrize("cls", [Answer, Plain])
@pytest.mark.parametrize("after", [b"x\r", b"\n5", b"\r\r", b"xx"])
def test_what_follows_a_chunk_must_end_its_line(cls: type[Answer], after: bytes) -> None:
    """No byte is thrown away unseen: a chunk longer than its size is no framing to rely on."""
    data = b"4\r\ngood" + after + b"\n3\r\nbad\r\n" + END
    for at in range(len(data)):
        _, made = answer(*cut(data, [at]), cls=cls)
        assert read(made) == (b"good", "BadFraming")
    _, made = answer(data, cls=cls)
    with pytest.raises(BadFraming):
        made.read()


@pytest.mark.parametrize(
    ("size", "error"),
    [
        *((line, "BadFraming") for line in (b"g\r\n", b"-5\r\n", b"\r\n", b"5 5\n")),
        *((line, "IncompleteRead") for line in (b"", b"5", b"5\r", b"g")),
    ],
)
def test_a_size_that_is_none_is_told_from_one_cut_short(size: bytes, error: str) -> None:
    """The one is a server that speaks no HTTP, the other a connection that broke."""
    for cls in (Answer, Plain):
        _, made = answer(frame(b"good") + size, cls=cls)
        assert read(made) == (b"good", error)


ODD_SIZES = st.sampled_from(
    [
        *(b"4\r\n", b"04\r\n", b"0004\r\n", b"4;name=value\r\n", b'4 ; a="b"\r\n', b"4\t\r\n"),
        *(b"4\n", b"0x4\r\n", b"+4\r\n", b"-4\r\n", b"0_4\r\n", b" 4\r\n", b"\r\n", b"g\r\n"),
        *(b"4\r", b"4\r\r\n", b"4" * 16 + b"\r\n", b"4" * 15 + b"\r\n", b"\xb2\r\n", b"00\r\n"),
    ]
)
ODD_CHUNK = st.tuples(
    ODD_SIZES, st.sampled_from([b"good\r\n", b"good\n", b"good", b"goo", b"goodx"])
)
CHUNKS = st.lists(
    st.one_of(st.binary(min_size=1, max_size=20).map(frame), ODD_CHUNK.map(b"".join)), max_size=6
).map(b"".join)
ENDS = st.sampled_from([END, b"0\r\nX-Trailer: 1\r\n\r\n", b"0;a\r\n\r\n", b"0\n\n", b"0\r\n", b""])


@given(
    body=CHUNKS,
    end=ENDS,
    at=st.lists(st.integers(0, 120), max_size=10),
    most=st.sampled_from([1, 2, 7, 65536]),
)
def test_every_spelling_is_read_as_chunk_by_chunk(
    body: bytes, end: bytes, at: list[int], most: int
) -> None:
    """Odd sizes, extensions, trailers and cuts: the same bytes, and the same error after them."""
    sent = cut(body + end, at)
    (_, one), (_, other) = answer(*sent), answer(*sent, cls=Plain)
    assert read(one, most) == read(other, most)
    assert one.isclosed() == other.isclosed()
