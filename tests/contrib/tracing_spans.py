"""A tracer provider of the real SDK, and what it recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

__all__ = ["Recorder"]


class Recorder:
    """Keeps the spans that ended.

    Args:
        sampled: Whether anything is recorded.
    """

    def __init__(self, *, sampled: bool = True) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(
            sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans, in the order of their ends."""
        return list(self._exporter.get_finished_spans())

    def paths(self) -> list[str]:
        """Return each span's name behind those of its ancestors, in the order of their ends."""
        by_id = {span.context.span_id: span for span in self.spans}

        def path(span: ReadableSpan) -> str:
            parent = by_id.get(span.parent.span_id) if span.parent else None
            return span.name if parent is None else f"{path(parent)} > {span.name}"

        return [path(span) for span in self.spans]

    def one(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        (span,) = (span for span in self.spans if span.name == name)
        return span

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of the only span of a name."""
        return dict(self.one(name).attributes or {})

    @contextmanager
    def mine(self, name: str = "mine") -> Iterator[Any]:
        """Make a span of the caller's the current one."""
        with self.tracer.start_as_current_span(name) as span:
            yield span
