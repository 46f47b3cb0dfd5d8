"""Thread-safe figures: of calls (``HttpMetrics``), and of a whole client (``ClientStats``)."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import attrs

from ._importing import importing
from ._values import Value

__all__ = [
    "CallRecord",
    "ClientStats",
    "Distribution",
    "HttpMetrics",
    "HttpStats",
    "RecordedFailure",
    "format_stats",
]

_FAILURES_KEPT = 50


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
    """All that the metrics keep of one call; times in seconds."""

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
        calls: The figures of the calls.
        layers: What each layer shows of itself, by the layer's name.
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

    def _repr_html_(self) -> str:
        return _table(self)


def _table(stats: HttpStats | ClientStats) -> str:
    with importing():
        from ._html import stats_html
    return stats_html(stats)


class Distribution:
    """Seconds counted in buckets that are 2 % wide, so that memory does not grow with calls."""

    _WIDTH = math.log(1.02)
    _LEAST = 1e-6

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0

    def bucket_of(self, seconds: float) -> int:
        """Return where a duration is counted."""
        return int(math.log(max(seconds, self._LEAST) / self._LEAST) / self._WIDTH)

    def add(self, bucket: int) -> None:
        """Count one duration by its bucket."""
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._count += 1

    def percentile(self, share: float) -> float | None:
        """Return the duration, in seconds, below which ``share`` of all lie; None if empty."""
        rank = math.ceil(share * self._count)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return self._middle_of(bucket)
        return None

    def counts_ms(self) -> dict[float, int]:
        """Return how many lie in each bucket, by the milliseconds of its middle, in order."""
        return {
            self._middle_of(bucket) * 1000: self._buckets[bucket]
            for bucket in sorted(self._buckets)
        }

    def _middle_of(self, bucket: int) -> float:
        return self._LEAST * math.exp((bucket + 0.5) * self._WIDTH)


_UNKNOWN = "unknown"


def _none_in_flight() -> int:
    return 0


class HttpMetrics:
    """Counts calls. Every method is safe from any thread and takes one short lock."""

    def __init__(self, *, _in_flight: Callable[[], int] = _none_in_flight) -> None:
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
        self._total = self._successful = self._retries = self._retries_denied = 0
        self._duration = 0.0
        self._input_tokens = self._output_tokens = 0
        self._failures: Counter[str] = Counter()
        self._causes: Counter[str] = Counter()
        self._durations = Distribution()
        self._first_tokens = Distribution()
        self._recent: deque[RecordedFailure] = deque(maxlen=_FAILURES_KEPT)

    def record_request(self, duration: float | timedelta, success: bool, retries: int = 0) -> None:
        """Count one call that was made elsewhere.

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
        bucket = self._durations.bucket_of(record.duration)
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
            self._add(record, self._durations.bucket_of(record.duration))

    def _add(self, record: CallRecord, bucket: int) -> None:
        self._total += 1
        self._duration += record.duration
        self._durations.add(bucket)
        self._retries += record.retries
        self._retries_denied += record.retries_denied
        if record.success:
            self._successful += 1
        elif record.failure:
            self._failures[record.failure] += 1
        if record.details is not None:
            self._recent.appendleft(record.details)
        self._input_tokens += record.input_tokens
        self._output_tokens += record.output_tokens
        if record.causes:
            self._causes.update(record.causes)
        if record.time_to_first_token is not None:
            first = self._first_tokens
            first.add(first.bucket_of(record.time_to_first_token))

    def reset(self) -> None:
        """Start over with zeros; calls that run stay in flight."""
        with self._lock:
            self._notes.clear()
            self._clear()

    def get_stats(self) -> HttpStats:
        """Return a consistent snapshot."""
        in_flight = self._in_flight()
        with self._lock:
            self._read_notes()
            total, durations, first = self._total, self._durations, self._first_tokens
            return HttpStats(
                total_requests=total,
                successful_requests=self._successful,
                failed_requests=total - self._successful,
                success_rate=self._successful / total if total else 1.0,
                average_duration_ms=self._duration / total * 1000 if total else 0.0,
                total_retries=self._retries,
                retries_denied=self._retries_denied,
                average_retries=self._retries / total if total else 0.0,
                p50_duration_ms=(durations.percentile(0.50) or 0.0) * 1000,
                p95_duration_ms=(durations.percentile(0.95) or 0.0) * 1000,
                p99_duration_ms=(durations.percentile(0.99) or 0.0) * 1000,
                p50_time_to_first_token_ms=_milliseconds(first.percentile(0.50)),
                p95_time_to_first_token_ms=_milliseconds(first.percentile(0.95)),
                p99_time_to_first_token_ms=_milliseconds(first.percentile(0.99)),
                in_flight=in_flight,
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
                failures_by_class=dict(self._failures),
                retries_by_cause=dict(self._causes),
                durations_ms=durations.counts_ms(),
                times_to_first_token_ms=first.counts_ms(),
                recent_failures=tuple(self._recent),
            )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def format_stats(stats: ClientStats) -> str:
    """Lay a client's figures out as a table for people."""
    calls = stats.calls
    rows = [
        ("calls", f"{calls.total_requests}", f"{calls.in_flight} in flight"),
        (
            "succeeded",
            f"{calls.successful_requests}",
            f"{calls.success_rate:.1%}, {calls.failed_requests} failed",
        ),
        (
            "retries",
            f"{calls.total_retries}",
            f"{calls.average_retries:.2f} a call"
            + (f", {calls.retries_denied} denied" if calls.retries_denied else ""),
        ),
        (
            "duration",
            f"{calls.average_duration_ms:.1f} ms",
            f"p50 {calls.p50_duration_ms:.1f}, p95 {calls.p95_duration_ms:.1f}, "
            f"p99 {calls.p99_duration_ms:.1f}",
        ),
        ("tokens", f"{calls.input_tokens} in", f"{calls.output_tokens} out"),
        (
            "connections",
            f"{stats.active_connections} active",
            f"{stats.idle_connections} idle, {stats.waiting} calls waiting",
        ),
        (
            "attempts",
            f"{stats.total_requests}",
            f"{stats.opened} opened a connection, {stats.reused} reused one",
        ),
        (
            "reuse",
            f"{stats.reuse_ratio:.1%}",
            f"{stats.evicted} evicted, {stats.discarded} discarded",
        ),
    ]
    return _aligned(rows, calls)


def _aligned(rows: list[tuple[str, str, str]], calls: HttpStats) -> str:
    rows += [(f"  retry: {cause}", f"{n}", "") for cause, n in _ranked(calls.retries_by_cause)]
    rows += [(f"  failed: {name}", f"{n}", "") for name, n in _ranked(calls.failures_by_class)]
    first = max(len(row[0]) for row in rows)
    second = max(len(row[1]) for row in rows)
    lines = [f"{a:<{first}}  {b:>{second}}  {c}".rstrip() for a, b, c in rows]
    return "\n".join(["termai_http", "-" * max(map(len, lines)), *lines])


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
