"""A server's certificate, read as far as a person wants to know it.

From its bytes, since Python's ``ssl`` gives no fields of a certificate that it did not verify, and
that is the one whose issuer matters.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
from collections.abc import Iterator
from typing import Any

import attrs

from ._values import Value

__all__ = ["Certificate", "certificates_shown", "read_certificate"]

# X.680 and X.690: the tags that stand in the fields below.
_VERSION, _UTC_TIME, _GENERALIZED_TIME, _BMP_STRING = 0xA0, 0x17, 0x18, 0x1E
# RFC 8446, sections 4 and 5.1.
_HANDSHAKE, _CERTIFICATE, _TLS_1_3 = 22, 11, 0x0304
_NAME_PARTS = {b"\x55\x04\x0a": "organization", b"\x55\x04\x03": "common name"}


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Certificate(Value):
    """What a certificate says of itself; none of it is verified.

    Attributes:
        issuer: Who signed it: organization and common name, as far as they are there.
        subject: Whom it is for, in the same form.
        begins: When it begins to be valid.
        ends: When it ends.
    """

    issuer: str
    subject: str
    begins: dt.datetime
    ends: dt.datetime


@contextlib.contextmanager
def certificates_shown(context: ssl.SSLContext) -> Iterator[list[bytes]]:
    """Collect the peer's own certificate from each handshake made within, refused ones too.

    By what CPython's ``ssl`` has for debugging since 3.8: its public part shows no certificate
    that it refused, and nothing of the package makes a connection that verifies none. Where the
    interpreter lacks it nothing is collected.

    Args:
        context: What TLS is made with, by one thread at a time; one of truststore's shows none.
    """
    shown: list[bytes] = []

    def hear(_: Any, direction: str, version: int, content: int, kind: int, data: bytes) -> None:
        if (direction, content, kind) == ("read", _HANDSHAKE, _CERTIFICATE):
            shown.append(_leaf(data, version == _TLS_1_3))

    listening: Any = context
    listening._msg_callback = hear
    try:
        yield shown
    finally:
        listening._msg_callback = None


def _leaf(message: bytes, has_context: bool) -> bytes:
    """Return the first certificate of a handshake message that holds some, as far as it is one."""
    # Type and length are 4 bytes, a request's context is a byte and what it says, the list's length
    # is 3 and so is that of each certificate.
    at = 4 + (1 + message[4] if has_context else 0) + 3
    length = int.from_bytes(message[at : at + 3], "big")
    return message[at + 3 : at + 3 + length]


def read_certificate(der: bytes | None) -> Certificate | None:
    """Read a certificate; None where there is none, or none that can be read."""
    try:
        (_, whole), *_ = _elements(der or b"")
        (_, signed), *_ = _elements(whole)
        fields = list(_elements(signed))
        if fields[0][0] == _VERSION:
            del fields[0]
        _serial, _algorithm, (_, issuer), (_, validity), (_, subject) = fields[:5]
        begins, ends = (_time(*element) for element in _elements(validity))
        return Certificate(issuer=_name(issuer), subject=_name(subject), begins=begins, ends=ends)
    except (IndexError, UnicodeError, ValueError):
        return None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element.

    Raises:
        IndexError: The data end within one.
    """
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length > 127:
            size = length & 127
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise IndexError("an element is cut off")
        yield tag, data[at : at + length]
        at += length


def _name(data: bytes) -> str:
    found: dict[str, str] = {}
    for _, group in _elements(data):
        for _, pair in _elements(group):
            (_, kind), (tag, value) = _elements(pair)
            if kind in _NAME_PARTS:
                text = value.decode("utf-16-be" if tag == _BMP_STRING else "utf-8", "replace")
                found.setdefault(_NAME_PARTS[kind], text)
    parts = (found[part] for part in _NAME_PARTS.values() if part in found)
    # Whoever sends it chose the text.
    return "".join(char if char.isprintable() else "?" for char in ", ".join(parts)) or "unnamed"


def _time(tag: int, content: bytes) -> dt.datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280, section 4.1.2.5.1: two digits of the year, the century split at 50.
        text = ("20" if text[:2] < "50" else "19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.timezone.utc)
