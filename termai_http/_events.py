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
    "CacheAnswered",
    "CacheMissed",
    "CallFailed",
    "CallStarted",
    "CallSucceeded",
    "CircuitChanged",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionReused",
    "Event",
    "FirstToken",
    "Listener",
    "PacingWaited",
    "RetryScheduled",
    "SlotWaited",
]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Event(Value):
    """Base of all events. None of them holds a key, a prompt or a reply.

    Attributes:
        call_id: Number of the call within this process, the same in all its events; None where no
            call had a part in it.
        provider: ``"openai"``, ``"claude"``, or None for a request of ``RequestHandler``.
        model: The model asked for, None where unknown.
    """

    call_id: int | None
    provider: str | None
    model: str | None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallStarted(Event):
    """A call entered. One of ``CallSucceeded`` and ``CallFailed`` follows, whatever happens.

    Attributes:
        operation: ``"chat"``, ``"embeddings"``, ``"count"``, ``"models"``, ``"health"``, or
            ``"request"`` for one of ``RequestHandler``.
        streaming: Whether its reply is streamed.
        host: Whom it goes to.
        port: At which port.
    """

    operation: str = "chat"
    streaming: bool = False
    host: str = ""
    port: int | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallSucceeded(Event):
    """A call has its reply; a stream ended well, or its reader left it.

    Attributes:
        status_code: HTTP status.
        request_id: The vendor's id, to quote to its support.
        attempts: HTTP exchanges begun; 0 where it was answered from the cache.
        elapsed: Seconds from the call's entry.
        input_tokens: Tokens read, 0 where nothing was said of them, or nothing was asked for.
        output_tokens: Tokens written.
        cached_tokens: Those of the input that the vendor had in its own cache.
        reasoning_tokens: Those of the output that were reasoning.
        cost: US dollars, None where unknown.
        response_model: The model that answered, as the vendor names it; None where there is none.
        response_id: The vendor's id of the reply.
        finish_reason: The vendor's own word.
        complete: Whether all of the reply came; False for a stream that was left before its end,
            whose tokens nobody told.
        operation: As in ``CallStarted``.
        streaming: As in ``CallStarted``.
    """

    status_code: int
    request_id: str | None
    attempts: int
    elapsed: float
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    response_model: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    complete: bool = True
    operation: str = "chat"
    streaming: bool = False


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallFailed(Event):
    """A call ends without a reply.

    Attributes:
        error: The error's class by its name; ``"Interrupted"`` where something else than an error
            ended it, a Ctrl-C for one.
        status_code: HTTP status of the last answer, None where there was none.
        request_id: The vendor's id of the last attempt.
        attempts: HTTP exchanges begun.
        elapsed: Seconds from the call's entry.
        input_tokens: Tokens of a reply that was billed and could not be used.
        output_tokens: The same of those written.
        cost: US dollars of them, None where unknown.
        operation: As in ``CallStarted``.
        streaming: As in ``CallStarted``.
    """

    error: str
    status_code: int | None
    request_id: str | None
    attempts: int
    elapsed: float
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    operation: str = "chat"
    streaming: bool = False


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AttemptStarted(Event):
    """An HTTP exchange begins; ``attempt`` counts from 1.

    One of ``AttemptSucceeded`` and ``AttemptFailed`` follows, whatever happens.
    """

    attempt: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AttemptSucceeded(Event):
    """An HTTP exchange brought a success; of a stream, its first event.

    Attributes:
        attempt: Its number in the call.
        status_code: HTTP status.
        reused: Whether its connection was used before.
        request_id: The vendor's id.
    """

    attempt: int
    status_code: int
    reused: bool
    request_id: str | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AttemptFailed(Event):
    """An HTTP exchange failed.

    Attributes:
        attempt: Its number in the call.
        cause: The word the metrics count it under; ``"interrupted"`` where something else than an
            error ended it, or a layer kept to itself how it ended.
        status_code: HTTP status, None where there was none.
        request_id: The vendor's id.
        error: The error's class by its name.
    """

    attempt: int
    cause: str
    status_code: int | None
    request_id: str | None
    error: str | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RetryScheduled(Event):
    """Another attempt follows after ``wait`` seconds; ``attempt`` is the one that failed."""

    attempt: int
    cause: str
    wait: float
    status_code: int | None
    request_id: str | None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SlotWaited(Event):
    """An attempt waited ``seconds`` for a slot; ``got`` tells whether it has one now."""

    seconds: float
    got: bool


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ConnectionOpened(Event):
    """A connection was opened for an attempt, in ``seconds``: DNS, TCP, proxy and TLS."""

    host: str
    port: int | None
    seconds: float


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ConnectionReused(Event):
    """An attempt took an idle connection."""

    host: str
    port: int | None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ConnectionClosed(Event):
    """A connection was closed.

    Attributes:
        host: Whom it led to.
        port: At which port.
        reason: ``"evicted"``: while idle, too old, too many or dropped by the server;
            ``"discarded"``: in use, after a failure or as either side wished.
    """

    host: str
    port: int | None
    reason: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class FirstToken(Event):
    """The first part of a streamed reply came, ``elapsed`` seconds after the call's entry."""

    elapsed: float


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CircuitChanged(Event):
    """The circuit breaker of ``base_url`` is ``"open"``, ``"half-open"`` or ``"closed"`` now."""

    base_url: str
    state: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PacingWaited(Event):
    """An attempt was held back ``seconds`` by pacing; ``why`` names what asked for it."""

    seconds: float
    why: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CacheAnswered(Event):
    """A call was answered from the cache; ``shared`` where an equal call was under way."""

    shared: bool


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CacheMissed(Event):
    """A call found nothing in the cache."""


Listener: TypeAlias = Callable[[Event], object]
