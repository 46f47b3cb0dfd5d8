"""The attempts of one call: exchange, classify, ask the gate, wait, again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from . import errors, events
from ._call import Call
from ._importing import importing
from ._job import CallRequest, Outcome
from ._retry import Gate, Kind, ServerWish, Verdict, classify, server_wish
from .config import RetryConfig
from .dialects._errors import request_id

if TYPE_CHECKING:
    from ._policy import RetryPolicy
    from ._transport import Answered, Transport

__all__ = ["make_attempt", "make_attempts"]

_NO_WISH = ServerWish()
_THROTTLED = (429, 529)


def make_attempts(
    request: CallRequest,
    send: Callable[[CallRequest], Outcome[Any]],
    mounted: RetryPolicy,
    policy: RetryConfig,
) -> Outcome[Any]:
    """Run a call to its end.

    Args:
        request: The call.
        send: Makes one attempt; what it returns without one is the call's end.
        mounted: The policy as the session has it, which is asked to decide.
        policy: How often and how long.
    """
    try:
        return _make_attempts(request, send, mounted, policy)
    finally:
        if request.call.trying:
            # Torn away, or hidden by a layer that answered in its place.
            _tell_failure(request.call, "interrupted", None)


def _make_attempts(
    request: CallRequest,
    send: Callable[[CallRequest], Outcome[Any]],
    mounted: RetryPolicy,
    policy: RetryConfig,
) -> Outcome[Any]:
    call = request.call
    gate: Gate | None = None
    last: Outcome[Any] | None = None
    while True:
        if call.interrupted is not None:
            return Outcome(error=_ended(call))
        outcome = send(request)
        error, attempt, budget = outcome.error, outcome.attempt, outcome.budget
        if error is None:
            if budget is not None:
                budget.give_back()
            if call.tell is not None and attempt is not None:
                _tell_success(call, outcome)
            return outcome
        if attempt is None:
            return outcome if last is None else _refused(last, error)
        response = outcome.response
        wish = _NO_WISH if response is None else server_wish(response.headers, call.clock.wall())
        kind = classify(error, attempt, wish, policy)
        gate = gate or mounted.gate(call, policy, budget)
        verdict = gate.admit(
            kind, wish, throttled=error.status_code in _THROTTLED, forbidden=outcome.why_not
        )
        _annotate(error, call, kind, wish, verdict)
        if call.tell is not None:
            _tell_failure(call, cause_of(kind, error), error)
        if verdict.wait is None:
            if call.interrupted is not None and not isinstance(error, call.interrupted):
                outcome.error = _ended(call)
            return outcome
        last = outcome
        request.fresh = verdict.fresh
        _wait(call, kind, error, verdict.wait)
        if call.interrupted is None and call.left() <= 0:
            return outcome


def make_attempt(transport: Transport, request: CallRequest) -> Outcome[Any]:
    """Make one attempt: the innermost of what lies around one."""
    job, call = request.job, request.call
    outgoing = request.outgoing
    if outgoing is None:
        headers = job.headers if request.pooled else {**job.headers, "Connection": "close"}
        try:
            outgoing = request.outgoing = transport.prepare(
                job.method, job.url, headers, job.body, job.query, for_requests=job.for_requests
            )
        except errors.TermaiHttpError as error:
            return Outcome(error=error.with_traceback(None))
    if call.trying:
        # A layer may make more than one in the place of one.
        _tell_failure(call, "interrupted", None)
    attempt = call.begin_attempt(fresh=request.fresh, pooled=request.pooled, limits=request.limits)
    attempt.where = outgoing.route.host, outgoing.route.port
    if call.tell is not None:
        call.trying = True
        call.tell_of(events.AttemptStarted, attempt=call.attempts)
    answer = transport.exchange(outgoing, attempt, keep_open=request.streaming)
    outcome: Outcome[Any] = Outcome(attempt=attempt, budget=outgoing.route.budget)
    if isinstance(answer, errors.TermaiHttpError):
        outcome.error = answer
        return outcome
    outcome.response = cast("Answered", getattr(answer, "response", answer))
    value = request.read(answer, call)
    if isinstance(value, errors.TermaiHttpError):
        outcome.error = value
    else:
        outcome.value = value
    return outcome


def _refused(last: Outcome[Any], refusal: errors.TermaiHttpError) -> Outcome[Any]:
    """End a call by its own last error where a layer lets it make no further attempt."""
    assert last.error is not None
    if isinstance(refusal, (errors.CallCancelled, errors.ClientClosed)):
        last.error = refusal
    else:
        reason = refusal.message.removesuffix(".")
        last.error.message = f"{last.error.message.removesuffix('.')} (not retried: {reason})."
    return last


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


def _wait(call: Call, kind: Kind, error: errors.TermaiHttpError, wait: float) -> None:
    cause = cause_of(kind, error)
    call.causes += (cause,)
    event = events.RetryScheduled(
        attempt=call.attempts,
        cause=cause,
        wait=wait,
        status_code=error.status_code,
        request_id=error.request_id,
        **call.who(),
    )
    with importing():
        from ._log_events import tell_retry
    tell_retry(event)
    if call.tell is not None:
        call.tell(event)
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


def _tell_success(call: Call, outcome: Outcome[Any]) -> None:
    attempt, response = outcome.attempt, outcome.response
    assert attempt is not None
    status = 0 if response is None else response.status_code
    found = None if response is None else request_id(response.headers)
    number, reused, call.trying = call.attempts, attempt.reused, False
    call.tell_of(
        events.AttemptSucceeded,
        attempt=number,
        status_code=status,
        reused=reused,
        request_id=found,
    )


def _tell_failure(call: Call, cause: str, error: errors.TermaiHttpError | None) -> None:
    call.trying = False
    call.tell_of(
        events.AttemptFailed,
        attempt=call.attempts,
        cause=cause,
        status_code=None if error is None else error.status_code,
        request_id=None if error is None else error.request_id,
        error=None if error is None else type(error).__name__,
    )
