"""Bodies, over urllib3's responses on bytes: limits, gzip in every chunking, cuts anywhere."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib

import pytest
import requests
import urllib3.exceptions
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict
from urllib3.response import HTTPResponse

from termai_http import InvalidResponseError, ResponseTooLarge, TruncatedResponse
from termai_http._body import pieces, read_body

BODY = '{"text": "Grüße, Grüße, Grüße"}'.encode()
PACKED = gzip.compress(BODY)
MIB = 1024 * 1024


class Wire(io.BytesIO):
    """Bytes that come at most so many at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read1(self, size: int | None = -1) -> bytes:
        """Return what comes next, however much is asked for."""
        return self.read(self._size if size is None or size < 0 else min(size, self._size))


def answer(
    data: bytes, coding: str | None = "gzip", *, size: int = 1 << 30, length: int | None = None
) -> requests.Response:
    """Return an answer whose body is still to be read.

    Args:
        data: What comes.
        coding: ``Content-Encoding``; None sends none.
        size: Most bytes that come at a time.
        length: ``Content-Length``; None sends none.
    """
    headers = {} if coding is None else {"Content-Encoding": coding}
    if length is not None:
        headers["Content-Length"] = str(length)
    response = requests.Response()
    response.status_code = 200
    response.headers = CaseInsensitiveDict(headers)
    response.raw = HTTPResponse(Wire(data, size), headers=headers, preload_content=False)
    return response


@pytest.mark.parametrize("size", range(1, len(PACKED) + 1))
def test_gzip_reads_the_same_in_every_chunking(size: int) -> None:
    """Wherever the wire cuts a compressed body, it decodes to the same bytes."""
    assert read_body(answer(PACKED, size=size), len(BODY)) == BODY


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", " GZip ", "identity", "", None])
def test_codings_that_are_read(coding: str | None) -> None:
    """Gzip in any spelling, and none."""
    sent = PACKED if coding and "gzip" in coding.lower() else BODY
    assert read_body(answer(sent, coding, size=7), len(BODY)) == BODY


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=5),
    st.integers(min_value=0, max_value=30),
    st.integers(min_value=1, max_value=64),
)
def test_members_and_padding_read_the_same_in_every_chunking(
    parts: list[bytes], zeros: int, size: int
) -> None:
    """Several members, empty ones too, with zeros behind each, are one body."""
    packed = b"".join(gzip.compress(part) + b"\0" * zeros for part in parts)
    whole = b"".join(parts)
    assert read_body(answer(packed, size=size), len(whole)) == whole


@pytest.mark.parametrize("size", [1, 5, 1 << 30])
@pytest.mark.parametrize("packed", [PACKED, gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])])
def test_gzip_cut_anywhere_is_never_whole(packed: bytes, size: int) -> None:
    """A compressed body is truncated unless it ends where a member does."""
    ends = {0, len(gzip.compress(BODY[:9])), len(packed)} if packed != PACKED else {0, len(packed)}
    for cut in range(len(packed)):
        if cut not in ends:
            with pytest.raises(TruncatedResponse):
                read_body(answer(packed[:cut], size=size), 1000)
    assert read_body(answer(b"", size=size), 1000) == b""


@pytest.mark.parametrize(
    "packed",
    [
        b"\0" * 20,
        b"\0" + PACKED,
        BODY,
        PACKED + b"xy",
        PACKED + b"\0\0xy",
        PACKED + BODY,
        PACKED[:-8] + b"\xff" * 8,
        PACKED[:-4] + b"\0\0\0\x01",
        zlib.compress(BODY),
        PACKED[:12] + b"\xff" + PACKED[13:],
    ],
)
def test_broken_gzip_is_no_body(packed: bytes) -> None:
    """Wrong headers, data, checksums and what stands behind are told, in every chunking."""
    for size in (1, 3, 1 << 30):
        with pytest.raises(InvalidResponseError) as caught:
            read_body(answer(packed, size=size), 1000)
        assert type(caught.value) is InvalidResponseError
        assert caught.value.maybe_billed


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "deflate", "gzip, gzip", "gzip;q=1", "*", "\x0bx"]
)
def test_a_coding_not_asked_for_is_refused_unread(coding: str) -> None:
    """Nobody guesses what the bytes mean, and none is read."""
    refused = answer(PACKED, coding)
    with pytest.raises(InvalidResponseError, match="not asked for"):
        read_body(refused, 1000)
    assert refused.raw.tell() == 0


@pytest.mark.parametrize("size", [1, 2, 10, len(BODY) - 1, len(BODY), 1 << 30])
@pytest.mark.parametrize(
    ("sent", "coding"),
    [(BODY, None), (PACKED, "gzip"), (gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), "gzip")],
)
def test_the_limit_is_exact(sent: bytes, coding: str | None, size: int) -> None:
    """A body of the limit passes; of one a byte larger exactly the limit is given, and no more."""
    assert read_body(answer(sent, coding, size=size), len(BODY)) == BODY
    for limit in (0, 1, len(BODY) - 1):
        taken = io.BytesIO()
        with pytest.raises(ResponseTooLarge, match=f"body={limit}") as caught:
            taken.writelines(pieces(answer(sent, coding, size=size), limit))
        assert caught.value.maybe_billed
        assert taken.getvalue() == BODY[:limit]


def test_an_announced_length_is_checked_before_a_byte_is_read() -> None:
    """What says that it is too large is refused unread; what is cut short is an error."""
    assert read_body(answer(BODY, None, length=len(BODY)), len(BODY)) == BODY
    large = answer(BODY, None, length=len(BODY))
    with pytest.raises(ResponseTooLarge):
        read_body(large, len(BODY) - 1)
    assert large.raw.tell() == 0
    for coding, sent in (("gzip", PACKED), ("identity", BODY)):
        for missing in (1, len(sent)):
            cut = answer(sent[:-missing], coding, length=len(sent))
            with pytest.raises(urllib3.exceptions.ProtocolError):
                read_body(cut, 1000)


def peak(response: requests.Response, limit: int) -> int:
    """Read a body that is too large; return the most memory that was allocated meanwhile."""
    tracemalloc.start()
    try:
        with pytest.raises(ResponseTooLarge):
            read_body(response, limit)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_fills_no_memory() -> None:
    """What decodes to 64 MiB stops at the limit, in one member and in many."""
    one = gzip.compress(b"0" * 64 * MIB)
    many = gzip.compress(b"0" * 65_000) * 1000
    for packed in (one, many):
        for size in (100, 1 << 30):
            assert peak(answer(packed, size=size), MIB) < 2 * MIB


@pytest.mark.parametrize("size", [2, 3])
def test_small_pieces_fill_no_memory(size: int) -> None:
    """A body that comes in the smallest chunks takes no more room than one that comes at once."""
    limit = MIB // 16
    assert peak(answer(b"x" * (limit + 1), None, size=size), limit) < 2 * limit


def test_what_comes_first_is_given_first() -> None:
    """Pieces are passed on as they arrive, a compressed one as soon as it can be decoded."""
    wire = Wire(BODY, 5)
    response = answer(b"", None)
    response.raw = HTTPResponse(wire, preload_content=False)
    found = pieces(response, 1000)
    assert next(found) == BODY[:5]
    assert wire.tell() == 5
    press = zlib.compressobj(wbits=31)
    first = press.compress(BODY) + press.flush(zlib.Z_SYNC_FLUSH)
    packed = answer(first + press.flush(), size=len(first))
    assert next(pieces(packed, 1000)) == BODY


def test_another_kind_of_response_decodes_itself() -> None:
    """What a test puts in the place of urllib3's response is only counted."""
    response = answer(b"")
    response.raw = io.BytesIO(BODY)
    assert read_body(response, len(BODY)) == BODY
    response = answer(b"")
    response.raw = io.BytesIO(BODY)
    with pytest.raises(ResponseTooLarge):
        read_body(response, len(BODY) - 1)
