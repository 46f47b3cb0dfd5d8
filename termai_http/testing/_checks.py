"""What the checks of all dialects share: problems as values, and attached files.

A check is an iterator of problems, the first of which is the answer; nothing after it is looked
for, so a check may rely on what stands before it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any

import attrs

__all__ = ["EFFORTS", "IMAGES", "Problem", "decoded", "first", "image_type", "split_data_url"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII)


@attrs.frozen(kw_only=True)
class Problem:
    """What is wrong with a request.

    Attributes:
        message: What the vendor says of it.
        param: The parameter at fault, which OpenAI names.
        code: The vendor's code for it.
        status: HTTP status of the answer.
    """

    message: str
    param: str | None = None
    code: str | None = None
    status: int = 400


def first(problems: Iterable[Problem]) -> Problem | None:
    """Return the first problem; None where there is none."""
    return next(iter(problems), None)


def decoded(text: Any) -> bytes | None:
    """Return the bytes of base64 text; None where it is none."""
    try:
        return base64.b64decode(text, validate=True) or None
    except (binascii.Error, TypeError, ValueError):
        return None


def split_data_url(url: str) -> tuple[str, str] | None:
    """Return the media type and the base64 text of a ``data:`` URL; None where it is none."""
    found = _DATA_URL.match(url)
    return None if found is None else (found[1], url[found.end() :])


def image_type(data: bytes) -> str | None:
    """Return the media type that an image's first bytes tell; None where they tell none."""
    for begin, kind in (
        (b"\x89PNG", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
    ):
        if data.startswith(begin):
            return kind
    return "image/webp" if data.startswith(b"RIFF") and data[8:12] == b"WEBP" else None
