"""Faults, as frozen values: what the loopback server does in place of a good reply."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = [
    "CloseAfterRead",
    "Delay",
    "EmptyBody",
    "Fault",
    "Html",
    "InvalidJson",
    "Raw",
    "ResetAfterRead",
    "ResetBeforeRead",
    "Silent",
    "Status",
    "Text",
    "Trickle",
    "TrickleHeaders",
    "TruncatedBody",
    "TruncatedChunked",
]


def _seconds(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{attribute.name} must be seconds of at least 0, not {value!r}")


def _positive(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{attribute.name} must be a whole number of at least 1, not {value!r}")


def _status(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int) or not 200 <= value <= 999:
        raise ValueError(f"status must be from 200 to 999, not {value!r}")


@attrs.frozen
class Fault:
    """Base of all faults; by itself a good reply."""


@attrs.frozen
class Text(Fault):
    """A good reply that says ``text``."""

    text: str


@attrs.frozen
class Status(Fault):
    """An answer with a status.

    Args:
        status: HTTP status.
        body: Object, text or bytes; None means the vendor's own error for the status.
        retry_after: ``Retry-After``, as it goes out; None sends none.
        headers: Headers to add.
        code: The error's code in the vendor's own body.
    """

    status: int = attrs.field(validator=_status)
    body: Mapping[str, Any] | str | bytes | None = attrs.field(default=None, kw_only=True)
    retry_after: float | str | None = attrs.field(default=None, kw_only=True)
    headers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    code: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class Delay(Fault):
    """A good reply after ``seconds``."""

    seconds: float = attrs.field(validator=_seconds)


@attrs.frozen
class ResetBeforeRead(Fault):
    """The next new connection is reset before its request is read."""


@attrs.frozen
class ResetAfterRead(Fault):
    """The request is read, and the connection reset."""


@attrs.frozen
class CloseAfterRead(Fault):
    """The request is read, and the connection closed in good order."""


@attrs.frozen(kw_only=True)
class TruncatedBody(Fault):
    """A good reply whose body ends ``missing`` bytes before its Content-Length."""

    missing: int = attrs.field(default=10, validator=_positive)


@attrs.frozen
class TruncatedChunked(Fault):
    """A good reply in chunks, the last of which never comes."""


@attrs.frozen
class InvalidJson(Fault):
    """A 200 whose body is almost JSON."""


@attrs.frozen
class Html(Fault):
    """A 200 with a page, as a captive portal answers."""


@attrs.frozen
class EmptyBody(Fault):
    """A 200 without a body."""


@attrs.frozen(kw_only=True)
class Trickle(Fault):
    """A good reply whose body comes in pieces of ``size`` bytes every ``interval`` seconds."""

    interval: float = attrs.field(validator=_seconds)
    size: int = attrs.field(default=1, validator=_positive)


@attrs.frozen(kw_only=True)
class TrickleHeaders(Fault):
    """A good reply whose header block comes byte by byte, one every ``interval`` seconds."""

    interval: float = attrs.field(validator=_seconds)


@attrs.frozen
class Silent(Fault):
    """The request is read and never answered; the connection stays open."""


@attrs.frozen
class Raw(Fault):
    """Exactly these bytes; then the connection closes, unless ``close`` is False."""

    data: bytes
    close: bool = True
