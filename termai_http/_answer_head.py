"""The head of an answer, read in one pass where nothing about it is unusual."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["AnswerHead", "Headers", "joined", "read_head"]

_STATUS = re.compile(r"HTTP/1\.1 ([2-5][0-9]{2})(?: [^\0\r\n]*)?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_BODILESS = (204, 205, 304)
_END = b"\r\n\r\n"
_SPACE = " \t"
# http.client counts the empty line as one of its hundred.
_MOST_LINES = 99
# Servers have few lines and names, and spell each as they did before.
_MOST_KNOWN, _LONGEST_KNOWN = 1024, 64
_statuses: dict[str, int] = {}
_names: dict[str, str] = {}


class Headers(dict[str, str]):
    """The fields of an answer by their names in lower case, values of one name joined by commas."""

    __slots__ = ()


class AnswerHead:
    """A head that was read, and how its body is framed (RFC 9112, section 6).

    Attributes:
        status: Its status, 200 to 599.
        headers: Its fields.
        size: Bytes of it, the empty line included.
        length: Bytes of the body; None where it comes in chunks.
        closes: Whether the server closes the connection behind it.
    """

    __slots__ = ("closes", "headers", "length", "size", "status")

    def __init__(self, status: int, headers: Headers, size: int, length: int | None) -> None:
        self.status = status
        self.headers = headers
        self.size = size
        self.length = length
        self.closes = "close" in headers.get("connection", "").lower()


def read_head(data: bytes) -> AnswerHead | None:
    """Read the head that ``data`` begins with (RFC 9112, sections 4 and 5).

    Returns:
        None where anything about it is unusual: it is not whole, not of HTTP/1.1, an interim
        answer, has a line that is folded, broken or bare, or leaves the body's length in doubt.
        ``http.client`` then reads it, or refuses it.
    """
    end = data.find(_END)
    if end < 0:
        return None
    text = data[:end].decode("latin-1")
    lines = text.split("\r\n")
    breaks = len(lines) - 1
    # A bare CR or LF ends a line for some readers, and for others not.
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        return None
    status = _statuses.get(lines[0]) or _read_status(lines[0])
    if not status or breaks > _MOST_LINES:
        return None
    del lines[0]
    headers = Headers()
    for line in lines:
        spelt, colon, value = line.partition(":")
        name = _names.get(spelt) or _read_name(spelt)
        if not name or not colon:
            return None
        value = value.strip(_SPACE)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _framed(status, headers, end + len(_END))


def _framed(status: int, headers: Headers, size: int) -> AnswerHead | None:
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            return None
        return AnswerHead(status, headers, size, None)
    if length is None or not _LENGTH.fullmatch(length):
        return None
    return AnswerHead(status, headers, size, int(length))


def joined(fields: Iterable[tuple[str, str]]) -> Headers:
    """Return the fields of a head that something else read."""
    headers = Headers()
    for spelt, value in fields:
        name, value = spelt.lower(), value.strip(_SPACE)
        if "\n" in value:
            # Folded (RFC 9112, section 5.2).
            parts = value.replace("\r\n", "\n").split("\n")
            value = " ".join(part.strip(_SPACE) for part in parts)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _read_status(line: str) -> int:
    match = _STATUS.fullmatch(line)
    if match is None or int(match[1]) in _BODILESS:
        return 0
    status = int(match[1])
    if len(_statuses) < _MOST_KNOWN and len(line) <= _LONGEST_KNOWN:
        _statuses[line] = status
    return status


def _read_name(spelt: str) -> str:
    if not _NAME.fullmatch(spelt):
        return ""
    name = spelt.lower()
    if len(_names) < _MOST_KNOWN and len(spelt) <= _LONGEST_KNOWN:
        _names[spelt] = name
    return name
