"""The attempts of one call: exchange, classify, ask the gate, wait, again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from . import errors, events
from ._call import AttemptLimits, Call
from ._log import log
from ._retry import Gate, Kind, ServerWish, Verdict, classify, server_wish
from ._values import Value
from .config import RetryConfig

if TYPE_CHECKING:
    from ._call import Attempt
    from ._route import Outgoing
    from ._transport import Answered, Transport

__all__ = ["Outcome", "make_attempts"]


T = TypeVar("T")
_NO_WISH = ServerWish()
_THROTTLED = (429, 529)


@attrs.define(kw_only=True, eq=False, repr=False)
class Outcome(Value, Generic[T]):
    """How a call ended: exactly one of ``value`` and ``error`` is there.

    Attributes:
        value: What was read from the answer.
        error: Why there is none.
        response: The last answer, None where there was none.
    """

    value: T | None = None
    error: errors.TermaiHttpError | None = None
    response: Answered | None = None


def make_attempts(
    transport: Transport,
    outgoing: Outgoing,
    call: Call,
    *,
    policy: RetryConfig,
    limits: AttemptLimits,
    pooled: bool,
    fresh: bool,
    read: Callable[[Any], T | errors.TermaiHttpError],
    keep_open: bool,
    listeners: events.Listeners,
) -> Outcome[T]:
    """Run a call to its end.

    Args:
        transport: What carries the attempts.
        outgoing: The request, the same for every attempt.
        call: The call's state.
        policy: How often and how long.
        limits: What bounds one attempt.
        pooled: Whether the shared pool is used.
        fresh: Whether the first attempt must open a connection.
        read: Turns an answer (with ``keep_open`` an ``OpenBody`` for a success) into the call's
            value, or the error it stands for.
        keep_open: Whether the body of a success is left for ``read`` to read.
        listeners: Who hears of it.
    """
    gate: Gate | None = None
    budget = outgoing.route.budget
    while True:
        if call.interrupted is not None:
            return Outcome(error=_ended(call))
        attempt = call.begin_attempt(fresh=fresh, pooled=pooled, limits=limits)
        if listeners.everybody:
            listeners.emit(events.AttemptStarted(attempt=call.attempts, **_who(call)))
        result = transport.exchange(outgoing, attempt, keep_open=keep_open)
        response: Any = None
        value: T | errors.TermaiHttpError
        if isinstance(result, errors.TermaiHttpError):
            value = result
        else:
            response = getattr(result, "response", result)
            value = read(result)
        if not isinstance(value, errors.TermaiHttpError):
            budget.give_back()
            if listeners.everybody:
                _tell_success(listeners, call, attempt, response)
            return Outcome(value=value, response=response)
        wish = _NO_WISH if response is None else server_wish(response.headers, call.clock.wall())
        kind = classify(value, attempt, wish, policy)
        gate = gate or transport.policy.gate(call, policy, budget)
        verdict = gate.admit(kind, wish, throttled=value.status_code in _THROTTLED)
        _annotate(value, call, kind, wish, verdict)
        if listeners.everybody:
            _tell_failure(listeners, call, kind, value)
        if verdict.wait is None:
            ended = call.interrupted is not None and not isinstance(value, call.interrupted)
            return Outcome(error=_ended(call) if ended else value, response=response)
        fresh = verdict.fresh
        _wait(call, kind, value, verdict.wait, listeners)
        if call.interrupted is None and call.left() <= 0:
            return Outcome(error=value, response=response)


def _annotate(
    error: errors.TermaiHttpError, call: Call, kind: Kind, wish: ServerWish, verdict: Verdict
) -> None:
    if kind in (Kind.AMBIGUOUS, Kind.READ_TIMEOUT):
        call.maybe_billed = True
    error.maybe_billed = error.maybe_billed or call.maybe_billed
    if wish.wait is not None:
        error.retry_after = wish.wait
    if verdict.why_not:
        error.message = f"{error.message.removesuffix('.')} ({verdict.why_not})."


def _wait(
    call: Call,
    kind: Kind,
    error: errors.TermaiHttpError,
    wait: float,
    listeners: events.Listeners,
) -> None:
    cause = cause_of(kind, error)
    call.causes += (cause,)
    log.warning(
        "Retrying %s %s after attempt %d failed: %s; waiting %.2f s (request id %s)",
        call.provider or "request",
        call.model or "",
        call.attempts,
        cause,
        wait,
        error.request_id,
    )
    if listeners.everybody:
        listeners.emit(
            events.RetryScheduled(
                attempt=call.attempts,
                cause=cause,
                wait=wait,
                status_code=error.status_code,
                request_id=error.request_id,
                **_who(call),
            )
        )
    if wait > 0:
        call.sleep(wait)


def cause_of(kind: Kind, error: errors.TermaiHttpError) -> str:
    """Name a failure as the metrics count it: a status by its number, the rest by kind."""
    if error.status_code is not None and isinstance(error, errors.APIStatusError):
        return str(error.status_code)
    return kind.value


def _ended(call: Call) -> errors.TermaiHttpError:
    reason = call.interrupted or errors.CallCancelled
    return reason("The call was ended before its next attempt.", phase="wait")


def _who(call: Call) -> dict[str, Any]:
    return {"call_id": call.number, "provider": call.provider, "model": call.model}


def _tell_success(
    listeners: events.Listeners, call: Call, attempt: Attempt, response: Answered | None
) -> None:
    listeners.emit(
        events.AttemptSucceeded(
            attempt=call.attempts,
            status_code=response.status_code if response is not None else 0,
            reused=attempt.reused,
            **_who(call),
        )
    )


def _tell_failure(
    listeners: events.Listeners, call: Call, kind: Kind, error: errors.TermaiHttpError
) -> None:
    listeners.emit(
        events.AttemptFailed(
            attempt=call.attempts,
            cause=cause_of(kind, error),
            status_code=error.status_code,
            request_id=error.request_id,
            **_who(call),
        )
    )
