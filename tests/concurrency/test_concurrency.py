"""Many threads on one client: reuse, exact figures, no reply to another's prompt."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import termai_http
from termai_http import (
    CancelToken,
    ChatRequest,
    ClaudeAdapter,
    Client,
    HttpClientConfig,
    OpenAIAdapter,
    RetryConfig,
)
from termai_http.testing import RecordedRequest, ResetAfterRead, Server, Silent, Status

KEY = "sk-test-key"
FAST = RetryConfig(base_delay=0.001, max_delay=0.002, max_attempts=5, ambiguous_retries=4)


def together(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(index)`` in ``number`` threads that start at one barrier."""
    barrier = threading.Barrier(number)

    def run(index: int) -> Any:
        barrier.wait(30)
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return [future.result(60) for future in [pool.submit(run, i) for i in range(number)]]


@pytest.mark.parametrize("number", [10, 100])
@pytest.mark.parametrize("adapter", [OpenAIAdapter, ClaudeAdapter])
def test_concurrent_calls_get_their_own_replies(server: Server, adapter: Any, number: int) -> None:
    """Every thread's reply answers its own prompt, over at most a connection a thread."""
    with Client(HttpClientConfig(trust_env=False)) as client:
        vendor = adapter(client, api_key=KEY, base_url=server.url)

        def ask(index: int) -> tuple[int, str]:
            request = ChatRequest(model="any-model", messages=f"prompt number {index}")
            return index, vendor.chat_completion(request).text

        for index, text in together(number, ask):
            assert text.endswith(f"prompt number {index}")
        assert len(server.connections) <= number
        assert client.stats().calls.successful_requests == number
        assert client.stats().active_connections == 0


def test_two_threads_in_turn_use_one_connection_each(server: Server) -> None:
    """Two threads that call at the same time reuse one connection each, call after call."""
    turns = threading.Barrier(2)
    server_delay = threading.Barrier(2)

    def hold(request: RecordedRequest) -> None:
        server_delay.wait(30)

    server.fail_when(hold)
    with Client(HttpClientConfig(trust_env=False)) as client:

        def ask(index: int) -> None:
            for _ in range(10):
                turns.wait(30)
                client.chat("hi", model="gpt-5.5", base_url=server.url, api_key=KEY)

        together(2, ask)
        stats = client.stats()
    assert (stats.opened, stats.reused) == (2, 18)
    assert len(server.connections) == 2


def test_two_references_to_the_client_are_one_pool(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls through client() from anywhere share one connection."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    termai_http.client().chat("one", model="gpt-5.5")
    termai_http.chat("two", model="gpt-5.5")
    termai_http.openai.chat(ChatRequest(model="gpt-5.5", messages="three"))
    assert len(server.connections) == 1
    assert termai_http.stats().reuse_ratio == pytest.approx(2 / 3)


def test_figures_are_exact_after_1000_calls_with_faults(server: Server) -> None:
    """Calls, attempts, retries and connections add up with what the server recorded."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def fail(request: RecordedRequest) -> Any:
        with lock:
            seen[request.prompt] += 1
            first = seen[request.prompt] == 1
        number = int(request.prompt)
        if number % 10 == 1 and first:
            return Status(429, retry_after=0.001)
        if number % 10 == 2 and first:
            return ResetAfterRead()
        return Status(400) if number % 10 == 3 else None

    server.fail_when(fail)
    numbers = iter(range(1000))
    with Client(HttpClientConfig(trust_env=False, retry=FAST)) as client:

        def work(_: int) -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    client.chat(str(number), model="m", base_url=server.url, api_key=KEY)
                except termai_http.BadRequestError:
                    assert number % 10 == 3

        together(32, work)
        stats = client.stats()
    calls = stats.calls
    assert calls.total_requests == 1000
    assert calls.failed_requests == 100
    assert calls.successful_requests == 900
    assert calls.failures_by_class == {"BadRequestError": 100}
    assert calls.total_retries == 200
    assert calls.retries_by_cause["429"] == 100
    assert sum(calls.retries_by_cause.values()) == 200
    assert calls.in_flight == 0
    assert len(server.requests) == 1200
    assert stats.total_requests == stats.opened + stats.reused == 1200
    assert stats.opened == len(server.connections)
    assert stats.active_connections == 0
    assert stats.idle_connections == stats.opened - stats.discarded - stats.evicted


def test_pooling_off_opens_a_connection_a_call(server: Server) -> None:
    """With pooling=0.0 every call has a connection of its own, which is closed after it."""
    with Client(HttpClientConfig(pooling=0.0, trust_env=False)) as client:
        for _ in range(5):
            client.chat("hi", model="m", base_url=server.url, api_key=KEY)
        stats = client.stats()
    assert len(server.connections) == 5
    assert (stats.opened, stats.reused, stats.idle_connections) == (5, 0, 0)
    assert {request.headers["connection"] for request in server.requests} == {"close"}


def test_pooling_half_uses_the_pool_for_its_share(server: Server) -> None:
    """With pooling=0.5 each call draws, and only its share comes from the pool."""
    draws = iter([0.1, 0.9] * 10)
    clock = termai_http._call.Clock(uniform=lambda low, high: next(draws))
    with Client(HttpClientConfig(pooling=0.5, trust_env=False), _clock=clock) as client:
        for _ in range(20):
            client.chat("hi", model="m", base_url=server.url, api_key=KEY)
        stats = client.stats()
    assert stats.opened == len(server.connections) == 11
    assert stats.reused == 9


def test_calls_beyond_max_connections_wait_for_a_slot(server: Server) -> None:
    """No more than max_connections are ever open, and every call gets its turn."""
    config = HttpClientConfig(max_connections=3, trust_env=False)
    with Client(config) as client:

        def ask(index: int) -> str:
            return client.chat(f"n{index}", model="m", base_url=server.url, api_key=KEY).text

        texts = together(24, ask)
    assert [text.split()[-1] for text in texts] == [f"n{index}" for index in range(24)]
    assert len(server.connections) <= 3


def test_a_full_pool_is_a_pool_timeout(server: Server) -> None:
    """A call that gets no slot before its deadline says how many are in use."""
    arrived = threading.Event()

    def hold(request: RecordedRequest) -> Any:
        arrived.set()
        return Silent()

    server.fail_when(hold)
    token = CancelToken()
    with Client(HttpClientConfig(max_connections=1, trust_env=False)) as client:

        def first() -> None:
            with pytest.raises(termai_http.CallCancelled):
                client.chat("hi", model="m", base_url=server.url, api_key=KEY, cancel=token)

        thread = threading.Thread(target=first)
        thread.start()
        assert arrived.wait(30)
        with pytest.raises(termai_http.PoolTimeout, match="1 connections in use of at most 1"):
            client.chat("hi", model="m", base_url=server.url, api_key=KEY, timeout=0.1)
        token.cancel()
        thread.join(30)
        assert not thread.is_alive()
        assert client.stats().active_connections == 0


def test_a_token_ends_a_call_from_another_thread(server: Server) -> None:
    """cancel() ends a call that waits for its answer, and one that waits to retry."""
    arrived = threading.Semaphore(0)

    def hold(request: RecordedRequest) -> Any:
        arrived.release()
        return Silent() if request.prompt == "silent" else Status(429, retry_after=60)

    server.fail_when(hold)
    token = CancelToken()
    with Client(HttpClientConfig(trust_env=False)) as client:

        def ask(prompt: str) -> None:
            with pytest.raises(termai_http.CallCancelled):
                client.chat(prompt, model="m", base_url=server.url, api_key=KEY, cancel=token)

        threads = [threading.Thread(target=ask, args=(p,)) for p in ("silent", "retry")]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert arrived.acquire(timeout=30)
        token.cancel()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        with pytest.raises(termai_http.CallCancelled):
            client.chat("later", model="m", base_url=server.url, api_key=KEY, cancel=token)
    assert len(server.requests) == 2


def test_the_session_used_raw_pools_and_retries(server: Server) -> None:
    """client().session is a real requests.Session that reuses, retries and keeps no cookie."""
    import requests

    server.script(Status(503), Status(503))
    with Client(HttpClientConfig(trust_env=False, retry=FAST)) as client:
        session = client.session
        assert isinstance(session, requests.Session)
        body = {"model": "m", "messages": [{"role": "user", "content": "raw"}]}
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"{server.openai_url}/chat/completions"
        answer = session.post(url, json=body, headers=headers, timeout=30)
        assert answer.status_code == 200
        assert len(server.requests) == 3
        session.post(url, json=body, headers=headers, timeout=30)
        assert len(server.connections) == 1
        assert len(session.cookies) == 0
