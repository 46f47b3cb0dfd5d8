"""OpenTelemetry: a span for each call, and one inside it for each attempt.

``client.listen(Tracing())`` is enough for that. As a layer, ``HttpClientConfig(layers=(Tracing(),
...))``, it can do two things more, which need the request itself, and only on explicit wish: put
prompts and replies into the spans, and tell the vendor which trace a request belongs to.

The names in the spans are those of OpenTelemetry's conventions for generative AI, which are not
stable yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from .._call import Clock
from .._importing import importing
from .._log import log
from .._values import Value
from ..errors import ConfigurationError
from ..layers import BuiltLayer, Layer
from ._tracing_spans import Spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span, TracerProvider

    from .._events import Event
    from .._job import CallRequest, Outcome
    from .._layer import Send
    from ..config import HttpClientConfig

__all__ = ["Tracing"]


def _check_flag(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name} must be True or False, not {value!r}.")


def _check_provider(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(getattr(value, "get_tracer", None)):
        raise ConfigurationError(
            f"tracer_provider must be a TracerProvider or None, not {type(value).__name__}."
        )


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Tracing(Value, Layer):
    """Spans of OpenTelemetry for calls and attempts, as a listener or as a layer.

    The span of a call is a child of the caller's current one, those of its attempts are children
    of it, and what instruments ``requests`` or ``urllib3`` comes to lie inside the attempts. It
    runs from the call's entry to its reply, of a stream to its last event. While somebody reads a
    stream, the current span is the reader's own.

    With a client that has many calls under way, a span whose end was never told is ended after
    10,000 more calls began.

    Args:
        tracer_provider: Whose spans they are; None means the global provider.
        content: Whether prompts and replies are put into the spans. Only as a layer.
        propagate: Whether ``traceparent`` and ``tracestate`` go out with each attempt, so that a
            gateway of yours can go on with the trace; baggage never does. Only as a layer.

    Raises:
        ConfigurationError: A value is wrong, or ``opentelemetry-api`` is not installed.
    """

    name: ClassVar[str] = "tracing"

    tracer_provider: TracerProvider | None = attrs.field(default=None, validator=_check_provider)
    content: bool = attrs.field(default=False, validator=_check_flag)
    propagate: bool = attrs.field(default=False, validator=_check_flag)
    _spans: Spans = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # Once what it is made of was looked at.
        object.__setattr__(self, "_spans", Spans(self.tracer_provider, Clock()))

    def __call__(self, event: Event) -> None:
        """Hear an event, as a listener.

        Raises:
            ConfigurationError: ``content`` or ``propagate`` is wished, which a listener cannot do.
        """
        self.check_listening()
        self._spans.hear(event)

    def check_listening(self) -> None:
        """Refuse to be a listener where only a layer can do what is wished.

        Raises:
            ConfigurationError: It is one for a layer.
        """
        wished = [name for name in ("content", "propagate") if getattr(self, name)]
        if wished:
            raise ConfigurationError(
                f"A listener sees no request: Tracing({wished[0]}=True) must be a layer, "
                "HttpClientConfig(layers=(Tracing(...),))."
            )

    def build(self, config: HttpClientConfig, clock: Clock) -> BuiltLayer:
        """Make a client's own layer of it."""
        spans = Spans(self.tracer_provider, clock)
        if self.content or self.propagate:
            return _WithRequest(spans, content=self.content, propagate=self.propagate)
        return _Listening(spans)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.tracer_provider, self.content, self.propagate)


def _again(provider: Any, content: bool, propagate: bool) -> Tracing:
    return Tracing(tracer_provider=provider, content=content, propagate=propagate)


class _Listening(BuiltLayer):
    """Makes spans of the events."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def hear(self, event: Event) -> None:
        self._spans.hear(event)


class _WithRequest(_Listening):
    """Beside that, reads the request into the span, and writes the trace into the request."""

    def __init__(self, spans: Spans, *, content: bool, propagate: bool) -> None:
        super().__init__(spans)
        self._content = content
        self._propagate = propagate
        with importing():
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            from . import _tracing_content
        self._words = _tracing_content
        # Of the W3C's trace context alone: the global propagator would send baggage, too.
        self._propagator = TraceContextTextMapPropagator()

    def around_call(self, request: CallRequest, send: Send) -> Outcome[Any]:
        span = self._spans.recording(request.call.number) if self._content else None
        if span is None or request.job.operation != "chat":
            return send(request)
        _write(span, self._words.of_request, request.job.body)

        def ended(outcome: Outcome[Any] | None) -> None:
            # With None it may be a finalizer's, and a span has a lock.
            if outcome is not None:
                _write(span, self._words.of_outcome, outcome)

        request.at_end(ended)
        return send(request)

    def around_attempt(self, request: CallRequest, send: Send) -> Outcome[Any]:
        if not self._propagate:
            return send(request)
        headers = dict(request.job.headers)
        # Without an SDK the context is the caller's, which may hold the trace of a server's.
        self._propagator.inject(headers, context=self._spans.context(request.call.number))
        return send(request.with_job(headers=headers))


def _write(span: Span, read: Callable[[Any], dict[str, Any]], source: Any) -> None:
    """Write what was said into a span; what cannot be read breaks no call."""
    try:
        span.set_attributes(read(source))
    except Exception as error:
        # Its text may be of the prompt.
        log.warning("A span goes without its content: %s", type(error).__name__)
