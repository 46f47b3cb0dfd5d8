"""The extra ``otel``: with OpenTelemetry's API alone a call has a span, and each attempt one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace

from termai_http import Client, HttpClientConfig
from termai_http.contrib.tracing import Tracing
from termai_http.testing import Server, Status

begun: list[str] = []
ended: list[str] = []


class Span(trace.NonRecordingSpan):
    """Tells its name when it ends."""

    def __init__(self, name: str) -> None:
        super().__init__(trace.SpanContext(1, len(begun), is_remote=False))
        self.name = name

    def is_recording(self) -> bool:
        """Tell that it wants to hear."""
        return True

    def update_name(self, name: str) -> None:
        """Take another name."""
        self.name = name

    def end(self, end_time: int | None = None) -> None:
        """Note it."""
        ended.append(self.name)


class Tracer(trace.Tracer):
    """Makes such spans."""

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> Span:
        """Begin one."""
        begun.append(name)
        return Span(name)

    @contextmanager
    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Iterator[Span]:
        """Begin one, which is the current one for a while."""
        span = self.start_span(name)
        with trace.use_span(span, end_on_exit=True):
            yield span


class Provider(trace.TracerProvider):
    """Gives one tracer to all."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        """Return it."""
        return Tracer()


trace.set_tracer_provider(Provider())
with Server() as server, Client(HttpClientConfig(max_retries=1)) as client:
    server.script(Status(503))
    with client.listening(Tracing()):
        there = {"model": "gpt-5.5", "api_key": "k", "base_url": server.openai_url}
        assert client.chat("hi", **there).attempts == 2
assert begun == ["chat gpt-5.5", "attempt", "attempt"], begun
assert sorted(ended) == sorted(begun), ended
