"""Spans made of events: one a call, and one an attempt inside it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import attrs

from .. import _events as events
from .._call import Clock
from .._fork import take_part
from .._importing import importing
from .._version import __version__
from ..errors import ConfigurationError
from . import _tracing_names as names

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["Spans"]

# Calls whose end was never told, as that of a stream which outlived its listener, must not pile up.
_MOST = 10_000
# Of what a server says.
_LONGEST = 200
# Tells, within a context, in which call it is.
_CALL = "termai_http.call"
_OF_EVENT = {field.name for field in attrs.fields(events.Event)}


def _load() -> Any:
    with importing():
        try:
            import opentelemetry.context
            import opentelemetry.trace
        except ImportError:
            raise ConfigurationError(
                'Tracing needs opentelemetry-api: pip install "termai-http[otel]"'
            ) from None
    return opentelemetry


class _Traced:
    """A call that is under way, and its attempt.

    Attributes:
        span: The call's.
        before: The caller's context.
        context: The call's, which is attached until the call, of a stream its begin, ended.
        where: Whom it goes to, as attributes.
        attempt: The span of the attempt; None between two.
        attempt_before: The context in which the attempt began, and which comes back at its end.
        streaming: Whether its reply is streamed.
        begun: Whether a part of a streamed reply came.
        began: When the call did, in nanoseconds since the epoch.
        thread: Which one began it.
    """

    __slots__ = (
        *("attempt", "attempt_before", "before", "began", "begun", "context", "span"),
        *("streaming", "thread", "where"),
    )

    def __init__(
        self,
        span: Span,
        before: Context,
        context: Context,
        where: dict[str, Any],
        streaming: bool,
        began: int,
    ) -> None:
        self.span = span
        self.before = before
        self.context = context
        self.where = where
        self.streaming = streaming
        self.began = began
        self.attempt: Span | None = None
        self.attempt_before = context
        self.begun = False
        self.thread = threading.get_ident()


class Spans:
    """Makes the spans of what it hears. Safe from any thread; takes no lock of its own.

    Contexts are undone by attaching the one before, and only where one of the call is still
    attached. A token of OpenTelemetry's may be lost to a Ctrl-C, and undone elsewhere it leaves an
    error in the log.

    Args:
        provider: Whose spans they are; None means the global provider, also one set later.
        clock: Time.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """

    def __init__(self, provider: TracerProvider | None, clock: Clock) -> None:
        self._clock = clock
        api = _load()
        self._trace: Any = api.trace
        self._now: Any = api.context
        self._tracer = api.trace.get_tracer("termai_http", __version__, provider)
        self._client = api.trace.SpanKind.CLIENT
        self._calls: dict[int | None, _Traced] = {}
        self._ways: dict[type[events.Event], Any] = {
            events.CallStarted: self._begin,
            events.CallSucceeded: self._succeed,
            events.CallFailed: self._fail,
            events.AttemptStarted: self._begin_attempt,
            events.AttemptSucceeded: self._succeed_attempt,
            events.AttemptFailed: self._fail_attempt,
            events.FirstToken: self._begin_reply,
        }
        for name in names.EVENTS:
            self._ways[getattr(events, name)] = self._note
        take_part(self)

    def locks(self) -> list[Any]:
        """Return no lock: there is none."""
        return []

    def start_over(self) -> None:
        """Go on in a forked child, where the spans of the parent's calls are not ours to end."""
        here = threading.get_ident()
        # Of the thread that forked the contexts are still to be undone.
        self._calls = {number: one for number, one in self._calls.items() if one.thread == here}
        for one in self._calls.values():
            one.span = self._trace.INVALID_SPAN
            one.attempt = None if one.attempt is None else self._trace.INVALID_SPAN

    def hear(self, event: events.Event) -> None:
        """Take an event in."""
        way = self._ways.get(type(event))
        if way is not None:
            way(event)

    def recording(self, number: int) -> Span | None:
        """Return the span of a call that is under way; None where nothing is recorded of it."""
        traced = self._calls.get(number)
        return traced.span if traced is not None and traced.span.is_recording() else None

    def context(self, number: int) -> Context | None:
        """Return the context of a call that is under way; None where there is none."""
        traced = self._calls.get(number)
        return None if traced is None else traced.context

    def _leave(self, number: int | None, before: Context) -> None:
        # Also where somebody left one attached that was made of ours.
        if self._now.get_value(_CALL) == number:
            self._now.attach(before)

    def _begin(self, event: events.CallStarted) -> None:
        before = self._now.get_current()
        said = names.OPERATIONS.get(event.operation, event.operation)
        where = _address(event)
        span = self._tracer.start_span(
            f"{said} {event.model}" if event.model else said,
            before,
            self._client,
            {**_asked(event, said), **where},
        )
        if span.get_span_context() == self._trace.get_current_span(before).get_span_context():
            # There is no SDK, and so nothing to change for whoever looks at the context.
            return
        context = self._trace.set_span_in_context(span, before)
        context = self._now.set_value(_CALL, event.call_id, context)
        # First where it is found again: a Ctrl-C may come after any step.
        began = int(self._clock.wall() * 1e9)
        self._calls[event.call_id] = _Traced(span, before, context, where, event.streaming, began)
        self._now.attach(context)
        while len(self._calls) > _MOST:
            self._forget_one()

    def _forget_one(self) -> None:
        # Where another thread changes it meanwhile, that one looks, too.
        with contextlib.suppress(StopIteration, RuntimeError):
            traced = self._calls.pop(next(iter(self._calls)), None)
            if traced is not None:
                traced.span.set_attribute(names.END_MISSED, True)
                traced.span.end()

    def _begin_attempt(self, event: events.AttemptStarted) -> None:
        traced = self._calls.get(event.call_id)
        if traced is None or not traced.span.is_recording():
            return
        self._end_attempt(event, traced)
        # What a layer of the user's attached around the attempt stays between the two.
        before = self._now.get_current()
        inside = self._now.get_value(_CALL, before) == event.call_id
        again = {names.HTTP_RESEND_COUNT: event.attempt - 1} if event.attempt > 1 else {}
        parent = before if inside else traced.context
        span = self._tracer.start_span(
            "attempt", parent, self._client, {names.ATTEMPT: event.attempt, **again, **traced.where}
        )
        traced.attempt, traced.attempt_before = span, before
        self._now.attach(self._trace.set_span_in_context(span, parent))

    def _end_attempt(self, event: events.Event, traced: _Traced) -> None:
        span, traced.attempt = traced.attempt, None
        if span is not None:
            self._leave(event.call_id, traced.attempt_before)
            span.end()

    def _succeed_attempt(self, event: events.AttemptSucceeded) -> None:
        traced = self._calls.get(event.call_id)
        if traced is not None and traced.attempt is not None:
            _set(
                traced.attempt,
                {
                    names.HTTP_STATUS: event.status_code,
                    names.REUSED: event.reused,
                    names.REQUEST_ID: event.request_id,
                },
            )
            self._end_attempt(event, traced)
        if traced is not None and traced.streaming:
            # The caller reads it from here on, in a time and a context of its own.
            self._leave(event.call_id, traced.before)

    def _fail_attempt(self, event: events.AttemptFailed) -> None:
        traced = self._calls.get(event.call_id)
        if traced is not None and traced.attempt is not None:
            status = event.status_code
            said = str(status) if status is not None and status >= 400 else event.error
            _set(
                traced.attempt,
                {
                    names.HTTP_STATUS: status,
                    names.CAUSE: event.cause,
                    names.REQUEST_ID: event.request_id,
                },
            )
            self._blame(traced.attempt, said or event.cause)
            self._end_attempt(event, traced)

    def _blame(self, span: Span, error: str) -> None:
        span.set_attribute(names.ERROR_TYPE, error)
        span.set_status(self._trace.StatusCode.ERROR)

    def _begin_reply(self, event: events.FirstToken) -> None:
        traced = self._calls.get(event.call_id)
        if traced is not None:
            traced.begun = True
            # What comes from a cache has no attempt.
            self._leave(event.call_id, traced.before)
            _set(traced.span, {names.TIME_TO_FIRST_CHUNK: event.elapsed})

    def _note(self, event: events.Event) -> None:
        traced = self._calls.get(event.call_id)
        if traced is None or not traced.span.is_recording():
            return
        said = {
            field.name: value
            for field in attrs.fields(type(event))
            if field.name not in _OF_EVENT and (value := getattr(event, field.name)) is not None
        }
        (traced.attempt or traced.span).add_event(names.EVENTS[type(event).__name__], said)

    def _succeed(self, event: events.CallSucceeded) -> None:
        traced = self._end(event)
        if traced is None:
            return
        reason = event.finish_reason if event.complete else "error"
        _set(
            traced.span,
            {
                names.RESPONSE_MODEL: event.response_model,
                names.RESPONSE_ID: event.response_id,
                names.FINISH_REASONS: None if reason is None else (reason[:_LONGEST],),
                names.CACHED_TOKENS: event.cached_tokens or None,
                names.REASONING_TOKENS: event.reasoning_tokens or None,
                names.CACHED: True if event.attempts == 0 else None,
                names.STREAM_LEFT: None if event.complete else True,
                **_spent(event),
            },
        )
        # Of a stream that was dropped it is told later.
        traced.span.end(None if event.complete else traced.began + int(event.elapsed * 1e9))

    def _fail(self, event: events.CallFailed) -> None:
        traced = self._end(event)
        if traced is None:
            return
        reasons = ("error",) if traced.begun else None
        _set(traced.span, {names.FINISH_REASONS: reasons, **_spent(event)})
        self._blame(traced.span, event.error)
        traced.span.end()

    def _end(self, event: events.Event) -> _Traced | None:
        traced = self._calls.get(event.call_id)
        if traced is not None:
            # First of all: a Ctrl-C may come after any step.
            self._leave(event.call_id, traced.before)
            self._end_attempt(event, traced)
        return self._calls.pop(event.call_id, None)


def _asked(event: events.CallStarted, said: str) -> dict[str, Any]:
    """Return as attributes what is asked of whom."""
    asked: dict[str, Any] = {}
    if event.operation != names.NO_OPERATION:
        asked[names.OPERATION] = said
    if event.provider is not None:
        asked[names.PROVIDER] = names.PROVIDERS.get(event.provider, event.provider)
    if event.model:
        asked[names.REQUEST_MODEL] = event.model
    if event.streaming:
        asked[names.REQUEST_STREAM] = True
    return asked


def _address(event: events.CallStarted) -> dict[str, Any]:
    if not event.host:
        return {}
    port = {} if event.port is None else {names.SERVER_PORT: event.port}
    return {names.SERVER_ADDRESS: event.host, **port}


def _spent(event: events.CallSucceeded | events.CallFailed) -> dict[str, Any]:
    """Return as attributes what the end of a call tells, however it ended."""
    counted = event.input_tokens or event.output_tokens
    return {
        names.INPUT_TOKENS: event.input_tokens if counted else None,
        names.OUTPUT_TOKENS: event.output_tokens if counted else None,
        names.REQUEST_ID: event.request_id,
        names.ATTEMPTS: event.attempts,
        names.COST: event.cost,
    }


def _set(span: Span, attributes: dict[str, Any]) -> None:
    if span.is_recording():
        span.set_attributes(
            {
                name: value[:_LONGEST] if isinstance(value, str) else value
                for name, value in attributes.items()
                if value is not None
            }
        )
