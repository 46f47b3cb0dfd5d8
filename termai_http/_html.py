"""Replies and figures as a notebook shows them: Markdown, and HTML with small plots.

Everything that a server or a model named is escaped. The plots are bars without text, so that a
page that takes SVG out, as Jupyter does in a notebook that is not trusted, still has the figures.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from ._markdown import code_html, escaped, safe_markdown
from ._stats_text import dollars, known_cost, layer_rows, model_lines, ranked, unknown_costs

if TYPE_CHECKING:
    from ._client import Client
    from ._tool_run import ToolRun
    from .metrics import ClientStats, HttpStats
    from .models import ChatResponse

__all__ = ["client_html", "reply_markdown", "run_markdown", "stats_html"]

_WIDTH, _HEIGHT, _COLUMNS = 180, 12, 30
# Seen on white and on black.
_GOOD, _BAD, _PLAIN, _PALE = "#2a9d5c", "#d9534f", "#4a7fd4", "#9aa7b8"
_LONGEST_ARGUMENTS = 200


def reply_markdown(reply: ChatResponse) -> str:
    """Return a reply as Markdown: its text made safe, what it asks for, and a line of figures."""
    parts = [safe_markdown(reply.text)]
    if reply.refusal and reply.refusal != reply.text:
        parts.append(f"**Refused:** {safe_markdown(reply.refusal)}")
    parts += [
        f"Asks for {code_html(_shortened(f'{call.name}({call.text})'))}"
        for call in reply.tool_calls
    ]
    parts.append(_footer(reply))
    return "\n\n".join(filter(None, parts))


def run_markdown(run: ToolRun) -> str:
    """Return what came of ``run_tools()`` as Markdown: the functions called, the last reply."""
    called = [
        f"- {code_html(_shortened(f'{one.call.name}({one.call.text})'))} "
        f"<small>{'failed' if one.error else 'called'}, {_seconds(one.seconds)}</small>"
        for one in run.calls
    ]
    return "\n\n".join(filter(None, ["\n".join(called), reply_markdown(run.reply)]))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_ARGUMENTS else text[:_LONGEST_ARGUMENTS] + "…"


def _footer(reply: ChatResponse) -> str:
    used = reply.usage
    figures = [escaped(reply.model)]
    # A stream of some servers does not say.
    if used.total_tokens:
        figures.append(f"{used.input_tokens:,} tokens in, {used.output_tokens:,} out")
    if reply.cost:
        figures.append(dollars(reply.cost))
    figures.append(_seconds(reply.elapsed))
    if reply.attempts > 1:
        figures.append(f"{reply.attempts} attempts")
    if reply.cut_off:
        figures.append("cut off at its limit of tokens")
    return f"<small>{' · '.join(filter(None, figures))}</small>"


def client_html(client: Client) -> str:
    """Return a client as a table of its figures, with its state and limits above."""
    config = client.config
    limits = (
        f"timeout {config.timeout:g} s, {config.stream_timeout:g} s for a stream, "
        f"at most {config.max_connections:,} connections"
    )
    return stats_html(client.stats(), title=repr(client).strip("<>"), below=limits)


def stats_html(
    stats: ClientStats | HttpStats, *, title: str = "termai_http", below: str = ""
) -> str:
    """Return the figures of a client, or of its calls alone, as a table with bars."""
    calls: HttpStats | None = getattr(stats, "calls", None)
    if calls is None:
        calls = cast("HttpStats", stats)
        rows = [*_call_rows(calls), *_model_rows(calls), *_counted(calls)]
    else:
        whole = cast("ClientStats", stats)
        layers = [_row(*row) for row in layer_rows(whole)]
        own = [*_connection_rows(whole), *_side_rows(whole), *layers, *_model_rows(calls)]
        rows = [*_call_rows(calls), *own, *_counted(calls)]
    return _table(rows, title, below)


def _connection_rows(stats: ClientStats) -> list[str]:
    return [
        _row(
            "attempts",
            f"{stats.total_requests:,}",
            f"{stats.opened:,} opened a connection, {stats.reused:,} reused one "
            f"({stats.reuse_ratio:.1%})",
            _bar([(stats.reused, _GOOD, "reused"), (stats.opened, _PALE, "opened")]),
        ),
        _row(
            "connections",
            f"{stats.active_connections + stats.idle_connections:,}",
            f"{stats.active_connections:,} active, {stats.idle_connections:,} idle, "
            f"{stats.waiting:,} calls waiting, {stats.evicted:,} evicted, "
            f"{stats.discarded:,} discarded",
            _bar(
                [
                    (stats.active_connections, _PLAIN, "active"),
                    (stats.idle_connections, _PALE, "idle"),
                ]
            ),
        ),
    ]


def _call_rows(calls: HttpStats) -> list[str]:
    rows = [
        _row(
            "calls",
            f"{calls.total_requests:,}",
            f"{calls.successful_requests:,} succeeded ({calls.success_rate:.1%}), "
            f"{calls.failed_requests:,} failed, {calls.in_flight:,} in flight",
            _bar(
                [
                    (calls.successful_requests, _GOOD, "succeeded"),
                    (calls.failed_requests, _BAD, "failed"),
                    (calls.in_flight, _PALE, "in flight"),
                ]
            ),
        ),
        _row(
            "retries",
            f"{calls.total_retries:,}",
            f"{calls.average_retries:.2f} a call"
            + (f", {calls.retries_denied:,} denied" if calls.retries_denied else ""),
        ),
    ]
    rows += _spans(calls)
    rows.append(
        _row(
            "tokens",
            f"{calls.input_tokens + calls.output_tokens:,}",
            f"{calls.input_tokens:,} in, {calls.output_tokens:,} out",
            _bar([(calls.input_tokens, _PALE, "in"), (calls.output_tokens, _PLAIN, "out")]),
        )
    )
    if calls.cost or calls.calls_without_cost:
        rows.append(_row("cost", known_cost(calls), unknown_costs(calls.calls_without_cost)))
    return rows


def _side_rows(stats: ClientStats) -> list[str]:
    """Compare the calls that use the pool with the others, on one scale, where there are such."""
    sides = {"pooled": stats.pooled_calls, "unpooled": stats.unpooled_calls}
    if not stats.unpooled_calls.total_requests:
        return []
    times = [time for calls in sides.values() for time in calls.durations_ms]
    return [
        _row(
            name,
            f"{calls.total_requests:,}",
            f"{calls.success_rate:.1%} succeeded; median {_time(calls.p50_duration_ms)}, "
            f"95 % within {_time(calls.p95_duration_ms)}",
            _histogram(calls.durations_ms, min(times), max(times)),
        )
        for name, calls in sides.items()
    ]


def _model_rows(calls: HttpStats) -> list[str]:
    lines = list(model_lines(calls))
    most = max((count for _, count, _ in lines), default=0)
    return [
        _row(name, f"{count:,}", how, _bar([(count, _PLAIN, name)], most))
        for name, count, how in lines
    ]


def _spans(calls: HttpStats) -> list[str]:
    """Return durations and times to the first token, drawn on one scale."""
    kinds = [
        (
            "duration",
            (calls.p50_duration_ms, calls.p95_duration_ms, calls.p99_duration_ms),
            calls.durations_ms,
        ),
        (
            "first token",
            (
                calls.p50_time_to_first_token_ms or 0.0,
                calls.p95_time_to_first_token_ms or 0.0,
                calls.p99_time_to_first_token_ms or 0.0,
            ),
            calls.times_to_first_token_ms,
        ),
    ]
    times = [time for _, _, counts in kinds for time in counts]
    return [
        _row(
            name,
            _time(p50),
            f"median; 95 % within {_time(p95)}, 99 % within {_time(p99)}",
            _histogram(counts, min(times, default=1.0), max(times, default=1.0)),
        )
        for name, (p50, p95, p99), counts in kinds
        if p50
    ]


def _histogram(counts: Mapping[float, int], least: float, most: float) -> str:
    """Draw how often each time was taken, in milliseconds, on a scale of their logarithms."""
    if not counts:
        return ""
    low, high = math.log(least) - 0.1, math.log(most) + 0.1
    columns = [0] * _COLUMNS
    for time, count in counts.items():
        columns[int((math.log(time) - low) / (high - low) * _COLUMNS)] += count
    highest, width = max(columns), _WIDTH / _COLUMNS
    rects = [
        _rect(index * width, width - 0.6, _PLAIN, f"{count:,} of them", count / highest)
        for index, count in enumerate(columns)
        if count
    ]
    return _svg(rects, f"from {_time(min(counts))} to {_time(max(counts))}", 2 * _HEIGHT)


def _counted(calls: HttpStats) -> list[str]:
    rows = []
    for what, counts, colour in (
        ("retry", calls.retries_by_cause, _PLAIN),
        ("failed", calls.failures_by_class, _BAD),
    ):
        most = max(counts.values(), default=0)
        rows += [
            _row(f"{what}: {name}", f"{count:,}", "", _bar([(count, colour, name)], most))
            for name, count in ranked(counts)
        ]
    return rows


def _bar(parts: Iterable[tuple[float, str, str]], whole: float | None = None) -> str:
    """Return parts of a whole side by side; None for it means their sum."""
    shown = [(max(0.0, float(size)), colour, name) for size, colour, name in parts]
    total = sum(size for size, _, _ in shown) if whole is None else whole
    if total <= 0:
        return ""
    rects, left = [], 0.0
    for size, colour, name in shown:
        width = _WIDTH * size / total
        if width > 0:
            rects.append(_rect(left, width, colour, name))
        left += width
    return _svg(rects, ", ".join(name for size, _, name in shown if size > 0), _HEIGHT)


def _rect(left: float, width: float, colour: str, name: str, share: float | None = None) -> str:
    """Return a part of a bar; with a share of the height, a column of a histogram."""
    height = _HEIGHT if share is None else max(1.0, 2 * _HEIGHT * share)
    top = 0.0 if share is None else 2 * _HEIGHT - height
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{colour}"><title>{html.escape(name)}</title></rect>'
    )


def _svg(rects: list[str], label: str, height: float) -> str:
    return (
        f'<svg role="img" aria-label="{html.escape(label)}" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" style="vertical-align:middle">{"".join(rects)}</svg>'
    )


def _row(name: str, figure: str, text: str, bar: str = "") -> str:
    left, right = "text-align:left", "text-align:right;font-variant-numeric:tabular-nums"
    return (
        f'<tr><td style="{left}">{html.escape(name)}</td>'
        f'<td style="{right}"><b>{html.escape(figure)}</b></td>'
        f'<td style="{left}">{bar}</td>'
        f'<td style="{left};opacity:.8">{html.escape(text)}</td></tr>'
    )


def _table(rows: list[str], title: str, below: str = "") -> str:
    caption = f"<b>{html.escape(title)}</b>"
    if below:
        caption += f" <small>{html.escape(below)}</small>"
    return (
        f'<div style="text-align:left">{caption}</div>'
        f'<table style="border-collapse:collapse"><tbody>{"".join(rows)}</tbody></table>'
    )


def _time(milliseconds: float) -> str:
    return _seconds(milliseconds / 1000)


def _seconds(seconds: float) -> str:
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
