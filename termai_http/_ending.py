"""How a call's end is told to those who listen, and counted."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from . import errors, events
from ._call import Call
from ._job import Job, Outcome
from ._route import host_and_port
from .dialects._errors import request_id
from .metrics import CallRecord, RecordedFailure

__all__ = ["described", "end_event", "record_of", "start_event", "tell_layers"]

_LONGEST_NAME = 200
_INTERRUPTED = "Interrupted"


def described(error: errors.TermaiHttpError, call: Call) -> errors.TermaiHttpError:
    """Say in an error whose it is."""
    error.provider = error.provider or call.provider
    error.model = error.model or call.model
    error.attempts = call.attempts
    error.elapsed = call.elapsed()
    return error


def tell_layers(call: Call, outcome: Outcome[Any] | None) -> None:
    """Tell those layers that asked for it how a call ended; each is told, whatever one raises."""
    known = outcome is not None and (outcome.error is not None or outcome.value is not None)
    endings, call.endings = call.endings, ()
    # Taken out first: what they hold of the call, key and prompt above all, would be a cycle.
    with contextlib.ExitStack() as telling:
        for ending in reversed(endings):
            telling.callback(ending, outcome if known else None)


_kept_place = functools.lru_cache(maxsize=64)(host_and_port)


def start_event(job: Job, call: Call) -> events.Event:
    """Return the event of a call's begin."""
    # Of the base URL, which is one of a few; that of a single request may hold a key.
    host, port = _kept_place(job.base_url) if job.base_url else host_and_port(job.url)
    return events.CallStarted(
        operation=job.operation,
        streaming=job.streaming,
        host=host,
        port=port,
        **call.who(),
    )


def end_event(job: Job, call: Call, outcome: Outcome[Any] | None) -> events.Event:
    """Return the event of a call's end; an outcome of None means that it was torn away."""
    error = _INTERRUPTED if outcome is None else None
    if outcome is not None and outcome.error is not None:
        error = type(outcome.error).__name__
    told: dict[str, Any] = {
        **call.who(),
        "operation": job.operation,
        "streaming": job.streaming,
        "attempts": call.attempts,
        "elapsed": call.elapsed(),
    }
    if error is not None:
        failure = None if outcome is None else outcome.error
        usage = getattr(failure, "usage", None)
        return events.CallFailed(
            error=error,
            status_code=getattr(failure, "status_code", None),
            request_id=getattr(failure, "request_id", None),
            input_tokens=0 if usage is None else usage.input_tokens,
            output_tokens=0 if usage is None else usage.output_tokens,
            cost=getattr(failure, "cost", None),
            **told,
        )
    assert outcome is not None
    response = outcome.response
    return events.CallSucceeded(
        status_code=0 if response is None else response.status_code,
        request_id=None if response is None else request_id(response.headers),
        **_reply_fields(outcome.value, paid=call.attempts > 0),
        complete=not job.streaming or outcome.value is not None,
        **told,
    )


def _reply_fields(reply: Any, *, paid: bool) -> dict[str, Any]:
    usage = getattr(reply, "usage", None)
    fields: dict[str, Any] = {
        "response_model": getattr(reply, "model", None),
        "response_id": getattr(reply, "id", None),
        "finish_reason": getattr(reply, "finish_reason", None),
        "cost": getattr(reply, "cost", None),
    }
    if usage is not None and paid:
        fields.update(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens or 0,
            reasoning_tokens=usage.reasoning_tokens or 0,
        )
    return fields


def record_of(
    call: Call, outcome: Outcome[Any] | None, time_to_first_token: float | None
) -> CallRecord:
    """Sum a call up; an outcome of None means that something else than an error ended it."""
    error = outcome.error if outcome is not None else None
    # A reply that does not fit its output was billed as one that does.
    value = outcome.value if outcome and not error else error
    usage, cost = getattr(value, "usage", None), getattr(value, "cost", None)
    billed = usage is not None or value is None or getattr(error, "maybe_billed", False)
    if not call.attempts:
        # From the cache: nothing was asked for, and nothing billed.
        usage, billed = None, False
    failure = type(error).__name__ if error is not None else None
    if outcome is None:
        failure = _INTERRUPTED
    return CallRecord(
        duration=call.elapsed(),
        success=outcome is not None and error is None,
        retries=max(call.attempts - 1, 0),
        retries_denied=call.retries_denied,
        causes=call.causes[: max(call.attempts - 1, 0)],
        failure=failure,
        input_tokens=usage.input_tokens if usage is not None else 0,
        output_tokens=usage.output_tokens if usage is not None else 0,
        time_to_first_token=time_to_first_token,
        details=None if failure is None else _details(call, failure, error),
        model=call.model and call.model[:_LONGEST_NAME],
        cost=cost,
        cost_unknown=bool(billed and cost is None and call.model),
        pooled=call.pooled,
    )


def _details(call: Call, failure: str, error: errors.TermaiHttpError | None) -> RecordedFailure:
    """Keep of a failed call what a person looks for; what came from outside is cut."""
    request_id = None if error is None else error.request_id
    return RecordedFailure(
        when=call.clock.wall(),
        error=failure,
        status_code=None if error is None else error.status_code,
        request_id=request_id and request_id[:_LONGEST_NAME],
        provider=call.provider,
        model=call.model and call.model[:_LONGEST_NAME],
        attempts=call.attempts,
        elapsed=call.elapsed(),
    )
