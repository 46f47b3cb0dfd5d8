"""What tests of the cache stand on: calls without a core, and a store that does as it is told."""

from __future__ import annotations

import json
import os
import signal
import threading
import traceback
from collections.abc import Callable
from typing import Any

from termai_http import errors
from termai_http._call import AttemptLimits, Call, Clock
from termai_http._job import CallRequest, Job, Outcome
from termai_http.config import HttpClientConfig
from termai_http.contrib._cache_entry import Entry, KeptAnswer
from termai_http.contrib._cache_layer import BuiltCache
from termai_http.contrib.cache import Cache

__all__ = ["KEY", "TestCall", "Upstream", "ask", "build", "in_child", "job", "request"]

KEY = "sk-test-0123456789abcdefghijklmnopqrstuvwxyz"


class TestCall(Call):
    """A call that a test ends."""

    __test__ = False

    def __init__(self, timeout: float = 30.0, clock: Clock | None = None) -> None:
        super().__init__(timeout, clock or Clock(), "openai", "gpt-5.5")

    def end_with(self, outcome: Outcome[Any] | None) -> None:
        """Tell those who wait for the end of it."""
        for ending in self.endings:
            ending(outcome)


def job(prompt: str = "Why?", **changes: Any) -> Job:
    """Return what a call is to do."""
    body = {"model": "gpt-5.5", "messages": [{"role": "user", "content": prompt}]}
    fields: dict[str, Any] = {
        "operation": "chat",
        "url": "https://api.example/v1/chat/completions",
        "base_url": "https://api.example/v1",
        "headers": {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        "body": json.dumps(body).encode(),
        "provider": "openai",
        "model": "gpt-5.5",
    }
    return Job(**{**fields, **changes})


def read(answer: Any, call: Call) -> Any:
    """Read an answer as the core's readers do: a value, or an error in its place."""
    if answer.status_code != 200:
        return errors.InternalServerError("It failed.", status_code=answer.status_code)
    try:
        return {"said": json.loads(answer.content)["said"], "attempts": call.attempts}
    except (ValueError, KeyError):
        return errors.InvalidResponseError("It is no reply.")


def request(
    prompt: str = "Why?", *, call: TestCall | None = None, streaming: bool = False, **changes: Any
) -> CallRequest:
    """Return a call as a layer gets it."""
    limits = AttemptLimits(connect_timeout=1.0, read_timeout=None)
    return CallRequest(
        job(prompt, streaming=streaming, **changes),
        call or TestCall(),
        limits,
        read,
        pooled=True,
    )


class Upstream:
    """Stands for all that lies inside of the cache.

    Attributes:
        asked: Bodies that came.
        status: Status of each answer.
        error: What each call ends with, None for an answer.
        entered: Released once for each call that came.
        gate: Each call waits for it; None not to wait.
    """

    def __init__(self, status: int = 200) -> None:
        self.asked: list[bytes] = []
        self.status = status
        self.error: errors.TermaiHttpError | None = None
        self.entered = threading.Semaphore(0)
        self.gate: threading.Event | None = None
        self.headers = {"x-request-id": "req_1", "set-cookie": "a=b", "content-type": "text/json"}

    def __call__(self, asked: CallRequest) -> Outcome[Any]:
        """Answer as it was told."""
        call = asked.call
        call.attempts += 1
        assert asked.job.body is not None
        self.asked.append(asked.job.body)
        said = f"answer {len(self.asked)}"
        self.entered.release()
        if self.gate is not None:
            assert self.gate.wait(30)
        if self.error is not None:
            return Outcome(error=self.error)
        entry = Entry(
            at=0.0,
            status=self.status,
            headers=self.headers,
            body=json.dumps({"said": said}).encode(),
        )
        answer: Any = KeptAnswer(entry)
        value = asked.read(answer, call)
        if isinstance(value, errors.TermaiHttpError):
            return Outcome(error=value, response=answer)
        return Outcome(value=value, response=answer)


def build(clock: Clock | None = None, **fields: Any) -> BuiltCache:
    """Return a client's own cache, in memory where no store is named."""
    description = Cache(**{"store": "memory", **fields})
    return description.build(HttpClientConfig(), clock or Clock())


def ask(built: BuiltCache, upstream: Upstream, prompt: str = "Why?", **fields: Any) -> Any:
    """Make a call through the cache; return its value, or raise its error."""
    outcome = built.around_call(request(prompt, **fields), upstream)
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


def in_child(check: Callable[[], None]) -> Callable[[], int]:
    """Run a check in a forked child; returns what waits for its exit status, 0 where it held."""
    child = os.fork()
    if not child:
        # One that hangs does not outlive the tests.
        signal.alarm(60)
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
