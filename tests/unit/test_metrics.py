"""The figures add up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from termai_http import ClientStats, HttpMetrics, HttpStats
from termai_http._tally import Distribution
from termai_http.metrics import CallRecord, RecordedFailure, format_stats


def test_nothing_is_zero() -> None:
    """Before the first call there are zeros, and nothing failed."""
    assert HttpMetrics().get_stats() == HttpStats()
    assert HttpStats().success_rate == 1.0


def test_records_add_up() -> None:
    """Sums, means and rates follow from the records; seconds may be a timedelta."""
    metrics = HttpMetrics()
    metrics.record_request(0.1, success=True)
    metrics.record_request(timedelta(milliseconds=300), success=False, retries=2)
    stats = metrics.get_stats()
    assert (stats.total_requests, stats.successful_requests, stats.failed_requests) == (2, 1, 1)
    assert stats.success_rate == 0.5
    assert stats.average_duration_ms == pytest.approx(200)
    assert (stats.total_retries, stats.average_retries) == (2, 1.0)


def test_a_calls_record_holds_more() -> None:
    """Tokens, causes, failures and the first token are counted with the call."""
    running = [1, 2]
    metrics = HttpMetrics(_in_flight=lambda: (len(running), 0))
    assert metrics.get_stats().in_flight == 2
    metrics.record(
        CallRecord(
            duration=1,
            success=True,
            retries=2,
            causes=("429", "503"),
            input_tokens=5,
            output_tokens=7,
            time_to_first_token=0.25,
        )
    )
    metrics.record(CallRecord(duration=1, success=False, failure="ReadTimeout"))
    running.clear()
    stats = metrics.get_stats()
    assert stats.in_flight == 0
    assert (stats.input_tokens, stats.output_tokens) == (5, 7)
    assert stats.retries_by_cause == {"429": 1, "503": 1}
    assert stats.failures_by_class == {"ReadTimeout": 1}
    assert stats.p50_time_to_first_token_ms == pytest.approx(250, rel=0.02)
    metrics.reset()
    assert metrics.get_stats() == HttpStats()


def test_percentiles_are_right_to_two_percent() -> None:
    """A thousand evenly spread durations give the percentiles one expects."""
    metrics = HttpMetrics()
    for number in range(1, 1001):
        metrics.record_request(number / 1000, success=True)
    stats = metrics.get_stats()
    assert stats.p50_duration_ms == pytest.approx(500, rel=0.02)
    assert stats.p95_duration_ms == pytest.approx(950, rel=0.02)
    assert stats.p99_duration_ms == pytest.approx(990, rel=0.02)
    assert Distribution().percentile(0.5) is None


@pytest.mark.parametrize(("duration", "retries"), [(-1, 0), (float("nan"), 0), (1, -1)])
def test_a_record_that_cannot_be_is_refused(duration: float, retries: int) -> None:
    """Durations and retries are at least 0."""
    with pytest.raises(ValueError, match="at least 0"):
        HttpMetrics().record_request(duration, success=True, retries=retries)


def test_threads_lose_no_record_and_snapshots_add_up() -> None:
    """Eight threads that record while another reads leave exact sums, and no torn snapshot."""
    metrics = HttpMetrics()
    barrier = threading.Barrier(9)

    def write(index: int) -> None:
        barrier.wait(30)
        for number in range(500):
            metrics.record_request(0.001, success=(number + index) % 2 == 0, retries=1)

    def read(_: int) -> None:
        barrier.wait(30)
        for _ in range(200):
            stats = metrics.get_stats()
            assert stats.successful_requests + stats.failed_requests == stats.total_requests
            assert stats.total_retries == stats.total_requests

    with ThreadPoolExecutor(9) as pool:
        jobs = [pool.submit(write, index) for index in range(8)] + [pool.submit(read, 0)]
        for job in jobs:
            job.result(60)
    stats = metrics.get_stats()
    assert (stats.total_requests, stats.successful_requests) == (4000, 2000)


def test_the_table_is_aligned() -> None:
    """Figures stand under each other; causes and failures are ranked."""
    calls = HttpStats(
        total_requests=3,
        retries_by_cause={"429": 1, "503": 12},
        failures_by_class={"ReadTimeout": 1},
    )
    lines = format_stats(ClientStats(calls=calls)).splitlines()
    assert lines[0] == "termai_http"
    assert set(lines[1]) == {"-"}
    assert lines[-3].startswith("  retry: 503")
    assert lines[-2].startswith("  retry: 429")
    assert lines[-1].startswith("  failed: ReadTimeout")
    assert len({len(line) for line in lines[-3:]}) == 1


def test_times_are_counted_to_two_percent() -> None:
    """How many took how long adds up to the calls, the shortest first; tokens have their own."""
    metrics = HttpMetrics()
    for seconds in (0.5, 0.001, 0.001):
        metrics.record(CallRecord(duration=seconds, success=True, time_to_first_token=2 * seconds))
    stats = metrics.get_stats()
    assert list(stats.durations_ms) == pytest.approx([1, 500], rel=0.02)
    assert list(stats.durations_ms.values()) == [2, 1]
    assert list(stats.times_to_first_token_ms) == pytest.approx([2, 1000], rel=0.02)


def test_the_last_failures_are_kept_and_no_more() -> None:
    """Fifty, the newest first, whatever number there was; a reset forgets them."""
    metrics = HttpMetrics()
    for number in range(120):
        details = RecordedFailure(when=float(number), error="ReadTimeout")
        metrics.record(
            CallRecord(duration=1, success=False, failure="ReadTimeout", details=details)
        )
    kept = metrics.get_stats().recent_failures
    assert [one.when for one in kept] == [float(number) for number in range(119, 69, -1)]
    metrics.reset()
    assert metrics.get_stats().recent_failures == ()
