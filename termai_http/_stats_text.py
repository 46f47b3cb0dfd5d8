"""A client's figures as a table of plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .metrics import ClientStats, HttpStats

__all__ = [
    "dollars",
    "known_cost",
    "layer_rows",
    "model_lines",
    "ranked",
    "stats_text",
    "unknown_costs",
]

_Row = tuple[str, str, str]
_MOST_MODELS = 10


def stats_text(stats: ClientStats) -> str:
    """Lay a client's figures out as a table for people."""
    calls = stats.calls
    rows = [*_of_calls(calls), *_of_connections(stats), *_of_sides(stats), *layer_rows(stats)]
    rows += [(f"  {name}", f"{n}", how) for name, n, how in model_lines(calls)]
    rows += [(f"  retry: {cause}", f"{n}", "") for cause, n in ranked(calls.retries_by_cause)]
    rows += [(f"  failed: {name}", f"{n}", "") for name, n in ranked(calls.failures_by_class)]
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows)
    lines = [f"{a:<{first}}  {b:>{second}}  {c}".rstrip() for a, b, c in rows]
    return "\n".join(["termai_http", "-" * max(map(len, lines)), *lines])


def _of_calls(calls: HttpStats) -> Iterator[_Row]:
    yield "calls", f"{calls.total_requests}", f"{calls.in_flight} in flight"
    failed = f"{calls.success_rate:.1%}, {calls.failed_requests} failed"
    yield "succeeded", f"{calls.successful_requests}", failed
    denied = f", {calls.retries_denied} denied" if calls.retries_denied else ""
    yield "retries", f"{calls.total_retries}", f"{calls.average_retries:.2f} a call{denied}"
    yield "duration", f"{calls.average_duration_ms:.1f} ms", _percentiles(calls)
    yield "tokens", f"{calls.input_tokens} in", f"{calls.output_tokens} out"
    if calls.cost or calls.calls_without_cost:
        yield "cost", known_cost(calls), unknown_costs(calls.calls_without_cost)


def _percentiles(calls: HttpStats) -> str:
    return (
        f"p50 {calls.p50_duration_ms:.1f}, p95 {calls.p95_duration_ms:.1f}, "
        f"p99 {calls.p99_duration_ms:.1f}"
    )


def _of_connections(stats: ClientStats) -> Iterator[_Row]:
    idle = f"{stats.idle_connections} idle, {stats.waiting} calls waiting"
    yield "connections", f"{stats.active_connections} active", idle
    how = f"{stats.opened} opened a connection, {stats.reused} reused one"
    yield "attempts", f"{stats.total_requests}", how
    closed = f"{stats.evicted} evicted, {stats.discarded} discarded"
    yield "reuse", f"{stats.reuse_ratio:.1%}", closed


def _of_sides(stats: ClientStats) -> Iterator[_Row]:
    """Compare those calls that use the pool with those that do not, where there are such."""
    if not stats.unpooled_calls.total_requests:
        return
    for name, calls in (("pooled", stats.pooled_calls), ("unpooled", stats.unpooled_calls)):
        how = f"{calls.success_rate:.1%} succeeded, {_percentiles(calls)}"
        yield f"  {name}", f"{calls.total_requests}", how


def layer_rows(stats: ClientStats) -> Iterator[_Row]:
    """Yield what the layers say of themselves for people."""
    for figures in stats.layers.values():
        rows = getattr(figures, "rows", None)
        if callable(rows):
            yield from rows()


def model_lines(calls: HttpStats) -> Iterator[tuple[str, int, str]]:
    """Yield the models with the most calls: a heading, calls, tokens and cost in words."""
    counts = ranked({name: one.calls for name, one in calls.models.items()})
    for name, count in counts[:_MOST_MODELS]:
        one = calls.models[name]
        how = f"{one.input_tokens:,} tokens in, {one.output_tokens:,} out"
        if one.cost:
            how += f", {dollars(one.cost)}"
        if one.calls_without_cost:
            how += f", {unknown_costs(one.calls_without_cost)}"
        yield f"model: {name}", count, how
    rest = counts[_MOST_MODELS:]
    if rest:
        yield f"{len(rest)} more models", sum(count for _, count in rest), ""


def known_cost(calls: HttpStats) -> str:
    """Write the sum of what is known; where nothing is, that is not nothing paid."""
    return dollars(calls.cost) if calls.cost or not calls.calls_without_cost else "unknown"


def unknown_costs(calls: int) -> str:
    """Say how many calls have no known cost; nothing where none has none."""
    if not calls:
        return ""
    return f"{calls:,} call{'s' * (calls != 1)} of unknown cost"


def dollars(amount: float) -> str:
    """Write an amount of US dollars; of less than one, four digits."""
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.00005 else "<$0.0001"


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return names and counts, the highest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
