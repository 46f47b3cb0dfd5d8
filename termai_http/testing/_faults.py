"""Replies and faults, as frozen values: what the loopback server answers in place of its usual.

A fault for a streamed reply does to a reply in one piece what comes nearest, and the other way
round; each says what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = [
    "ChosenReply",
    "CloseAfterRead",
    "CloseDelimited",
    "CutAfter",
    "Delay",
    "EmptyBody",
    "ErrorEvent",
    "Failed",
    "Fault",
    "Html",
    "InvalidJson",
    "NoEnd",
    "Paced",
    "Raw",
    "Refusal",
    "ResetAfterRead",
    "ResetBeforeRead",
    "Silent",
    "Stall",
    "Status",
    "Text",
    "ToolCalls",
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


def _not_negative(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{attribute.name} must be a whole number of at least 0, not {value!r}")


def _one_of(*known: str) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in known:
            raise ValueError(f"{attribute.name} must be one of {', '.join(known)}, not {value!r}")

    return check


def _status(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int) or not 200 <= value <= 999:
        raise ValueError(f"status must be from 200 to 999, not {value!r}")


@attrs.frozen
class Fault:
    """Base of all faults."""


@attrs.frozen
class ChosenReply(Fault):
    """Base of the replies that a test chooses: scripted, or returned by the server's ``reply``."""


@attrs.frozen
class Text(ChosenReply):
    """A good reply that says ``text``.

    Args:
        text: What it says.
        finish: Why it ends there: ``"stop"``, ``"length"`` or ``"content_filter"``, said in each
            dialect's own words.
    """

    text: str = attrs.field(validator=attrs.validators.instance_of(str))
    finish: str = attrs.field(
        default="stop", kw_only=True, validator=_one_of("stop", "length", "content_filter")
    )


@attrs.frozen(init=False)
class ToolCalls(ChosenReply):
    """A good reply that asks for tools: ``ToolCalls(("get_weather", {"city": "Oslo"}))``.

    Args:
        calls: Each the name of a tool and its arguments: an object, or the text that the model
            wrote, which may be no JSON. A name alone is a call without arguments.
        text: What the model says before it.
    """

    calls: tuple[tuple[str, Mapping[str, Any] | str], ...]
    text: str

    def __init__(self, *calls: str | tuple[str, Mapping[str, Any] | str], text: str = "") -> None:
        named = tuple((call, {}) if isinstance(call, str) else call for call in calls)
        if not named:
            raise ValueError("calls must be one call at least")
        for call in named:
            pair = isinstance(call, tuple) and len(call) == 2 and isinstance(call[0], str)
            if not pair or not isinstance(call[1], (Mapping, str)):
                raise ValueError(f"a call must be a name and its arguments, not {call!r}")
        self.__attrs_init__(named, text)


@attrs.frozen
class Refusal(ChosenReply):
    """A good reply in which the model refuses, with ``text`` as its reason."""

    text: str = "I cannot help with that."


@attrs.frozen(kw_only=True)
class Failed(ChosenReply):
    """A 200 that holds an error: OpenAI responses' ``status: "failed"``, elsewhere a bare error.

    Args:
        code: The error's code.
        message: What went wrong.
    """

    code: str = "server_error"
    message: str = "The model failed to answer."


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


@attrs.frozen
class Paced(Fault):
    """A good stream with ``interval`` seconds between its events; a reply in one piece is good."""

    interval: float = attrs.field(validator=_seconds)


@attrs.frozen
class CutAfter(Fault):
    """A stream that breaks off after ``events`` events; of a reply in one piece half comes.

    Until the first piece of text a client may try again: one event stands before it in OpenAI's
    chat completions, four in its responses, three in Claude's messages.

    Args:
        events: How many events come whole.
        how: ``"close"``: the connection closes, the last chunk never comes. ``"reset"``: it is
            reset. ``"inside"``: it closes in the middle of the next event. ``"end"``: the body
            ends in good order, as behind a proxy whose upstream went away.
    """

    events: int = attrs.field(validator=_not_negative)
    how: str = attrs.field(
        default="close", kw_only=True, validator=_one_of("close", "reset", "inside", "end")
    )


@attrs.frozen
class ErrorEvent(Fault):
    """A stream that the vendor's own error event ends; a reply in one piece is an error status.

    Args:
        after: How many events come before it.
        type: The error's type; None means ``overloaded_error`` for Claude, ``server_error`` for
            OpenAI.
        code: The error's code; None for none.
        message: What went wrong.
    """

    after: int = attrs.field(default=0, validator=_not_negative)
    type: str | None = attrs.field(default=None, kw_only=True)
    code: str | None = attrs.field(default=None, kw_only=True)
    message: str = attrs.field(default="Overloaded", kw_only=True)


@attrs.frozen
class Stall(Fault):
    """A stream that falls silent after ``after`` events, until the client goes away.

    Of a reply in one piece half comes before the silence.
    """

    after: int = attrs.field(default=0, validator=_not_negative)


@attrs.frozen(kw_only=True)
class NoEnd(Fault):
    """A stream whose body ends in good order, but without the dialect's end.

    A reply in one piece has no finish reason.

    Args:
        finished: True leaves out only the end mark: the finish reason comes. OpenAI responses
            have no such thing; there the last event is missing either way.
    """

    finished: bool = False


@attrs.frozen
class CloseDelimited(Fault):
    """A good reply or stream without a length, which the end of the connection ends."""
