"""Forks 1,000 times while 8 threads call through the client, which goes on in every child.

Each child makes two calls of its own on the same client, and ends. ``python -m
tests.evidence.forks`` prints one line and exits with 1 where a child hangs or fails, a reply
crosses to another call, a call of the parent fails, or a fork costs the parent a connection.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings

from termai_http import Client

from . import support
from .server import ServerProcess
from .support import MODELS, Result

_WORKERS = 8
_CHILDREN = 4
_HANG_SECONDS = 40.0
_LAST_WORDS_SECONDS = 1.0
_MOST_HANGS = 3
_MOST_TOLD = 2_000
# Python's own, from 3.12 on; the threads are this script's, and it is this that is tried.
_FORK_WARNING = r"This process \(pid=\d+\) is multi-threaded, use of fork\(\) may lead to deadlocks"


class _Forks:
    def __init__(self, result: Result, client: Client, url: str) -> None:
        self.calls = 0
        self.forks = 0
        self.hangs = 0
        self._result = result
        self._client = client
        self._url = url
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._children: dict[int, tuple[int, float]] = {}

    def run(self, count: int) -> None:
        """Fork so often, a few children at a time, while the threads call."""
        workers = [
            threading.Thread(target=self._hammer, args=(index,)) for index in range(_WORKERS)
        ]
        for worker in workers:
            worker.start()
        for number in range(count):
            if self.hangs >= _MOST_HANGS:
                break
            if len(self._children) >= _CHILDREN:
                self._wait_for_one()
            self._fork(number)
            self.forks += 1
        while self._children:
            self._wait_for_one()
        self._end.set()
        for worker in workers:
            worker.join(_HANG_SECONDS)
            self._result.must(not worker.is_alive(), "a thread of the parent hangs")

    def _hammer(self, index: int) -> None:
        calls = 0
        while not self._end.is_set():
            calls += 1
            flaw = self._ask(f"good {index} {calls} of the parent", MODELS[calls % 2])
            self._result.must(not flaw, flaw)
        with self._lock:
            self.calls += calls

    def _ask(self, prompt: str, model: str) -> str:
        """Make a call; returns what is wrong with it."""
        try:
            reply = support.ask(
                self._client, self._url, prompt, model=model, timeout=_HANG_SECONDS / 2
            )
        except Exception as error:
            return f"{prompt}: {error!r}"
        if reply.attempts != 1:
            return f"{prompt}: {reply.attempts} attempts"
        return "" if reply.text == prompt else f"{prompt}: the reply to {reply.text}"

    def _fork(self, number: int) -> None:
        ours, theirs = os.pipe()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _FORK_WARNING, DeprecationWarning)
            child = os.fork()
        if not child:
            self._live(number, theirs)
        os.close(theirs)
        self._children[ours] = child, time.monotonic() + _HANG_SECONDS

    def _live(self, number: int, pipe: int) -> None:
        """Be a child: make two calls, tell what was wrong, and end without a way back."""
        told = ""
        try:
            told = self._two_calls(number)
        except BaseException:
            told = traceback.format_exc()
        finally:
            os.write(pipe, (told or "good").encode()[:_MOST_TOLD])
            os._exit(0)

    def _two_calls(self, number: int) -> str:
        for turn, model in enumerate(MODELS):
            flaw = self._ask(f"good {number} {turn} of a child", model)
            if flaw:
                return flaw
        stats = self._client.stats()
        figures = stats.opened, stats.reused, stats.idle_connections, stats.calls.total_requests
        held = support.in_use(self._client)
        return held or ("" if figures == (1, 1, 1, 2) else f"child {number}: {stats}")

    def _wait_for_one(self) -> None:
        """Wait until a child ends, or has taken so long that it hangs."""
        left = min(end for _, end in self._children.values()) - time.monotonic()
        ready, _, _ = select.select(list(self._children), [], [], max(left, 0.0))
        if not ready:
            ready = [min(self._children, key=lambda pipe: self._children[pipe][1])]
            self.hangs += 1
            with contextlib.suppress(ProcessLookupError):
                # First it shows where it hangs.
                os.kill(self._children[ready[0]][0], signal.SIGUSR1)
                select.select(ready, [], [], _LAST_WORDS_SECONDS)
                os.kill(self._children[ready[0]][0], signal.SIGKILL)
        for pipe in ready:
            child, _ = self._children.pop(pipe)
            told = os.read(pipe, _MOST_TOLD).decode()
            os.close(pipe)
            os.waitpid(child, 0)
            self._result.must(told == "good", told or f"a child hung for {_HANG_SECONDS:g} s")


def run(result: Result, short: bool) -> None:
    """Fork, and judge what the parent is left with."""
    count = 50 if short else 1_000
    if not hasattr(os, "fork"):
        result.line = "this system has no fork"
        return
    faulthandler.register(signal.SIGUSR1)
    with ServerProcess() as server:
        before = support.descriptors()
        with support.client() as client:
            forks = _Forks(result, client, server.url)
            forks.run(count)
            held = support.in_use(client)
            stats = client.stats()
        left = support.descriptors()
    result.must(not held, f"{held} with no call running")
    result.must(len(left) == len(before), f"descriptors: {dict(left.items() ^ before.items())}")
    result.must(stats.opened <= _WORKERS, f"the parent opened {stats.opened} connections")
    result.line = (
        f"{forks.forks:,} forks under {_WORKERS} threads that made {forks.calls:,} calls: "
        f"{forks.hangs} hangs, {result.number} flaws, "
        f"{stats.opened} connections opened by the parent"
    )


if __name__ == "__main__":
    sys.exit(support.main(run, str(__doc__)))
