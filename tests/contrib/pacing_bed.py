"""What the tests of pacing share: a clock of their own, answers, calls, and a limited server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs

from termai_http import errors
from termai_http._call import AttemptLimits, Call, Clock, Waker
from termai_http._job import CallRequest, Job, Outcome
from termai_http.config import HttpClientConfig
from termai_http.contrib._pacing_layer import BuiltPacing
from termai_http.contrib.pacing import Pacing
from termai_http.testing import Fault, Raw, RecordedRequest

from .pacing_world import Bucket, Window

__all__ = ["KEY", "FakeTime", "Limited", "answered", "request", "told"]

KEY = "sk-secret-0123456789abcdef"
URL = "https://api.openai.com/v1/chat/completions"
_GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
    ],
}


class FakeTime:
    """A clock that stands until somebody waits.

    Attributes:
        now: What it shows.
        waits: How long was waited, each time.
        stands: Whether waiting moves it.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self.stands = False
        self.in_the_midst: Callable[[], None] = lambda: None

    def wait(self, waker: Waker, seconds: float) -> bool:
        """Let time pass at once."""
        self.waits.append(seconds)
        self.in_the_midst()
        if not self.stands:
            self.now += seconds
        return waker.wait(0.0)

    @property
    def clock(self) -> Clock:
        """It, for what is tested."""
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now, wait=self.wait)

    def build(self, described: Pacing) -> BuiltPacing:
        """Build a pacing that lives by it."""
        built = described.build(HttpClientConfig(), self.clock)
        assert isinstance(built, BuiltPacing)
        return built


@attrs.frozen
class Answered:
    """An answer of a server."""

    status_code: int
    headers: dict[str, str]
    content: bytes = b""


def request(
    clock: Clock, timeout: float = 60.0, *, body: bytes = b"{}", key: str = KEY, **job: Any
) -> CallRequest:
    """Return a call."""
    described = {"url": URL, "model": "gpt-5.5", "provider": "openai", **job}
    made = Job(headers={"Authorization": f"Bearer {key}"}, body=body, **described)
    call = Call(timeout, clock, "openai", described["model"])
    limits = AttemptLimits(connect_timeout=1.0, read_timeout=None)
    return CallRequest(made, call, limits, lambda *_: None, pooled=True)


def answered(status: int = 200, **headers: str) -> Callable[[CallRequest], Outcome[Any]]:
    """Return what makes an attempt that is answered so; underscores stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response: Any = Answered(status, named)
    if status < 400:
        return lambda _: Outcome(value="fine", response=response)
    kinds = {402: errors.QuotaExceededError, 429: errors.RateLimitError}
    kind = kinds.get(status, errors.InternalServerError)
    return lambda _: Outcome(error=kind("refused", status_code=status), response=response)


def told(remaining: int, reset: str, limit: int = 600) -> dict[str, str]:
    """Return the headers of a limit of requests, for ``answered``."""
    return {
        "x_ratelimit_limit_requests": str(limit),
        "x_ratelimit_remaining_requests": str(remaining),
        "x_ratelimit_reset_requests": reset,
    }


class Limited:
    """Lets a loopback server have a limit: give it to ``fail_when``.

    Attributes:
        asked: Attempts that came.
        refused: Those that were refused.
    """

    def __init__(self, limit: Bucket | Window) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self.asked = 0
        self.refused = 0

    def __call__(self, _: RecordedRequest) -> Fault:
        """Answer."""
        with self._lock:
            answer = self._limit.answer(time.monotonic() - self._begun)
            self.asked += 1
            self.refused += answer.refused
        lines = ["HTTP/1.1 200 OK" if answer.let_in else "HTTP/1.1 429 Too Many Requests"]
        for reading in answer.readings:
            lines.append(f"x-ratelimit-limit-requests: {reading.limit}")
            lines.append(f"x-ratelimit-remaining-requests: {reading.remaining}")
            lines.append(f"x-ratelimit-reset-requests: {reading.reset * 1000:.0f}ms")
        if answer.wish is not None:
            lines.append(f"Retry-After: {answer.wish:.3f}")
        body = json.dumps(_GOOD if answer.let_in else {"error": {"message": "slow"}}).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        return Raw("\r\n".join(lines).encode() + body, close=False)
