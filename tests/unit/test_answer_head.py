"""Heads of answers: what is read in one pass is read as http.client reads it, or left to that."""

from __future__ import annotations

import http.client
import io
import itertools
from typing import Any, cast

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from termai_http import _answer_head as module
from termai_http._answer import Answer
from termai_http._answer_head import AnswerHead, joined, read_head
from termai_http._call import Attempt, AttemptLimits, Call, Clock
from termai_http._direct import begin_answer

STATUS = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 4\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
# The most that one look at a socket brings.
AT_ONCE = 16384


class Ended(io.RawIOBase):
    """A socket that brings nothing more."""

    timeout: float | None = None

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, _: Any) -> int:
        """Bring the end."""
        return 0

    def makefile(self, _: str) -> io.BufferedReader:
        """Stand for the socket."""
        return io.BufferedReader(self)

    def gettimeout(self) -> float | None:
        """Return what was set."""
        return self.timeout

    def settimeout(self, seconds: float) -> None:
        """Set it."""
        self.timeout = seconds


@attrs.frozen(kw_only=True)
class Reading:
    """An answer as it was read to its end.

    Attributes:
        status: Its status.
        headers: Its fields.
        length: The length of its body, as its head says it.
        body: The body, as far as it came.
        error: The class of what ended it before its end; empty for nothing.
        spoiled: Whether its connection may carry no other request.
    """

    status: int
    headers: dict[str, str]
    length: int | None
    body: bytes
    error: str
    spoiled: bool


def new_attempt() -> Attempt:
    """Return an attempt with time enough."""
    limits = AttemptLimits(connect_timeout=60.0, read_timeout=None)
    return Call(60.0, Clock()).begin_attempt(fresh=False, pooled=True, limits=limits)


def read_all(data: bytes, head: AnswerHead | None) -> Reading | None:
    """Read an answer, with its head or without; None where its head is refused."""
    attempt = new_attempt()
    sock = cast("Any", Ended())
    try:
        status, headers, answer = begin_answer(sock, "POST", attempt, head, data)
    except (http.client.HTTPException, OSError, ValueError):
        return None
    body, error, length = b"", "", answer.length
    try:
        for piece in answer.rest(7):
            body += piece
    except (http.client.HTTPException, OSError, ValueError) as failure:
        error = type(failure).__name__
    answer.close()
    spoiled = attempt.spoiled or (head is not None and head.closes)
    return Reading(
        status=status, headers=headers, length=length, body=body, error=error, spoiled=spoiled
    )


def must_agree(data: bytes) -> AnswerHead | None:
    """Check that a head which is read at once is what http.client makes of the same bytes."""
    head = read_head(data)
    if head is None:
        return None
    assert data[: head.size].endswith(b"\r\n\r\n")
    assert data.index(b"\r\n\r\n") + 4 == head.size
    ours, theirs = read_all(data, head), read_all(data, None)
    assert ours is not None
    assert theirs is not None
    assert (head.status, head.headers) == (theirs.status, theirs.headers)
    assert ours.spoiled or not theirs.spoiled
    assert attrs.evolve(ours, spoiled=theirs.spoiled) == theirs
    return head


def test_a_usual_head_is_read() -> None:
    """Status, fields by their names in lower case, size, and how the body is framed."""
    data = STATUS + b"X-Request-ID: req_1\r\nServer:  a b \t\r\nX-Empty:\r\n" + LENGTH + b"\r\n"
    head = must_agree(data + b"four")
    assert head is not None
    assert (head.status, head.size, head.length, head.closes) == (200, len(data), 4, False)
    fields = {"x-request-id": "req_1", "server": "a b", "x-empty": "", "content-length": "4"}
    assert head.headers == fields
    assert list(head.headers) == list(fields)


def test_values_of_one_name_are_joined() -> None:
    """However the name is spelt, in the order they came."""
    fields = b"X-Trace: one\r\nx-trace: two\r\nVary: a\r\nX-TRACE:three\r\n"
    head = must_agree(STATUS + fields + LENGTH + b"\r\nfour")
    assert head is not None
    assert head.headers["x-trace"] == "one, two, three"
    assert joined([("X-Trace", " one"), ("x-trace", "two\t")]) == {"x-trace": "one, two"}


@pytest.mark.parametrize(
    ("line", "closes"),
    [
        (b"", False),
        (b"Connection: keep-alive\r\n", False),
        (b"Connection: close\r\n", True),
        (b"connection: Keep-Alive, CLOSE\r\n", True),
        (b"Connection: keep-alive\r\nConnection: close\r\n", True),
    ],
)
def test_a_server_that_closes_is_noticed(line: bytes, closes: bool) -> None:
    """Whichever field says so, and in whichever spelling."""
    head = must_agree(STATUS + line + LENGTH + b"\r\nfour")
    assert head is not None
    assert head.closes is closes


@pytest.mark.parametrize(
    ("line", "length"),
    [
        *((b"Content-Length: 0\r\n", 0), (b"Content-Length: 00012\r\n", 12)),
        (b"Content-Length:\t7 \r\n", 7),
        (b"Content-Length: 999999999999999999\r\n", 10**18 - 1),
        *((CHUNKED, None), (b"transfer-encoding: Chunked\r\n", None)),
    ],
)
def test_a_body_of_known_size_or_in_chunks(line: bytes, length: int | None) -> None:
    """A length in digits, or chunks and nothing else."""
    head = must_agree(STATUS + line + b"\r\n")
    assert head is not None
    assert head.length == length


ODD: dict[str, bytes] = {
    "no end": STATUS + LENGTH,
    "ended by bare LFs": b"HTTP/1.1 200 OK\nContent-Length: 4\n\n",
    "a bare LF": STATUS + b"X-A: 1\nX-B: 2\r\n" + LENGTH + b"\r\n",
    "a bare CR": STATUS + b"X-A: 1\rX-B: 2\r\n" + LENGTH + b"\r\n",
    "CR CR LF": STATUS + b"X-A: 1\r\r\n" + LENGTH + b"\r\n",
    "a bare LF in the status": b"HTTP/1.1 200 O\nK\r\n" + LENGTH + b"\r\n",
    "NUL in a value": STATUS + b"X-A: a\0b\r\n" + LENGTH + b"\r\n",
    "NUL in the status": b"HTTP/1.1 200 O\0K\r\n" + LENGTH + b"\r\n",
    "a folded line": STATUS + b"X-A: 1\r\n 2\r\n" + LENGTH + b"\r\n",
    "a line folded by a tab": STATUS + b"X-A: 1\r\n\t2\r\n" + LENGTH + b"\r\n",
    "folded at once": STATUS + b" X-A: 1\r\n" + LENGTH + b"\r\n",
    "no colon": STATUS + b"X-A\r\n" + LENGTH + b"\r\n",
    "a space before the colon": STATUS + b"X-A : 1\r\n" + LENGTH + b"\r\n",
    "a space before the colon of the length": STATUS + b"Content-Length : 4\r\n\r\n",
    "no name": STATUS + b": 1\r\n" + LENGTH + b"\r\n",
    "a name that is none": STATUS + b"X(A): 1\r\n" + LENGTH + b"\r\n",
    "a name beyond ASCII": STATUS + b"X-\xe9: 1\r\n" + LENGTH + b"\r\n",
    "a line of a mailbox": STATUS + b"From me: 1\r\n" + LENGTH + b"\r\n",
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + STATUS + LENGTH + b"\r\nfour",
    "an interim answer with a length": b"HTTP/1.1 103 Hints\r\n" + LENGTH + b"\r\n",
    "another protocol from now on": b"HTTP/1.1 101 Switching\r\n" + LENGTH + b"\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n" + LENGTH + b"\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n" + LENGTH + b"\r\n",
    "HTTP/11.1": b"HTTP/11.1 200 OK\r\n" + LENGTH + b"\r\n",
    "http": b"http/1.1 200 OK\r\n" + LENGTH + b"\r\n",
    "ICY": b"ICY 200 OK\r\n" + LENGTH + b"\r\n",
    "a space before all": b" HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n" + LENGTH + b"\r\n",
    "a tab": b"HTTP/1.1\t200 OK\r\n" + LENGTH + b"\r\n",
    "an empty line before all": b"\r\n" + STATUS + LENGTH + b"\r\n",
    "only an empty line": b"\r\n\r\n",
    "no status": b"HTTP/1.1\r\n" + LENGTH + b"\r\n",
    "a status of two": b"HTTP/1.1 20 OK\r\n" + LENGTH + b"\r\n",
    "a status of four": b"HTTP/1.1 2000 OK\r\n" + LENGTH + b"\r\n",
    "a status with a sign": b"HTTP/1.1 +20 OK\r\n" + LENGTH + b"\r\n",
    "a status with an underscore": b"HTTP/1.1 2_0 OK\r\n" + LENGTH + b"\r\n",
    "a status of other digits": "HTTP/1.1 200 OK\r\n".replace("2", "\xb2").encode("latin-1")
    + LENGTH
    + b"\r\n",
    "a status of 600": b"HTTP/1.1 600 OK\r\n" + LENGTH + b"\r\n",
    "a status of 0": b"HTTP/1.1 000 OK\r\n" + LENGTH + b"\r\n",
    **{
        f"a status without a body, {status}": b"HTTP/1.1 %d X\r\n" % status + LENGTH + b"\r\n"
        for status in (204, 205, 304)
    },
    "neither length nor chunks": STATUS + b"X-A: 1\r\n\r\n",
    "no field at all": STATUS + b"\r\n",
    "two lengths": STATUS + LENGTH + b"Content-Length: 5\r\n\r\n",
    "two equal lengths": STATUS + LENGTH + b"content-length: 4\r\n\r\n",
    "lengths in a list": STATUS + b"Content-Length: 4, 4\r\n\r\n",
    "length and chunks": STATUS + LENGTH + CHUNKED + b"\r\n",
    "chunks and length": STATUS + CHUNKED + LENGTH + b"\r\n",
    "chunks twice": STATUS + CHUNKED + CHUNKED + b"\r\n",
    **{
        f"a coding of {coding}": STATUS + b"Transfer-Encoding: %b\r\n\r\n" % coding
        for coding in (b"gzip", b"gzip, chunked", b"chunked;a=b", b"xchunked", b"identity", b"")
    },
    **{
        f"a length of {length!r}": STATUS + b"Content-Length: %b\r\n\r\n" % length
        for length in (
            *(b"-4", b"+4", b"1_0", b"4 4", b"", b"0x4", b"4.0", b"1e1", b"4;", b"\xb2", b"four"),
            *(b"\x0b4", b"4\x0c", b"\xa04", b"9" * 19),
        )
    },
}


@pytest.mark.parametrize("odd", sorted(ODD))
def test_what_is_odd_is_left_to_http_client(odd: str) -> None:
    """It is read, or refused, as it always was."""
    assert read_head(ODD[odd]) is None


@pytest.mark.parametrize("number", [1, 97, 98, 99, 100, 101, 150])
def test_no_more_lines_are_read_than_http_client_reads(number: int) -> None:
    """A head with more lines is refused, whoever reads it."""
    lines = b"".join(b"X-%d: 1\r\n" % at for at in range(number - 1))
    data = STATUS + lines + LENGTH + b"\r\nfour"
    refused = read_all(data, None) is None
    assert (must_agree(data) is None) is refused
    assert refused is (number >= 100)


def test_a_head_is_read_once_it_is_whole() -> None:
    """No beginning of one is taken for all of it, and no more than it is taken."""
    data = STATUS + b"X-A: 1\r\n" + LENGTH + b"\r\n"
    for end in range(len(data)):
        assert read_head(data[:end]) is None
    for rest in (b"", b"four", b"four\r\n\r\n", b"\r\n", STATUS):
        head = read_head(data + rest)
        assert head is not None
        assert head.size == len(data)


def test_bytes_beyond_ascii_are_read_as_latin_1() -> None:
    """As http.client reads them, in values and in the reason; no line ends at one of them."""
    odd = bytes(range(0x80, 0x100)) + b"\x0b\x0c\x1c\x1d\x1e\x7f\x01"
    for data in (
        STATUS + b"X-A: a%bb\r\n" % odd + LENGTH + b"\r\nfour",
        STATUS + b"X-A: %b\r\n" % odd + LENGTH + b"\r\nfour",
        b"HTTP/1.1 200 %b\r\n" % odd + LENGTH + b"\r\nfour",
        STATUS + b"X-A: \xa0 \x85\r\n" + LENGTH + b"\r\nfour",
    ):
        assert must_agree(data) is not None


def test_what_is_remembered_of_heads_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many names nor long ones fill the memory; they are read all the same."""
    names: dict[str, str] = {}
    statuses: dict[str, int] = {}
    monkeypatch.setattr(module, "_names", names)
    monkeypatch.setattr(module, "_statuses", statuses)
    for at in range(2000):
        lines = b"X-%d: 1\r\n%b: 2\r\n" % (at, b"Y" * 1000)
        head = read_head(b"HTTP/1.1 200 Reason %d\r\n" % at + lines + LENGTH + b"\r\n")
        assert head is not None
        assert head.headers == {f"x-{at}": "1", "y" * 1000: "2", "content-length": "4"}
        assert read_head(b"HTTP/1.1 200 %b\r\n" % (b"y" * at) + LENGTH + b"\r\n") is not None
    assert 0 < len(names) <= 1024
    assert 0 < len(statuses) <= 1024
    assert max(map(len, (*names, *statuses))) <= 64


def test_a_value_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only status lines and names are; an answer may repeat what it was asked."""
    names: dict[str, str] = {}
    monkeypatch.setattr(module, "_names", names)
    assert read_head(STATUS + b"X-Echo: a prompt\r\n" + LENGTH + b"\r\n") is not None
    assert names == {"X-Echo": "x-echo", "Content-Length": "content-length"}


GOOD = [
    STATUS + b"Content-Type: application/json\r\nX-Request-ID: a\r\n" + LENGTH + b"\r\nfour",
    STATUS + b"Connection: keep-alive\r\nVary: a\r\nVary: b\r\n" + LENGTH + b"\r\nfour and more",
    STATUS + b"Content-Type: text/event-stream\r\n" + CHUNKED + b"\r\n4\r\nfour\r\n0\r\n\r\n",
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 \r\nConnection: close\r\n" + CHUNKED + b"\r\n4\r\nfo",
]
BITS = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b": ", b",", b";", b"-"),
        *(b"+", b"_", b"0", b"4", b"9", b"\x85", b"\xa0", b"\xb2", b"\xff", b"\x0b", b"\x0c"),
        *(b"\x1c", b"\x7f", b"A", b"close", b"chunked", b"gzip", b"HTTP/1.1", b"HTTP/1.0", b"204"),
        *(b"Content-Length", b"Transfer-Encoding", b"Connection", b"100", b"101", b"304", b"("),
    ]
)
CHANGE = st.tuples(st.integers(0, 200), st.integers(0, 3), st.one_of(BITS, st.binary(max_size=2)))


def changed(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Take bytes out at some places, and put others in."""
    for at, taken, put in changes:
        place = min(at, len(data))
        data = data[:place] + put + data[place + taken :]
    return data


@given(st.sampled_from(GOOD), st.lists(CHANGE, max_size=5))
@example(GOOD[0], [])
def test_a_changed_head_is_never_read_otherwise(
    good: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    """Whatever is changed: it is read as http.client reads it, body and all, or left to that."""
    must_agree(changed(good, changes))


NAMES = st.one_of(
    st.sampled_from(
        [
            *(b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"X-A"),
            *(b"x-a", b"Content-Type", b" X", b"X ", b"", b"From me", b"X\t", b"\xe9", b"Host"),
        ]
    ),
    st.binary(max_size=4),
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *(b" 4", b" 5", b" 4, 4", b" +4", b" chunked", b" Chunked", b" gzip", b" close", b""),
            *(b" keep-alive", b" keep-alive, close", b" identity", b" \xb2", b" 4\t", b" a: b"),
        ]
    ),
    st.binary(max_size=4),
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\r\n", b""])
LINES = st.lists(
    st.tuples(NAMES, st.sampled_from([b":", b":", b":", b" :", b""]), VALUES, ENDS), max_size=6
)
STATUSES = st.one_of(
    st.integers(0, 999).map(lambda status: b"HTTP/1.1 %03d X\r\n" % status),
    st.sampled_from([STATUS, b"HTTP/1.1 200\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 \r\n"]),
)
BODIES = st.sampled_from([b"", b"four", b"four and", b"4\r\nfour\r\n0\r\n\r\n", b"4\r\nfo"])


@given(STATUSES, LINES, st.sampled_from([LENGTH, CHUNKED, b""]), BODIES)
def test_lines_of_any_kind_are_never_read_otherwise(
    status: bytes, lines: list[tuple[bytes, bytes, bytes, bytes]], framing: bytes, body: bytes
) -> None:
    """Names, colons, values and ends, put together at random."""
    made = b"".join(itertools.chain.from_iterable(lines))
    must_agree(status + made + framing + b"\r\n" + body)


@given(st.binary(max_size=60))
def test_any_bytes_are_never_read_otherwise(data: bytes) -> None:
    """Behind a good beginning, too."""
    must_agree(data)
    must_agree(STATUS + data + b"\r\n\r\n")
    must_agree(STATUS + LENGTH + data + b"\r\n\r\nfour")


def test_one_look_brings_no_line_that_http_client_calls_too_long() -> None:
    """The longest value that a look can bring is read alike."""
    value = b"v" * (AT_ONCE - len(STATUS + LENGTH) - 10)
    assert must_agree(STATUS + b"X-A: " + value + b"\r\n" + LENGTH + b"\r\n") is not None


def test_an_adopted_head_frames_the_body_as_a_read_one() -> None:
    """A body of known size, cut short or followed by more; chunks, broken or not."""
    sized, chunked = STATUS + LENGTH + b"\r\n", STATUS + CHUNKED + b"\r\n"
    for data in (
        *(sized, sized + b"fo", sized + b"four", sized + b"four more"),
        *(chunked, chunked + b"4\r\nfo", chunked + b"4\r\nfour\r\n", chunked + b"x\r\n"),
        *(chunked + b"0\r\n\r\n", chunked + b"4\r\nfour\r\n0\r\nX: 1\r\n\r\nmore"),
    ):
        assert must_agree(data) is not None


def test_the_attributes_of_an_adopted_head_are_those_of_a_read_one() -> None:
    """What http.client's own methods go by is set in the place of ``begin()``."""
    for data in (STATUS + LENGTH + b"\r\nfour", STATUS + CHUNKED + b"Connection: close\r\n\r\n"):
        head = read_head(data)
        assert head is not None
        sock, attempt = cast("Any", Ended()), new_attempt()
        read = Answer(sock, method="POST", attempt=attempt, came=data)
        read.begin()
        adopted = Answer(sock, method="POST", attempt=attempt, came=data[head.size :])
        adopted.adopt(head)
        for name in ("status", "code", "version", "chunked", "length", "will_close"):
            assert getattr(adopted, name) == getattr(read, name), name
        assert adopted.chunk_left is None
        assert set(vars(read)) == set(vars(adopted))
