"""Limits of one's own, counted in this process and in Redis."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from termai_http import ConfigurationError, HttpClientConfig, errors
from termai_http._call import Clock
from termai_http.contrib._pacing_limits import shared_name
from termai_http.contrib.pacing import Pacing

from .pacing_bed import KEY, FakeTime, answered, request
from .redis_server import running_redis

pytest.importorskip("pyrate_limiter")


@pytest.fixture
def time() -> FakeTime:
    """A clock that stands until somebody waits."""
    return FakeTime()


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis."""
    pytest.importorskip("redis")
    folder: Path = tmp_path_factory.mktemp("redis")
    with running_redis(folder) as url:
        if url is None:
            pytest.skip("no redis-server here")
        yield url


def test_requests_a_minute_are_kept(time: FakeTime) -> None:
    """60 a minute: six at once, then one a second."""
    built = time.build(Pacing(requests_per_minute=60))
    for _ in range(6):
        built.around_attempt(request(time.clock), answered())
    assert time.waits == []
    for _ in range(10):
        built.around_attempt(request(time.clock), answered())
    assert sum(time.waits) == pytest.approx(10.0, abs=0.2)


def test_other_keys_have_limits_of_their_own(time: FakeTime) -> None:
    """What one key used up is there for another."""
    built = time.build(Pacing(requests_per_minute=1))
    for number in range(5):
        built.around_attempt(request(time.clock, key=f"sk-{number}"), answered())
    assert time.waits == []


def test_tokens_a_minute_are_kept(time: FakeTime) -> None:
    """6,000 a minute, 600 at once: what takes 1,600 waits for the thousand that are not there."""
    built = time.build(Pacing(tokens_per_minute=6000))
    built.around_attempt(request(time.clock, body=b'{"max_tokens":1595}'), answered())
    assert sum(time.waits) == pytest.approx(10.0, abs=0.2)


def test_more_tokens_than_a_minute_has_take_longer_than_a_minute(time: FakeTime) -> None:
    """No weight is too large; it only takes its time, in parts."""
    built = time.build(Pacing(tokens_per_minute=600, estimate=lambda body: 1260))
    built.around_attempt(request(time.clock, 300.0), answered())
    assert sum(time.waits) == pytest.approx(120.0, abs=1.0)


def test_a_limit_that_cannot_be_kept_in_time_fails_at_once(time: FakeTime) -> None:
    """Told before anything is paid, so that the next call finds all of it."""
    built = time.build(Pacing(tokens_per_minute=600, estimate=len))
    outcome = built.around_attempt(request(time.clock, 50.0, body=b"x" * 660), answered())
    assert isinstance(outcome.error, errors.DeadlineExceeded)
    assert outcome.error.phase == "pacing"
    assert outcome.error.retry_after == pytest.approx(60.0)
    assert "own limit" in outcome.error.message
    assert "server asks" not in str(outcome.error)
    built.around_attempt(request(time.clock, body=b"x" * 60), answered())
    assert time.waits == []


def test_the_servers_limits_hold_beside_ones_own(time: FakeTime) -> None:
    """The longer wait counts."""
    built = time.build(Pacing(requests_per_minute=600))
    built.around_attempt(request(time.clock), answered(429, retry_after="7"))
    built.around_attempt(request(time.clock), answered())
    assert sum(time.waits) == pytest.approx(7.0, abs=0.1)


def test_no_thread_is_begun() -> None:
    """The library's own waiting would begin one for each limit."""
    before = threading.active_count()
    built = Pacing(requests_per_minute=60, tokens_per_minute=6000).build(
        HttpClientConfig(), Clock()
    )
    built.around_attempt(request(Clock()), answered())
    assert threading.active_count() == before
    built.close()


@pytest.mark.parametrize(
    ("missing", "more", "named"),
    [
        ("pyrate_limiter", {}, r'pip install "termai-http\[ratelimit\]"'),
        ("redis", {"redis": "redis://localhost"}, r'pip install "termai-http\[ratelimit\]" redis'),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, missing: str, more: dict[str, Any], named: str
) -> None:
    """When the client is made, with the command that installs it; without limits nothing is."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=named):
        Pacing(requests_per_minute=1, **more).build(HttpClientConfig(), Clock())
    Pacing().build(HttpClientConfig(), Clock())


def test_a_url_that_is_none_is_refused_without_being_shown() -> None:
    """It may hold a password."""
    pytest.importorskip("redis")
    with pytest.raises(ConfigurationError, match="redis must be a URL") as caught:
        Pacing(redis="me:hunter2@host", requests_per_minute=1).build(HttpClientConfig(), Clock())
    assert "hunter2" not in str(caught.value)


def test_the_shared_name_tells_nothing_of_the_key() -> None:
    """It is the same in every process, another for another key, and no part of either."""
    headers = {"Authorization": f"Bearer {KEY}"}
    name = shared_name("api.openai.com", "m", headers)
    assert name == shared_name("api.openai.com", "m", {"authorization": f"Bearer {KEY}"})
    assert name != shared_name("api.openai.com", "m", {"Authorization": "Bearer other"})
    assert name != shared_name("api.openai.com", None, headers)
    assert name != shared_name("api.openai.com", "m", {**headers, "OpenAI-Project": "p"})
    assert KEY not in name
    assert name == "9f174b7d3a6df22e793004b1be47aa34"


def test_two_processes_share_a_limit_in_redis(redis_url: str, time: FakeTime) -> None:
    """Two pacings that know nothing of each other let in as many together as one alone."""
    described = Pacing(requests_per_minute=60, redis=redis_url)
    both = [time.build(described), time.build(described)]
    key = f"sk-{uuid.uuid4()}"
    for number in range(6):
        both[number % 2].around_attempt(request(time.clock, key=key), answered())
    assert time.waits == []
    for number in range(4):
        both[number % 2].around_attempt(request(time.clock, key=key), answered())
    assert sum(time.waits) == pytest.approx(4.0, abs=0.2)
    for built in both:
        built.close()


def test_many_threads_share_a_limit_in_redis(redis_url: str) -> None:
    """Of 32 at once as many are let in as the limit has; the others would be too late."""
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(redis_url) as client:
        described = Pacing(requests_per_minute=100, redis=client)
        both = [described.build(HttpClientConfig(), Clock()) for _ in range(2)]
        key, barrier = f"sk-{uuid.uuid4()}", threading.Barrier(32)

        def call(number: int) -> bool:
            barrier.wait(30)
            made = request(Clock(), 0.3, key=key)
            return both[number % 2].around_attempt(made, answered()).error is None

        with ThreadPoolExecutor(32) as pool:
            let_in = sum(pool.map(call, range(32)))
        assert client.ping()
    assert 10 <= let_in <= 12


def test_a_redis_that_is_away_stops_nobody(
    time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    """This process counts alone meanwhile, one warning says so, and the URL is not in it."""
    pytest.importorskip("redis")
    described = Pacing(requests_per_minute=60, redis="redis://me:hunter2@127.0.0.1:1/0")
    built = time.build(described)
    for _ in range(8):
        built.around_attempt(request(time.clock), answered())
    assert sum(time.waits) == pytest.approx(2.0, abs=0.1)
    warned = [one for one in caplog.records if "Redis does not answer" in one.getMessage()]
    assert len(warned) == 1
    assert "hunter2" not in caplog.text
    built.close()
