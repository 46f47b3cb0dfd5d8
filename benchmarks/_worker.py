"""One client in a process of its own: carries out what is asked on stdin, a line of JSON each.

``python -m benchmarks._worker calls PEER URL BUNDLE THREADS``, ``streams PEER API``,
``batch PEER URL WORKERS`` or ``status PEER``. It imports no more than it needs, since its memory is
measured, too.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

from ._peers import CALL_PEERS, Opened, Place

__all__: list[str] = []

_Answer = dict[str, Any]
# As the system's tools count, and as the goals were measured.
MB = 2**20


def _raise_descriptor_limit() -> None:
    """Let 1,000 threads have a socket each, as a server would be set up."""
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def resident() -> float:
    """Return this process's resident memory now, in MB; 0.0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB
    except OSError:
        return 0.0


def peak() -> float:
    """Return the most memory that this process ever had resident, in MB."""
    try:
        with open("/proc/self/status", "rb") as file:
            found = next((line for line in file if line.startswith(b"VmHWM:")), None)
    except OSError:
        return 0.0
    return int(found.split()[1]) * 1024 / MB if found else 0.0


def _timed(call: Callable[[], object], count: int) -> _Answer:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu / count, "wall": wall / count}


class _Loop(threading.Thread):
    """One thread of a closed loop: a call's time begins where the one before ended."""

    def __init__(
        self, call: Callable[[], object], count: int, barrier: threading.Barrier, begun: list[float]
    ) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._count = count
        self._barrier = barrier
        self._begun = begun
        self.times = array("d")
        self.errors: list[str] = []
        self.ended = 0.0

    def run(self) -> None:
        """Wait for all the others, and make the calls."""
        self._barrier.wait()
        last = self._begun[0]
        for _ in range(self._count):
            try:
                self._call()
            except Exception as error:
                self.errors.append(type(error).__name__)
            now = time.perf_counter()
            self.times.append(now - last)
            last = now
        self.ended = last


def _in_threads(call: Callable[[], object], threads: int, count: int) -> _Answer:
    begun: list[float] = []
    barrier = threading.Barrier(threads, action=lambda: begun.append(time.perf_counter()))
    loops = [_Loop(call, count, barrier, begun) for _ in range(threads)]
    cpu = time.process_time()
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    cpu = time.process_time() - cpu
    times = sorted(taken for loop in loops for taken in loop.times)
    errors = [name for loop in loops for name in loop.errors]
    return {
        "rate": len(times) / (max(loop.ended for loop in loops) - begun[0]),
        "p50": times[len(times) // 2],
        "p99": times[min(int(len(times) * 0.99), len(times) - 1)],
        "cpu": cpu / len(times),
        "errors": len(errors),
        "error": errors[0] if errors else "",
        "peak": peak(),
    }


def _growth(call: Callable[[], object], warm_up: int, count: int) -> _Answer:
    for _ in range(warm_up):
        call()
    gc.collect()
    memory, objects = resident(), len(gc.get_objects())
    for _ in range(count):
        call()
    gc.collect()
    return {
        "before": memory,
        "grown": resident() - memory,
        "objects": objects,
        "more": len(gc.get_objects()) - objects,
    }


class _Calls:
    """Carries out what is asked of a client that makes calls."""

    def __init__(self, name: str, url: str, bundle: str, threads: str) -> None:
        self._peer = CALL_PEERS[name]
        self._place = Place(url, bundle, int(threads))
        self._opened: Opened | None = None

    def _call(self) -> Callable[[], object]:
        if self._opened is None:
            self._opened = self._peer.open(self._place)
        return self._opened.call

    def calls(self, count: int) -> _Answer:
        """Make calls, one after the other."""
        return _timed(self._call(), count)

    def own(self, count: int) -> _Answer:
        """Make calls, each with a client of its own."""
        return _timed(self._once, count)

    def _once(self) -> None:
        opened = self._peer.open(self._place)
        opened.call()
        opened.close()

    def warm(self) -> _Answer:
        """Import everything, and leave no connection."""
        self._once()
        return {"resident": resident(), "peak": peak()}

    def threads(self, count: int) -> _Answer:
        """Make calls in as many threads as were told, together."""
        return _in_threads(self._call(), self._place.threads, count)

    def growth(self, warm_up: int, count: int) -> _Answer:
        """Make calls, and tell how the memory grew."""
        return _growth(self._call(), warm_up, count)

    def hold(self, count: int) -> _Answer:
        """Open connections and hold them; tells what each costs."""
        from ._held import hold

        return hold(self._peer.package, self._place, count, resident)

    def metrics(self, count: int) -> _Answer:
        """Tell what the metrics of one call cost."""
        from ._metrics_cost import seconds_a_call

        return {"cpu": seconds_a_call(lambda: self._peer.open(self._place), count)}

    def against(self, other: str, turns: int, count: int) -> _Answer:
        """Make calls in turn with another client in this process; tells both, turn by turn."""
        theirs = CALL_PEERS[other].open(self._place)
        pair = (self._call(), theirs.call)
        for call in pair:
            _timed(call, count)
        taken = [[_timed(call, count)["cpu"] for call in pair] for _ in range(turns)]
        theirs.close()
        return {"turns": taken}


class _Streams:
    """Carries out what is asked of a client that streams."""

    def __init__(self, name: str, api: str) -> None:
        from ._stream_peers import APIS, STREAM_PEERS

        self._texts = STREAM_PEERS[name].open(APIS[api])

    def read(self, url: str, last: str) -> _Answer:
        """Read a stream to its end; ``last`` is its last text."""
        wall, cpu = time.perf_counter(), time.process_time()
        text = ""
        for piece in self._texts(url):
            text = piece or text
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if text != last:
            raise RuntimeError(f"the last text was {text!r}, not {last!r}")
        return {"cpu": cpu, "wall": wall}

    def first(self, url: str, count: int) -> _Answer:
        """Wait for the first text of streams; since the call, and since its stamp if it is one."""
        since_call, since_sent = [], []
        for _ in range(count):
            begun = time.perf_counter()
            pieces = iter(self._texts(url))
            piece = _first(pieces)
            since_call.append(time.perf_counter() - begun)
            if piece[0].isdigit():
                since_sent.append(time.monotonic() - float(piece))
            for _ in pieces:
                pass
        return {"call": since_call, "sent": since_sent}

    def memory(self, url: str) -> _Answer:
        """Tell the most memory that a stream takes while it is read, and for its reply."""
        import tracemalloc

        tracemalloc.start()
        text = reading = 0
        for piece in self._texts(url):
            text += len(piece)
            reading = tracemalloc.get_traced_memory()[1]
        whole = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return {"text": text / MB, "reading": (reading - text) / MB, "end": (whole - text) / MB}


def _first(pieces: Iterator[str]) -> str:
    piece = ""
    while not piece:
        piece = next(pieces)
    return piece


def _target(kind: str, name: str, rest: list[str]) -> Any:
    if kind == "batch":
        from ._batch_calls import Batches

        return Batches(*rest)
    if kind == "status":
        from ._status_pages import StatusPages

        return StatusPages()
    return (_Calls if kind == "calls" else _Streams)(name, *rest)


def main() -> None:
    """Answer until stdin ends."""
    kind, name, *rest = sys.argv[1:]
    if not name.endswith("orjson"):
        # Where it is installed, it is used by itself; the rows compare the same decoder.
        sys.modules["orjson"] = None  # type: ignore[assignment]
    _raise_descriptor_limit()
    target = _target(kind, name, rest)
    for line in sys.stdin:
        asked = json.loads(line)
        answer = getattr(target, asked.pop("do"))(**asked)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
