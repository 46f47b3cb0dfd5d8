"""What the status page shows: the figures of the worker that answers, as data and as rows."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ..._shared import existing
from ..._stats_text import dollars
from ...errors import ConfigurationError
from ...metrics import ClientStats, HttpStats
from .conf import configuration

if TYPE_CHECKING:
    from ..._client import Client

__all__ = ["GROUPS", "SIDES", "cell", "is_healthy", "snapshot"]

# Heading, and its rows: name, where the value lies in the snapshot, how it is written. The script
# of the page reads the last two from the rows.
GROUPS = (
    (
        "Connections",
        (
            ("Open", "pool.open", "count"),
            ("In use", "pool.active", "count"),
            ("Idle", "pool.idle", "count"),
            ("Calls waiting for one", "pool.waiting", "count"),
            ("Reused", "pool.reuse_ratio", "share"),
            ("Evicted while idle", "pool.evicted", "count"),
            ("Discarded in use", "pool.discarded", "count"),
        ),
    ),
    (
        "Calls",
        (
            ("Ended", "calls.total", "count"),
            ("In flight", "calls.in_flight", "count"),
            ("Succeeded", "calls.success_rate", "share"),
            ("Failed", "calls.failed", "count"),
            ("Retries", "calls.retries", "count"),
        ),
    ),
    (
        "Duration of a call",
        (
            ("Median", "duration_ms.p50", "time"),
            ("95 % within", "duration_ms.p95", "time"),
            ("99 % within", "duration_ms.p99", "time"),
        ),
    ),
    (
        "Time to first token",
        (
            ("Median", "first_token_ms.p50", "time"),
            ("95 % within", "first_token_ms.p95", "time"),
            ("99 % within", "first_token_ms.p99", "time"),
        ),
    ),
    (
        "Tokens",
        (("In", "tokens.input", "count"), ("Out", "tokens.output", "count")),
    ),
    (
        "Cost",
        (
            ("US dollars, where known", "cost.dollars", "money"),
            ("Calls of unknown cost", "cost.unknown", "count"),
        ),
    ),
    (
        "Calls with the shared pool",
        (
            ("Ended", "pooled.total", "count"),
            ("Succeeded", "pooled.success_rate", "share"),
            ("Median", "pooled.p50", "time"),
            ("95 % within", "pooled.p95", "time"),
        ),
    ),
    (
        "Calls without it",
        (
            ("Ended", "unpooled.total", "count"),
            ("Succeeded", "unpooled.success_rate", "share"),
            ("Median", "unpooled.p50", "time"),
            ("95 % within", "unpooled.p95", "time"),
        ),
    ),
)

# Headings that say something only while some calls do without the pool.
SIDES = frozenset({"Calls with the shared pool", "Calls without it"})


def snapshot(recent: int) -> dict[str, Any]:
    """Return the figures of this process, ready for JSON; makes no client and opens nothing.

    Args:
        recent: Failures to list, the newest first.
    """
    client = existing()
    stats = ClientStats() if client is None else client.stats()
    calls = stats.calls
    return {
        "worker": {"host": socket.gethostname(), "pid": os.getpid()},
        "time": time.time(),
        "client": _state(client),
        "pool": _pool(stats),
        "calls": {
            "total": calls.total_requests,
            "succeeded": calls.successful_requests,
            "failed": calls.failed_requests,
            "success_rate": calls.success_rate if calls.total_requests else None,
            "in_flight": calls.in_flight,
            "retries": calls.total_retries,
            "retries_denied": calls.retries_denied,
        },
        "retries_by_cause": dict(calls.retries_by_cause),
        "failures_by_class": dict(calls.failures_by_class),
        "tokens": {"input": calls.input_tokens, "output": calls.output_tokens},
        "cost": {"dollars": calls.cost, "unknown": calls.calls_without_cost},
        **_times(calls),
        "pooled": _side(stats.pooled_calls),
        "unpooled": {
            **_side(stats.unpooled_calls),
            # Those of the other side are what is left of all.
            "counts": _pairs(stats.unpooled_calls.durations_ms),
        },
        "recent_failures": [attrs.asdict(one) for one in calls.recent_failures[:recent]],
    }


def _state(client: Client | None) -> str:
    if client is None:
        return "unused"
    return "closed" if client._core.closed else "open"


def _pool(stats: ClientStats) -> dict[str, Any]:
    return {
        "open": stats.active_connections + stats.idle_connections,
        "active": stats.active_connections,
        "idle": stats.idle_connections,
        "waiting": stats.waiting,
        "attempts": stats.total_requests,
        "opened": stats.opened,
        "reused": stats.reused,
        "reuse_ratio": stats.reuse_ratio if stats.total_requests else None,
        "evicted": stats.evicted,
        "discarded": stats.discarded,
    }


def _times(calls: HttpStats) -> dict[str, Any]:
    any_call = bool(calls.total_requests)
    return {
        "duration_ms": {
            "p50": calls.p50_duration_ms if any_call else None,
            "p95": calls.p95_duration_ms if any_call else None,
            "p99": calls.p99_duration_ms if any_call else None,
            "counts": _pairs(calls.durations_ms),
        },
        "first_token_ms": {
            "p50": calls.p50_time_to_first_token_ms,
            "p95": calls.p95_time_to_first_token_ms,
            "p99": calls.p99_time_to_first_token_ms,
            "counts": _pairs(calls.times_to_first_token_ms),
        },
    }


def _side(calls: HttpStats) -> dict[str, Any]:
    """Return the figures by which calls with and without the pool are compared."""
    return {
        "total": calls.total_requests,
        "succeeded": calls.successful_requests,
        "success_rate": calls.success_rate if calls.total_requests else None,
        "p50": calls.p50_duration_ms if calls.total_requests else None,
        "p95": calls.p95_duration_ms if calls.total_requests else None,
    }


def _pairs(counts: Mapping[float, int]) -> list[tuple[float, int]]:
    return [(float(f"{time:.6g}"), count) for time, count in counts.items()]


def is_healthy() -> bool:
    """Tell whether this process could begin a call now.

    It could not while its settings cannot be used, once its client was closed for good, and while
    calls wait because every connection that is allowed is in use.
    """
    client = existing()
    if client is None:
        try:
            configuration()
        except ConfigurationError:
            return False  # told by the system checks
        return True
    if client._core.closed:
        return False
    transport = client._core.begun
    return transport is None or not transport.figures().waiting


def cell(figures: Mapping[str, Any], path: str, kind: str) -> str:
    """Write one value of a snapshot for people; a dash where there is none yet."""
    value: Any = figures
    for name in path.split("."):
        value = value[name]
    if value is None:
        return "\N{EN DASH}"
    if kind == "count":
        return f"{value:,}"
    if kind == "money":
        return dollars(value)
    return _share(value) if kind == "share" else _time(value)


def _share(value: float) -> str:
    # What is not all must not be rounded to all.
    return f"{min(value, 0.999) if value < 1 else 1:.1%}"


def _time(milliseconds: float) -> str:
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
