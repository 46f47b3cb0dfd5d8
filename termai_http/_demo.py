"""``termai-http demo``: a client a call beside the shared one, on a loopback server."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs

import termai_http

from . import events
from ._client import Client
from ._log import log
from ._shared import chat, client, close, initialize, show_http_stats
from .config import HttpClientConfig, RetryConfig
from .models import ChatResponse
from .testing import RecordedRequest, Server, Status

__all__ = ["run"]

_THREADS = 32
_CALLS = 256
_CONNECT_DELAY = 0.03
_KEY = "sk-demo"
_MODELS = ("gpt-5.5", "claude-opus-5-5")
_RETRY = RetryConfig(base_delay=0.02, max_delay=0.1, max_attempts=4)


@attrs.define
class _Tally:
    """What one of the two ways came to."""

    opened: int = 0
    requests: int = 0
    retries: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def reuse(self) -> float:
        return 1.0 - self.opened / self.requests if self.requests else 0.0


class _Watch:
    """Sums up calls as a listener: their time, less the waits between attempts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waited = 0.0
        self.elapsed = 0.0
        self.retries = 0
        self.failed = 0

    def __call__(self, event: events.Event) -> None:
        with self._lock:
            if isinstance(event, events.RetryScheduled):
                self.waited += event.wait
                self.retries += 1
            elif isinstance(event, events.CallSucceeded):
                self.elapsed += event.elapsed
            elif isinstance(event, events.CallFailed):
                self.elapsed += event.elapsed
                self.failed += 1


class _Trouble:
    """Refuses the first attempt of some calls, the same ones in both ways."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()

    def __call__(self, request: RecordedRequest) -> Status | None:
        with self._lock:
            self._seen[request.prompt] += 1
            first = self._seen[request.prompt] == 1
        number = request.prompt.rpartition(" ")[2]
        if not first or not number.isdecimal():
            return None
        if int(number) % 16 == 3:
            return Status(429, retry_after=0.05)
        return Status(503) if int(number) % 16 == 11 else None


def run() -> None:
    """Run the demo and print what it came to; takes a few seconds."""
    close()
    with _quiet(), Server(connect_delay=_CONNECT_DELAY) as server:
        print(
            f"A loopback server speaks both dialects on {server.url}.\n"
            f"The demo's server makes each new connection wait {_CONNECT_DELAY * 1000:.0f} ms, "
            "as TLS to a vendor would.\n"
        )
        initialize(HttpClientConfig(retry=_RETRY, trust_env=False))
        for model in _MODELS:
            reply = chat("hello", model=model, base_url=server.url, api_key=_KEY)
            print(f'chat("hello", model="{model}")  ->  {reply.text}')
        print(
            f"\n{_CALLS} calls from {_THREADS} threads, "
            "one in 16 answered 429 at first, one in 16 answered 503:\n"
        )
        apart = _measure(server, _call_with_own_client)
        shared = _measure(server, _call_with_shared_client)
        print(_table(apart, shared))
        print("\nshow_http_stats() of the shared client:\n", flush=True)
        show_http_stats()
    termai_http.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings of the scripted retries out of the demo's output."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _call_with_own_client(ask: Callable[[Client], ChatResponse], watch: _Watch) -> None:
    config = HttpClientConfig(retry=_RETRY, trust_env=False)
    with Client(config) as own, own.listening(watch):
        ask(own)


def _call_with_shared_client(ask: Callable[[Client], ChatResponse], watch: _Watch) -> None:
    ask(client())


def _measure(
    server: Server, call: Callable[[Callable[[Client], ChatResponse], _Watch], None]
) -> _Tally:
    server.reset()
    server.close_idle()
    server.fail_when(_Trouble())
    watch = _Watch()
    before = len(server.connections)

    def work(number: int) -> None:
        model = _MODELS[number % len(_MODELS)]
        with contextlib.suppress(termai_http.TermaiHttpError):
            call(
                lambda on: on.chat(
                    f"call {number}", model=model, base_url=server.url, api_key=_KEY
                ),
                watch,
            )

    with client().listening(watch), ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, range(_CALLS)))
    return _Tally(
        opened=len(server.connections) - before,
        requests=len(server.requests),
        retries=watch.retries,
        failed=watch.failed,
        seconds=(watch.elapsed - watch.waited) / _CALLS,
    )


def _table(apart: _Tally, shared: _Tally) -> str:
    rows = [
        ("", "a client a call", "one shared client"),
        ("connections opened", f"{apart.opened}", f"{shared.opened}"),
        ("reuse ratio", f"{apart.reuse:.1%}", f"{shared.reuse:.1%}"),
        (
            "mean time of a call, without waits",
            f"{apart.seconds * 1000:.1f} ms",
            f"{shared.seconds * 1000:.1f} ms",
        ),
        ("retries", f"{apart.retries}", f"{shared.retries}"),
        ("failed calls", f"{apart.failed}", f"{shared.failed}"),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
