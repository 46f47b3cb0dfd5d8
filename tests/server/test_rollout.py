"""The pool rolled out to a share of calls: who uses it, and both sides counted apart."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

import termai_http
from termai_http import (
    BadRequestError,
    ChatRequest,
    ClaudeAdapter,
    Client,
    Conversation,
    HttpClientConfig,
    HttpStats,
    InvalidRequestError,
    OpenAIAdapter,
    RetryConfig,
    Target,
)
from termai_http._rollout import place_of
from termai_http.testing import RecordedRequest, Server, Status

KEY = "sk-test-key"
# One on each side of a half.
IN, OUT = "user-2", "user-1"


@contextmanager
def small_switch_interval() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def is_unpooled(request: RecordedRequest) -> bool:
    """Tell whether a request asked for a connection of its own."""
    return request.headers.get("connection") == "close"


SUMS = (
    *("total_requests", "successful_requests", "failed_requests", "total_retries"),
    *("retries_denied", "in_flight", "input_tokens", "output_tokens", "calls_without_cost"),
)
COUNTS = ("failures_by_class", "retries_by_cause", "durations_ms", "times_to_first_token_ms")


def check_they_add_up(whole: HttpStats, one: HttpStats, other: HttpStats) -> None:
    """Compare every figure that is a sum with the sum of both parts."""
    for name in SUMS:
        assert getattr(whole, name) == getattr(one, name) + getattr(other, name), name
    assert whole.cost == pytest.approx(one.cost + other.cost)
    for name in COUNTS:
        parts = [getattr(one, name), getattr(other, name)]
        for key, count in getattr(whole, name).items():
            assert count == sum(part.get(key, 0) for part in parts), name
    for model, of in whole.models.items():
        parts_of = [part.models[model] for part in (one, other) if model in part.models]
        for field in attrs.fields(type(of)):
            found = sum(getattr(part, field.name) for part in parts_of)
            assert getattr(of, field.name) == pytest.approx(found), field.name
    # What is neither a sum nor made of one is no part of this.
    told = {*SUMS, *COUNTS, "cost", "models", "recent_failures"}
    rest = {field.name for field in attrs.fields(HttpStats)} - told
    assert all(name.startswith(("average_", "p50_", "p95_", "p99_", "success_")) for name in rest)


def test_both_sides_add_up_under_threads(server: Server) -> None:
    """32 threads at a half: each snapshot is whole, and the sides are those the server saw."""
    server.fail_when(lambda request: Status(400) if request.model == "bad" else None)
    done = threading.Event()
    with Client(HttpClientConfig(pooling=0.5, trust_env=False)) as client:

        def work(index: int) -> None:
            start.wait(30)
            for number in range(6):
                options = {"base_url": server.url, "api_key": KEY}
                if (index + number) % 4 == 0:
                    with pytest.raises(BadRequestError):
                        client.chat("hi", model="bad", **options)
                elif number % 2:
                    client.chat("hi", model=f"m{index % 3}", **options)
                else:
                    "".join(client.stream("hi", model="claude-m", **options))

        def look() -> int:
            start.wait(30)
            looks = 0
            while not done.is_set() or not looks:
                stats = client.stats()
                check_they_add_up(stats.calls, stats.pooled_calls, stats.unpooled_calls)
                looks += 1
            return looks

        start = threading.Barrier(33)
        with small_switch_interval(), ThreadPoolExecutor(33) as pool:
            looking = pool.submit(look)
            try:
                for job in [pool.submit(work, index) for index in range(32)]:
                    job.result(60)
            finally:
                done.set()
            assert looking.result(60) > 0
        stats = client.stats()
    check_they_add_up(stats.calls, stats.pooled_calls, stats.unpooled_calls)
    assert (stats.calls.total_requests, stats.calls.in_flight) == (192, 0)
    unpooled = sum(map(is_unpooled, server.requests))
    assert stats.unpooled_calls.total_requests == unpooled
    assert stats.pooled_calls.total_requests == 192 - unpooled
    # Seven standard deviations to either side.
    assert 48 < unpooled < 144
    assert stats.calls.failed_requests == stats.calls.failures_by_class["BadRequestError"] == 48
    assert stats.calls.models["claude-m"].calls == 192 - 48 - stats.calls.models["m0"].calls - (
        stats.calls.models["m1"].calls + stats.calls.models["m2"].calls
    )


def test_a_call_in_flight_is_on_its_side(server: Server) -> None:
    """A stream that is read counts where it will be counted when it ended."""
    with Client(HttpClientConfig(pooling=0.0, trust_env=False)) as client:
        with client.stream("hi", model="m", base_url=server.url, api_key=KEY) as stream:
            stats = client.stats()
            assert (stats.pooled_calls.in_flight, stats.unpooled_calls.in_flight) == (0, 1)
            "".join(stream)
        assert client.stats().unpooled_calls == client.stats().calls
        assert client.stats().pooled_calls == HttpStats()


def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return f"sunny in {city}"


Ask = Callable[[Client, Server, Any], object]
URLS: Callable[[Server], dict[str, Any]] = lambda server: {  # noqa: E731
    "base_url": server.url,
    "api_key": KEY,
}
WAYS: dict[str, Ask] = {
    "chat": lambda c, s, key: c.chat("hi", model="m", rollout_key=key, **URLS(s)),
    "stream": lambda c, s, key: "".join(
        c.stream("hi", model="claude-m", rollout_key=key, **URLS(s))
    ),
    "responses": lambda c, s, key: c.chat(
        "hi", model="m", api="responses", rollout_key=key, **URLS(s)
    ),
    "run_tools": lambda c, s, key: c.run_tools(
        "weather?", tools=[weather], model="m", rollout_key=key, **URLS(s)
    ),
    "fallback": lambda c, s, key: c.chat(
        "hi",
        model="down",
        fallback=[Target("m", **URLS(s))],
        retry=RetryConfig(max_attempts=1),
        rollout_key=key,
        **URLS(s),
    ),
    "chat_many": lambda c, s, key: list(
        c.chat_many(["a", "b"], model="m", rollout_key=key, **URLS(s))
    ),
    "embed": lambda c, s, key: c.embed("a", model="m", rollout_key=key, **URLS(s)),
    "count_tokens": lambda c, s, key: c.count_tokens(
        "a", model="claude-m", rollout_key=key, **URLS(s)
    ),
    "list_models": lambda c, s, key: c.list_models(rollout_key=key, **URLS(s)),
    "face": lambda c, s, key: termai_http.chat(
        "hi", model="m", client=c, rollout_key=key, **URLS(s)
    ),
    "conversation": lambda c, s, key: Conversation("m", client=c, rollout_key=key, **URLS(s)).ask(
        "hi"
    ),
    "openai": lambda c, s, key: OpenAIAdapter(c, KEY, s.url).chat_completion(
        ChatRequest("m", "hi"), rollout_key=key
    ),
    "respond": lambda c, s, key: OpenAIAdapter(c, KEY, s.url).respond(
        ChatRequest("m", "hi"), rollout_key=key
    ),
    "claude": lambda c, s, key: "".join(
        ClaudeAdapter(c, KEY, s.url).stream(ChatRequest("m", "hi"), rollout_key=key)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_keys_calls_are_all_on_one_side(server: Server, way: str) -> None:
    """Whatever makes the calls takes the key, and it is sent to nobody."""
    assert place_of(IN) < 0.5 < place_of(OUT)
    server.fail_when(lambda request: Status(503) if request.model == "down" else None)
    with Client(HttpClientConfig(pooling=0.5, trust_env=False)) as client:
        for key, unpooled in ((IN, False), (OUT, True), (OUT.encode(), True)):
            before = len(server.requests)
            for _ in range(3):
                WAYS[way](client, server, key)
            made = server.requests[before:]
            assert len(made) >= 3
            assert {is_unpooled(request) for request in made} == {unpooled}
            assert all(b"user-" not in bytes(request.body) for request in made)
        stats = client.stats()
    check_they_add_up(stats.calls, stats.pooled_calls, stats.unpooled_calls)
    assert stats.unpooled_calls.total_requests == 2 * stats.pooled_calls.total_requests > 0


def test_the_variable_beats_the_function(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back needs no flag service; the variable is read when a client is made."""
    asked: list[Any] = []

    def ask(key: Any) -> bool:
        asked.append(key)
        return True

    config = HttpClientConfig(pooling=ask, trust_env=False)
    with Client(config) as before:
        monkeypatch.setenv("TERMAI_HTTP_POOLING", "0")
        with Client(config) as after:
            for client, key in ((before, 17), (before, None), (after, 17)):
                client.chat("hi", model="m", rollout_key=key, **URLS(server))
            assert after.stats().unpooled_calls.total_requests == 1
        assert before.stats().pooled_calls.total_requests == 2
    assert asked == [17, None]


def test_a_function_that_fails_breaks_no_call(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The calls use the pool, and one warning says so."""

    def ask(key: Any) -> bool:
        raise OSError("the flag service is down")

    with Client(HttpClientConfig(pooling=ask, trust_env=False)) as client:
        for _ in range(3):
            assert client.chat("hi", model="m", **URLS(server)).text
        assert client.stats().pooled_calls.total_requests == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "OSError" in caplog.text


def test_a_key_that_is_none_is_refused(server: Server) -> None:
    """Before anything is sent."""
    with Client() as client, pytest.raises(InvalidRequestError, match="rollout_key"):
        client.chat("hi", model="m", rollout_key=1.5, **URLS(server))  # type: ignore[arg-type]
    assert not server.requests
