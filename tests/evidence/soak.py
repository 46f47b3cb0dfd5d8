"""Makes 100,000 calls from 16 threads, a tenth with faults, and looks for what they left behind.

``python -m tests.evidence.soak`` prints one line and exits with 1 where a call ended otherwise than
its fault lets it, a reply crossed to another call, or anything was left behind: a descriptor, a
thread, a slot, a call in flight, a connection at the server, memory.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs

from termai_http import (
    BadRequestError,
    Client,
    DeadlineExceeded,
    InvalidResponseError,
    Stream,
    TermaiHttpError,
)

from . import answers, support
from .server import ServerProcess
from .support import KEY, MODELS, Result

_WORKERS = 16
_ROUNDS = 10
_MOST_GROWTH = {True: 5e6, False: 1e6}
_TIMEOUT = 30.0
_LATE_TIMEOUT = 0.1
_QUIET_SECONDS = 120.0
_ROUND_SECONDS = 1800.0

# Each fault, and the error that it ends with; None where another attempt mends it.
_FAULTS: tuple[tuple[str, type[TermaiHttpError] | None], ...] = (
    ("http500", None),
    ("http503", None),
    ("http529", None),
    ("http429", None),
    ("reset", None),
    ("close", None),
    ("cut", None),
    ("cutchunk", None),
    ("cutgzip", None),
    ("slow", None),
    ("html", InvalidResponseError),
    ("nojson", InvalidResponseError),
    ("http400", BadRequestError),
    ("late", DeadlineExceeded),
)
_MANNERS = ("break", "del", "cycle")


@attrs.frozen
class _Task:
    """What one call is to be, decided by its number alone."""

    number: int

    @property
    def options(self) -> dict[str, Any]:
        """Key, place and dialect; the multiplier scatters the dialects over all other choices."""
        return {"model": MODELS[self.number * 2654435761 >> 16 & 1], "api_key": KEY}

    @property
    def kind(self) -> str:
        """Of each hundred: 5 streams left early, 2 streams read, 10 calls with a fault."""
        if self.number % 20 == 0:
            return "left"
        if self.number % 50 == 7:
            return "read"
        return "fault" if self.number % 10 == 3 else "good"

    @property
    def fault(self) -> tuple[str, type[TermaiHttpError] | None]:
        """The fault, and what it ends with."""
        return _FAULTS[self.number // 10 % len(_FAULTS)]

    @property
    def manner(self) -> str:
        """How a stream is left."""
        return _MANNERS[self.number // 20 % len(_MANNERS)]

    @property
    def stops(self) -> bool:
        """Whether a stream that is left stands still, its end not yet sent."""
        return self.number // 60 % 2 == 0


@attrs.frozen(kw_only=True)
class _Snapshot:
    """What there is while no call runs."""

    descriptors: dict[int, str]
    threads: set[str]
    memory: int


class _Soak:
    def __init__(self, result: Result, client: Client, server: ServerProcess) -> None:
        self.kinds: Counter[str] = Counter()
        self._result = result
        self._client = client
        self._server = server
        self._url = server.url
        self._lock = threading.Lock()
        self._gates = threading.Barrier(_WORKERS + 1, timeout=_ROUND_SECONDS)
        self._numbers = iter(range(0))

    def run(self, count: int) -> list[_Snapshot]:
        """Make all calls; returns what there was after each tenth."""
        workers = [threading.Thread(target=self._work) for _ in range(_WORKERS)]
        for worker in workers:
            worker.start()
        snapshots = []
        for index in range(_ROUNDS):
            size = count // _ROUNDS
            self._numbers = iter(range(index * size, (index + 1) * size))
            self._gates.wait()
            self._gates.wait()
            snapshots.append(self._look())
        self._gates.wait()
        for worker in workers:
            worker.join()
        return snapshots

    def _work(self) -> None:
        for _ in range(_ROUNDS):
            self._gates.wait()
            counts: Counter[str] = Counter()
            # One step of a C iterator: no two threads get the same number.
            for number in self._numbers:
                task = _Task(number)
                counts[task.kind] += 1
                self._make(task)
            with self._lock:
                self.kinds.update(counts)
            self._gates.wait()
        # Alive until the last look is over.
        self._gates.wait()

    def _make(self, task: _Task) -> None:
        acts: dict[str, Callable[[_Task], None]] = {
            "good": lambda task: self._chat(task, "good", None),
            "fault": lambda task: self._chat(task, *task.fault),
            "left": self._leave,
            "read": self._read,
        }
        try:
            acts[task.kind](task)
        except Exception as error:
            self._result.must(False, f"{task}, {task.kind}: {error!r}")

    def _chat(self, task: _Task, word: str, expected: type[TermaiHttpError] | None) -> None:
        prompt = f"{word} {task.number}"
        timeout = _LATE_TIMEOUT if word == "late" else _TIMEOUT
        try:
            reply = self._client.chat(prompt, base_url=self._url, timeout=timeout, **task.options)
        except TermaiHttpError as error:
            if type(error) is not expected:
                raise
        else:
            self._result.must(expected is None, f"{prompt}: a reply")
            self._result.must(reply.text == prompt, f"{prompt}: the reply to {reply.text}")

    def _stream(self, task: _Task, word: str) -> tuple[Stream, list[str]]:
        prompt = f"{word} {task.number}"
        stream = self._client.stream(prompt, base_url=self._url, timeout=_TIMEOUT, **task.options)
        return stream, answers.pieces_of(prompt)

    def _leave(self, task: _Task) -> None:
        stream, pieces = self._stream(task, "open" if task.stops else "whole")
        self._result.must(next(stream) == pieces[0], f"{task}: another's piece")
        if task.manner == "break":
            for piece in stream:
                self._result.must(piece == pieces[1], f"{task}: another's piece")
                break
        elif task.manner == "del":
            del stream
        else:
            circle: list[Any] = [stream]
            circle.append(circle)

    def _read(self, task: _Task) -> None:
        stream, pieces = self._stream(task, "whole")
        with stream:
            self._result.must(list(stream) == pieces, f"{task}: other pieces")

    def _look(self) -> _Snapshot:
        """Look at what is left, once nothing runs and the server has closed what is idle."""
        support.trim()
        self._server.close_idle()
        closed = support.until(lambda: not self._client.stats().idle_connections, _QUIET_SECONDS)
        self._result.must(closed, "idle connections that the server closed stay")
        left = support.until(lambda: not self._server.figures()["open"], _QUIET_SECONDS)
        self._result.must(left, "connections are open at the server")
        held = support.in_use(self._client)
        self._result.must(not held, f"{held} with no call running")
        return _Snapshot(
            descriptors=support.descriptors(), threads=support.threads(), memory=support.rss()
        )


def run(result: Result, short: bool) -> None:
    """Make the calls, and compare what there was after a tenth with what there was at the end."""
    count = 2_000 if short else 100_000
    with ServerProcess() as server, support.client() as client:
        soak = _Soak(result, client, server)
        snapshots = soak.run(count)
        stats = client.stats()
    growth = _compare(result, snapshots, _MOST_GROWTH[short])
    result.must(stats.calls.total_requests == count, f"{stats.calls.total_requests} calls counted")
    result.line = (
        f"{count:,} calls, {soak.kinds['fault']:,} with a fault, {soak.kinds['left']:,} streams "
        f"left early, {stats.calls.total_retries:,} retries: {result.number} flaws; "
        f"from the first tenth on {growth}"
    )


def _compare(result: Result, snapshots: list[_Snapshot], most: float) -> str:
    """Compare what there was after the first tenth with what there was after the others."""
    warm, last = snapshots[0], snapshots[-1]
    for later in snapshots[1:]:
        strange = dict(later.descriptors.items() ^ warm.descriptors.items())
        result.must(len(later.descriptors) == len(warm.descriptors), f"descriptors: {strange}")
        result.must(later.threads == warm.threads, f"threads: {later.threads ^ warm.threads}")
    growth = [support.megabytes(one.memory - warm.memory) for one in snapshots]
    result.must(last.memory - warm.memory <= most, f"memory after each tenth: {growth}")
    return (
        f"{len(last.descriptors) - len(warm.descriptors):+d} descriptors, "
        f"{len(last.threads) - len(warm.threads):+d} threads, {growth[-1]}"
    )


if __name__ == "__main__":
    support.without_caches()
    sys.exit(support.main(run, str(__doc__)))
