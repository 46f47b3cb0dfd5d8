"""Show what a call did, as a trace of OpenTelemetry.

What it does: asks within a span of its own, and prints the tree of spans: the call, and inside it
each attempt.
Needs: pip install "termai-http[otel]" opentelemetry-sdk; OPENAI_API_KEY, or, without any key,
``termai-http serve`` in another terminal and the variables that it prints.
Run: python examples/tracing.py "Why is the sky blue?"
"""

from __future__ import annotations

import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from termai_http import HttpClientConfig, TermaiHttpError, chat, initialize
from termai_http.contrib.tracing import Tracing

SHOWN = ("gen_ai.usage.output_tokens", "http.response.status_code", "error.type")


def show(spans: tuple[ReadableSpan, ...], parent: int | None = None, depth: int = 0) -> None:
    """Print the spans below one, each with what it says of itself."""
    for span in sorted(spans, key=lambda one: one.start_time or 0):
        if (span.parent.span_id if span.parent else None) != parent:
            continue
        said = dict(span.attributes or {})
        told = " ".join(f"{name}={said[name]}" for name in SHOWN if name in said)
        milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
        print(f"{'  ' * depth}{span.name}: {milliseconds:.1f} ms {told}".rstrip())
        show(spans, span.context.span_id, depth + 1)


def main() -> int:
    """Ask, and show the trace."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    # In your program a BatchSpanProcessor with the exporter of your collector.
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    initialize(HttpClientConfig.from_env().evolve(layers=(Tracing(),)))
    question = sys.argv[1] if len(sys.argv) > 1 else "Why is the sky blue?"
    try:
        with trace.get_tracer("example").start_as_current_span("question"):
            print(chat(question, model="gpt-5.5").text)
    except TermaiHttpError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        show(exporter.get_finished_spans())
    return 0


if __name__ == "__main__":
    sys.exit(main())
