"""The records of what happens in a call, which ``events`` loads when somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from ._values import Value

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "AttemptSucceeded",
    "CallFailed",
    "CallStarted",
    "CallSucceeded",
    "Event",
    "Listener",
    "RetryScheduled",
]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Event(Value):
    """Base of all events.

    Attributes:
        call_id: Number of the call within this process, the same in all its events.
        provider: ``"openai"``, ``"claude"``, or None for a request of ``RequestHandler``.
        model: The model asked for, None where unknown.
    """

    call_id: int
    provider: str | None
    model: str | None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallStarted(Event):
    """A call entered."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallSucceeded(Event):
    """A call has its reply. ``elapsed`` in seconds."""

    status_code: int
    request_id: str | None
    attempts: int
    elapsed: float


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallFailed(Event):
    """A call ends with an error, whose class is named in ``error``. ``elapsed`` in seconds."""

    error: str
    status_code: int | None
    request_id: str | None
    attempts: int
    elapsed: float


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AttemptStarted(Event):
    """An HTTP exchange begins; ``attempt`` counts from 1."""

    attempt: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AttemptSucceeded(Event):
    """An HTTP exchange brought a success."""

    attempt: int
    status_code: int
    reused: bool


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AttemptFailed(Event):
    """An HTTP exchange failed; ``cause`` is the word the metrics count it under."""

    attempt: int
    cause: str
    status_code: int | None
    request_id: str | None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RetryScheduled(Event):
    """Another attempt follows after ``wait`` seconds; ``attempt`` is the one that failed."""

    attempt: int
    cause: str
    wait: float
    status_code: int | None
    request_id: str | None


Listener: TypeAlias = Callable[[Event], object]
