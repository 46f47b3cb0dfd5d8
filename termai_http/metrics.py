"""Thread-safe figures: of calls (``HttpMetrics``), and of a whole client (``ClientStats``)."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import attrs

from ._importing import importing
from ._tally import OfModel, Tally, bucket_of
from ._values import Value

__all__ = [
    "CallRecord",
    "ClientStats",
    "HttpMetrics",
    "HttpStats",
    "ModelStats",
    "RecordedFailure",
    "format_stats",
]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RecordedFailure(Value):
    """What the metrics keep of a call that failed: never its prompt, its key or any body.

    Attributes:
        when: Moment of its end, in seconds since the epoch.
        error: Name of the error's class.
        status_code: The vendor's last status; None where there was none.
        request_id: The vendor's id, to quote to its support.
        provider: The vendor, None for a request of ``RequestHandler``.
        model: The model asked for, None where unknown.
        attempts: HTTP exchanges begun.
        elapsed: Seconds from the call's entry to its end.
    """

    when: float
    error: str
    status_code: int | None = None
    request_id: str | None = None
    provider: str | None = None
    model: str | None = None
    attempts: int = 0
    elapsed: float = 0.0


# Not frozen: one is made at the end of every call, and to freeze it costs as much again.
@attrs.define(kw_only=True)
class CallRecord:
    """All that the metrics keep of one call; times in seconds, cost in US dollars.

    ``cost_unknown`` says that it was, or may have been, billed, and nobody knows how much.
    """

    duration: float
    success: bool
    retries: int = 0
    retries_denied: int = 0
    causes: tuple[str, ...] = ()
    failure: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    time_to_first_token: float | None = None
    details: RecordedFailure | None = None
    model: str | None = None
    cost: float | None = None
    cost_unknown: bool = False
    pooled: bool = True


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ModelStats(Value):
    """Figures of one model's calls up to one moment.

    Attributes:
        calls: Calls that ended, well or not.
        failed: Those that raised.
        input_tokens: Tokens read, as the vendor counted them.
        output_tokens: Tokens written.
        cost: US dollars of the calls whose cost is known.
        calls_without_cost: Calls that were, or may have been, billed, and whose cost is not known.
    """

    calls: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    calls_without_cost: int = 0


@attrs.frozen(kw_only=True, eq=False, repr=False)
class HttpStats(Value):
    """Figures of all calls up to one moment; consistent, so the parts add up.

    Attributes:
        total_requests: Calls that ended, well or not.
        successful_requests: Those that gave a reply.
        failed_requests: Those that raised.
        success_rate: Successful of all, 0.0 to 1.0; 1.0 before the first call.
        average_duration_ms: Mean milliseconds of a call, waits between attempts included.
        total_retries: Attempts beyond each call's first.
        average_retries: The same a call.
        retries_denied: Retries that a host's retry budget forbade.
        p50_duration_ms: Median of the durations, to 2 %; 0.0 before the first call.
        p95_duration_ms: 95th percentile, to 2 %.
        p99_duration_ms: 99th percentile, to 2 %.
        p50_time_to_first_token_ms: Median over streams; None before the first.
        p95_time_to_first_token_ms: 95th percentile over streams.
        p99_time_to_first_token_ms: 99th percentile over streams.
        in_flight: Calls that are running.
        input_tokens: Tokens read, as the vendors counted them.
        output_tokens: Tokens written.
        failures_by_class: Failed calls by the name of their error's class; ``"unknown"`` for those
            that ``record_request`` counted.
        retries_by_cause: Retries by cause: a status, ``"not_sent"``, ``"stale_connection"``,
            ``"ambiguous"``, ``"read_timeout"``, ``"unknown"``.
        durations_ms: How many calls took how long, by milliseconds to 2 %, the shortest first.
        times_to_first_token_ms: The same of streams' first tokens.
        recent_failures: The last 50 calls that failed, the newest first.
        cost: US dollars of the calls whose cost is known; those that a cache answered cost none.
        calls_without_cost: Calls that were, or may have been, billed, and whose cost is not known.
        models: The same by the model that was asked for: the first 100 by name, all others
            together as ``"other"``. Calls that name no model are in none.
    """

    total_requests: int = 0
    successful_requests: int = 0
    failed_requests: int = 0
    success_rate: float = 1.0
    average_duration_ms: float = 0.0
    total_retries: int = 0
    average_retries: float = 0.0
    retries_denied: int = 0
    p50_duration_ms: float = 0.0
    p95_duration_ms: float = 0.0
    p99_duration_ms: float = 0.0
    p50_time_to_first_token_ms: float | None = None
    p95_time_to_first_token_ms: float | None = None
    p99_time_to_first_token_ms: float | None = None
    in_flight: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    failures_by_class: Mapping[str, int] = attrs.field(factory=dict)
    retries_by_cause: Mapping[str, int] = attrs.field(factory=dict)
    durations_ms: Mapping[float, int] = attrs.field(factory=dict, repr=False)
    times_to_first_token_ms: Mapping[float, int] = attrs.field(factory=dict, repr=False)
    recent_failures: tuple[RecordedFailure, ...] = attrs.field(default=(), repr=False)
    cost: float = 0.0
    calls_without_cost: int = 0
    models: Mapping[str, ModelStats] = attrs.field(factory=dict, repr=False)

    def _repr_html_(self) -> str:
        return _table(self)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ClientStats(Value):
    """Figures of one client up to one moment: its connections and its calls.

    Attributes:
        active_connections: Connections in use.
        idle_connections: Open connections that wait for a call.
        total_requests: Attempts that got a connection; ``opened + reused``.
        opened: Those that opened one.
        reused: Those that took an idle one.
        reuse_ratio: Reused of all, 0.0 to 1.0; 0.0 before the first.
        evicted: Connections closed while idle: too old, too many, or dropped by the server.
        discarded: Connections closed while in use: after a failure, or as either side wished.
        waiting: Calls that wait for a slot.
        calls: The figures of the calls; ``pooled_calls`` and ``unpooled_calls`` add up to them.
        layers: What each layer shows of itself, by the layer's name.
        pooled_calls: Those of the calls that used the shared pool.
        unpooled_calls: Those of the calls that opened connections of their own, as ``pooling=``
            decides.
    """

    active_connections: int = 0
    idle_connections: int = 0
    total_requests: int = 0
    opened: int = 0
    reused: int = 0
    reuse_ratio: float = 0.0
    evicted: int = 0
    discarded: int = 0
    waiting: int = 0
    calls: HttpStats = attrs.field(factory=HttpStats)
    layers: Mapping[str, Any] = attrs.field(factory=dict)
    pooled_calls: HttpStats = attrs.field(factory=HttpStats, repr=False)
    unpooled_calls: HttpStats = attrs.field(factory=HttpStats, repr=False)

    def _repr_html_(self) -> str:
        return _table(self)


def _table(stats: HttpStats | ClientStats) -> str:
    with importing():
        from ._html import stats_html
    return stats_html(stats)


_UNKNOWN = "unknown"


def _none_in_flight() -> tuple[int, int]:
    return 0, 0


class HttpMetrics:
    """Counts calls. Every method is safe from any thread and takes one short lock."""

    def __init__(self, *, _in_flight: Callable[[], tuple[int, int]] = _none_in_flight) -> None:
        self._in_flight = _in_flight
        self._notes: deque[CallRecord] = deque()
        self.start_over()

    def start_over(self) -> None:
        """Begin with zeros and a new lock; a forked child does."""
        self._lock = threading.Lock()
        self._notes.clear()
        self._clear()

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands."""
        return [self._lock]

    def _clear(self) -> None:
        self._pooled, self._unpooled = Tally(), Tally()

    def record_request(self, duration: float | timedelta, success: bool, retries: int = 0) -> None:
        """Count one call that was made elsewhere; with those that use the pool.

        Args:
            duration: Its length, in seconds or as a ``timedelta``.
            success: Whether it gave a reply.
            retries: Attempts beyond the first.
        """
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"duration must be seconds of at least 0, not {duration!r}")
        if retries < 0:
            raise ValueError(f"retries must be at least 0, not {retries!r}")
        self.record(
            CallRecord(
                duration=seconds,
                success=bool(success),
                retries=retries,
                causes=(_UNKNOWN,) * retries,
                failure=None if success else _UNKNOWN,
            )
        )

    def record(self, record: CallRecord) -> None:
        """Count a call that ended."""
        bucket = bucket_of(record.duration)
        with self._lock:
            if self._notes:
                self._read_notes()
            self._add(record, bucket)

    def leave_note(self, record: CallRecord) -> None:
        """Count a call at the next look; a finalizer may do this at any instant."""
        self._notes.append(record)

    def _read_notes(self) -> None:
        while self._notes:
            record = self._notes.popleft()
            self._add(record, bucket_of(record.duration))

    def _add(self, record: CallRecord, bucket: int) -> None:
        (self._pooled if record.pooled else self._unpooled).add(record, bucket)

    def reset(self) -> None:
        """Start over with zeros; calls that run stay in flight."""
        with self._lock:
            self._notes.clear()
            self._clear()

    def get_stats(self) -> HttpStats:
        """Return a consistent snapshot."""
        pooled, unpooled = self._in_flight()
        with self._lock:
            self._read_notes()
            whole = Tally()
            whole.take(self._pooled)
            whole.take(self._unpooled)
        return _stats_of(whole, pooled + unpooled)

    def by_pooling(self) -> tuple[HttpStats, HttpStats, HttpStats]:
        """Return one consistent snapshot of all calls, of those that used the pool, of the others.

        The second and the third add up to the first.
        """
        pooled, unpooled = self._in_flight()
        used, unused, whole = Tally(), Tally(), Tally()
        with self._lock:
            self._read_notes()
            used.take(self._pooled)
            unused.take(self._unpooled)
        whole.take(used)
        whole.take(unused)
        return (
            _stats_of(whole, pooled + unpooled),
            _stats_of(used, pooled),
            _stats_of(unused, unpooled),
        )


def _stats_of(tally: Tally, in_flight: int) -> HttpStats:
    of_all = tally.models.values()
    total = sum([of.calls for of in of_all])
    failed = sum([of.failed for of in of_all])
    durations, first = tally.durations, tally.first_tokens
    return HttpStats(
        total_requests=total,
        successful_requests=total - failed,
        failed_requests=failed,
        success_rate=(total - failed) / total if total else 1.0,
        average_duration_ms=tally.duration / total * 1000 if total else 0.0,
        total_retries=tally.retries,
        retries_denied=tally.retries_denied,
        average_retries=tally.retries / total if total else 0.0,
        p50_duration_ms=(durations.percentile(0.50) or 0.0) * 1000,
        p95_duration_ms=(durations.percentile(0.95) or 0.0) * 1000,
        p99_duration_ms=(durations.percentile(0.99) or 0.0) * 1000,
        p50_time_to_first_token_ms=_milliseconds(first.percentile(0.50)),
        p95_time_to_first_token_ms=_milliseconds(first.percentile(0.95)),
        p99_time_to_first_token_ms=_milliseconds(first.percentile(0.99)),
        in_flight=in_flight,
        input_tokens=sum([of.input_tokens for of in of_all]),
        output_tokens=sum([of.output_tokens for of in of_all]),
        failures_by_class=dict(tally.failures),
        retries_by_cause=dict(tally.causes),
        durations_ms=durations.counts_ms(),
        times_to_first_token_ms=first.counts_ms(),
        recent_failures=tuple(tally.recent),
        cost=math.fsum([of.cost for of in of_all]),
        calls_without_cost=sum([of.without_cost for of in of_all]),
        models={name: _model_stats(of) for name, of in tally.models.items() if name is not None},
    )


def _model_stats(of: OfModel) -> ModelStats:
    return ModelStats(
        calls=of.calls,
        failed=of.failed,
        input_tokens=of.input_tokens,
        output_tokens=of.output_tokens,
        cost=of.cost,
        calls_without_cost=of.without_cost,
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def format_stats(stats: ClientStats) -> str:
    """Lay a client's figures out as a table for people."""
    with importing():
        from ._stats_text import stats_text
    return stats_text(stats)
