"""Bodies: read under a limit, decoded, and never taken for whole when they were cut short."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from urllib3.response import HTTPResponse

from .errors import InvalidResponseError, ResponseTooLarge, TruncatedResponse

if TYPE_CHECKING:
    import requests

__all__ = ["WHOLE", "pieces", "read_body", "wait_for_piece"]

_CHUNK = 65536
WHOLE = _CHUNK
"""Bytes of a piece after which another one may be at hand."""
_MOST_AT_ONCE = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class Source(Protocol):
    """An answer whose body was not read, past requests."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its fields, names in lower case."""

    @property
    def length(self) -> int | None:
        """Bytes of the body as they were announced; None where nothing was."""

    def raw_pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives, in its content coding."""


def read_body(response: requests.Response | Source, limit: int) -> bytes:
    """Read a whole body, decoded of its content coding.

    Args:
        response: An answer whose body was not read.
        limit: Most bytes, decoded.

    Raises:
        ResponseTooLarge: It is larger.
        InvalidResponseError: Its content coding is unknown or broken.
        TruncatedResponse: Its content coding ends too early.
    """
    raw: Any = getattr(response, "raw", None)
    known = getattr(response, "length", None) if raw is None else _length_of(raw)
    if known is not None and "content-encoding" not in response.headers:
        if known > limit:
            raise _too_large(limit)
        if known <= _MOST_AT_ONCE and raw is not None:
            return cast("bytes", raw.read(decode_content=False))
    # Room is made for what comes, not for what is announced; and not in a list to join: a server
    # may send chunks so small that their objects fill the memory.
    body = io.BytesIO()
    for piece in pieces(response, limit):
        body.write(piece)
    return body.getvalue()


def pieces(response: requests.Response | Source, limit: int) -> Iterator[bytes]:
    """Yield a body as it arrives, decoded of its content coding; raises as ``read_body``."""
    coding = response.headers.get("content-encoding", "")
    raw = getattr(response, "raw", None)
    if raw is None:
        return _decoded(cast("Source", response).raw_pieces(), coding, limit)
    if isinstance(raw, HTTPResponse):
        return _decoded(_raw_pieces(raw), coding, limit)
    # What a test put in the place of urllib3's response decodes itself, if at all.
    return _decoded(cast("requests.Response", response).iter_content(_CHUNK), "", limit)


def wait_for_piece(response: requests.Response | Source, seconds: float) -> bool:
    """Wait, so many seconds at most, until a part of the body came or ended; tell whether.

    True, too, where that cannot be told: of what a test put in the place of urllib3's response.

    Raises:
        OSError: There is no time left, or the socket is closed; so does a read.
    """
    raw = getattr(response, "raw", None)
    source: Any = response if raw is None else getattr(raw, "_fp", None)
    wait = getattr(source, "wait", None)
    return wait is None or bool(wait(seconds))


def _length_of(raw: Any) -> int | None:
    return getattr(raw, "length_remaining", None)


def _decoded(raw: Iterable[bytes], coding: str, limit: int) -> Iterator[bytes]:
    decoder = _decoder(coding) if coding else None
    left = limit
    for piece in raw:
        for part in decoder.feed(piece, left) if decoder else (piece,):
            if len(part) > left:
                yield part[:left]
                raise _too_large(limit)
            left -= len(part)
            yield part
    if decoder is not None:
        decoder.finish()


def _raw_pieces(raw: HTTPResponse) -> Iterator[bytes]:
    # Never read(): it waits until it has as many bytes as it was asked for.
    while piece := raw.read1(_CHUNK, decode_content=False):
        yield piece


def _too_large(limit: int) -> ResponseTooLarge:
    return ResponseTooLarge(
        f"The reply is larger than Limits(body={limit}) bytes.", maybe_billed=True
    )


def _decoder(coding: str) -> _Gunzip | None:
    name = coding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip"):
        return _Gunzip()
    raise InvalidResponseError(
        "The answer has a content coding that was not asked for.", maybe_billed=True
    )


class _Gunzip:
    """Gunzips piece by piece, so that a small body cannot fill the memory (RFC 1952)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    def feed(self, data: bytes, most: int) -> Iterator[bytes]:
        """Yield what ``data`` decodes to, at most one byte more than ``most`` at a time."""
        while data:
            if self._member.eof:
                # Zeros may pad the end of a member.
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._member = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                decoded = self._member.decompress(data, min(_CHUNK, most + 1))
            except zlib.error:
                raise InvalidResponseError(
                    "The answer's compression is broken.", maybe_billed=True
                ) from None
            data = self._member.unconsumed_tail or self._member.unused_data
            most -= len(decoded)
            if decoded:
                yield decoded

    def finish(self) -> None:
        """Check that the last member was complete; an empty body is none, and complete."""
        if self._begun and not self._member.eof:
            raise TruncatedResponse("The answer's compressed body was cut short.")
