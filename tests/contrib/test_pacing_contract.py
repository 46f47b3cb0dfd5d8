"""Pacing on real sockets: what a server with a limit sees of many threads."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from termai_http import CancelToken, Client, HttpClientConfig, RetryConfig, errors, events
from termai_http._call import Clock, Waker
from termai_http.contrib.pacing import Pacing, PacingStats
from termai_http.testing import Fault, RecordedRequest, Server, Status

from .pacing_bed import KEY, Limited
from .pacing_world import Bucket, Window

PATIENCE = 30.0


def options(server: Server) -> dict[str, Any]:
    """Return what a call to the server needs."""
    return {"model": "m", "base_url": server.url, "api_key": KEY}


@pytest.fixture
def paced(fast: RetryConfig) -> Iterator[Client]:
    """A client with pacing."""
    with Client(HttpClientConfig(retry=fast, trust_env=False, layers=(Pacing(),))) as made:
        yield made


@pytest.fixture
def small_interval() -> Iterator[None]:
    """Let threads take turns far more often than they usually do."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def call_from_threads(client: Client, server: Server, threads: int, calls: int) -> list[str]:
    """Make calls from threads that begin at once; returns the replies."""
    barrier = threading.Barrier(threads)

    def work(_: int) -> list[str]:
        barrier.wait(PATIENCE)
        return [client.chat("hi", **options(server)).text for _ in range(calls)]

    with ThreadPoolExecutor(threads) as pool:
        return [text for texts in pool.map(work, range(threads)) for text in texts]


@pytest.mark.parametrize(
    ("limit", "most_refused"),
    [
        (Bucket(60, 400.0, headers=True), 0.1),
        (Window(40, 0.2, headers=True), 0.1),
        (Bucket(60, 400.0, headers=False), 0.25),
    ],
    ids=["bucket, told", "window, told", "bucket, only Retry-After"],
)
@pytest.mark.usefixtures("small_interval")
def test_32_threads_keep_to_a_limit(
    server: Server, limit: Bucket | Window, most_refused: float
) -> None:
    """Every call ends well; unpaced, a third and more of the attempts are refused."""
    limited = Limited(limit)
    server.fail_when(limited)
    retry = RetryConfig(base_delay=0.001, max_delay=0.002, max_attempts=8)
    with Client(HttpClientConfig(retry=retry, trust_env=False, layers=(Pacing(),))) as client:
        assert call_from_threads(client, server, 32, 8) == ["fine"] * 256
        layer = client.stats().layers["pacing"]
    assert limited.refused < limited.asked * most_refused
    assert isinstance(layer, PacingStats)
    (key,) = layer.keys
    assert (key.started, key.refused) == (limited.asked, limited.refused)
    assert (key.waiting, key.held > 0) == (0, True)


def test_one_threads_refusal_holds_back_the_others(paced: Client, server: Server) -> None:
    """After it, nothing comes to the server for as long as it asked."""
    came: list[float] = []
    refused = threading.Event()

    def watch(_: RecordedRequest) -> Fault | None:
        came.append(time.monotonic())
        if len(came) == 1:
            return Status(429, retry_after=0.4)
        return None

    def call(number: int) -> str:
        if number:
            assert refused.wait(PATIENCE)
        return paced.chat("hi", **options(server)).text

    server.fail_when(watch)
    paced.listen(lambda event: refused.set() if isinstance(event, events.AttemptFailed) else None)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(call, range(8))) == {"You said: hi"}
    assert len(came) == 9
    assert min(came[1:]) - came[0] >= 0.4


def test_a_call_that_would_be_too_late_is_not_sent(paced: Client, server: Server) -> None:
    """It fails while there is still time to do something else, and says when to come back."""
    server.script(Status(429, retry_after=60))
    with pytest.raises(errors.RateLimitError):
        paced.chat("hi", timeout=5, **options(server))
    with pytest.raises(errors.DeadlineExceeded) as caught:
        paced.chat("hi", timeout=5, **options(server))
    error = caught.value
    assert (error.phase, error.attempts, error.maybe_billed) == ("pacing", 0, False)
    assert 50 < (error.retry_after or 0) <= 60
    assert (error.elapsed or 0) < 5
    assert len(server.requests) == 1
    assert paced.chat("hi", timeout=5, layers=(), **options(server)).text == "You said: hi"


def test_a_stream_is_paced_and_its_headers_are_read(paced: Client, server: Server) -> None:
    """It begins after the wait, and what it takes counts until its first event."""
    server.script(Status(429, retry_after=0.2))
    with paced.stream("hi", **options(server)) as stream:
        assert "".join(stream) == "You said: hi"
    (key,) = paced.stats().layers["pacing"].keys
    assert (key.started, key.refused) == (2, 1)


def test_cancel_and_close_end_those_who_wait(server: Server, fast: RetryConfig) -> None:
    """The one with its token, the others with the client; none is sent."""
    napping = threading.Semaphore(0)

    def wait(waker: Waker, seconds: float) -> bool:
        napping.release()
        return waker.wait(seconds)

    config = HttpClientConfig(retry=fast, trust_env=False, layers=(Pacing(),))
    client = Client(config, _clock=Clock(wait=wait))
    server.script(Status(429, retry_after=50))
    with pytest.raises(errors.RateLimitError):
        client.chat("hi", timeout=1, **options(server))
    token = CancelToken()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.chat, "hi", cancel=token, **options(server))
        assert napping.acquire(timeout=PATIENCE)
        second = pool.submit(client.chat, "hi", **options(server))
        assert napping.acquire(timeout=PATIENCE)
        token.cancel()
        with pytest.raises(errors.CallCancelled):
            first.result(PATIENCE)
        assert client.stats().layers["pacing"].waiting == 1
        client.close()
        with pytest.raises(errors.ClientClosed):
            second.result(PATIENCE)
    assert len(server.requests) == 1


def test_a_wait_is_told_to_those_who_listen(paced: Client, server: Server) -> None:
    """With how long it was and why."""
    server.script(Status(429, retry_after=0.1))
    heard: list[events.Event] = []
    with pytest.raises(errors.RateLimitError):
        paced.chat("hi", retry=RetryConfig(max_attempts=1), **options(server))
    paced.chat("hi", on_event=heard.append, **options(server))
    (waited,) = (event for event in heard if isinstance(event, events.PacingWaited))
    assert waited.why == "refusal"
    assert waited.seconds > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are for systems that have them")
def test_a_forked_child_is_not_held_back(paced: Client, server: Server) -> None:
    """It begins anew, while the parent's calls still wait."""
    server.script(Status(429, retry_after=60))
    with pytest.raises(errors.RateLimitError):
        paced.chat("hi", timeout=5, **options(server))
    child = os.fork()
    if child == 0:
        text = paced.chat("hi", timeout=5, **options(server)).text
        os._exit(0 if text == "You said: hi" else 1)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(errors.DeadlineExceeded):
        paced.chat("hi", timeout=5, **options(server))
