"""Memory after one call, and how it grows over many."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ._measure import Bench, installed
from ._peers import ANTHROPIC, CALL_PEERS, OPENAI, OURS, RAW, REQUESTS
from ._tables import Table, number, spread
from ._workers import calling

__all__ = ["AFTER_ONE", "GROWN", "OBJECTS", "calls", "growth"]

AFTER_ONE, GROWN, OBJECTS = "memory after a call", "memory grown", "objects grown"
_CALLS, _QUICK_CALLS = 20_000, 4_000
_WARM_UP = 1000
_QUICK_PEERS = [RAW, REQUESTS, OPENAI, OURS]
# The slow ones first, so that both places are in use to the end.
_PEERS = [OPENAI, ANTHROPIC, REQUESTS, "httpx", "urllib3", "http.client", RAW, OURS]


def calls(bench: Bench) -> int:
    """Return over how many calls growth is measured."""
    return _QUICK_CALLS if bench.quick else _CALLS


def _measure(bench: Bench, name: str, *, grow: bool) -> None:
    with bench.workers([name], partial(calling, bench.place())) as workers:
        first = bench.ask(workers, name, "warm")
        if first is not None:
            bench.note(AFTER_ONE, name, first["peak"])
        if not grow:
            return
        answer = bench.ask(workers, name, "growth", warm_up=_WARM_UP, count=calls(bench))
        if answer is not None:
            bench.note("memory before", name, answer["before"])
            bench.note(GROWN, name, answer["grown"])
            bench.note(OBJECTS, name, answer["more"])


def growth(bench: Bench) -> list[Table]:
    """Two at a time, since no clock is read."""
    wanted = _QUICK_PEERS if bench.quick else _PEERS
    names = [name for name in wanted if installed(CALL_PEERS[name].package)]
    growing = {OURS} if bench.quick else set(names) - {"http.client"}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: _measure(bench, name, grow=name in growing), names))
        if not bench.quick:
            for _ in range(2):
                list(pool.map(lambda name: _measure(bench, name, grow=False), names))
    rows = []
    for name in (name for name in CALL_PEERS if name in names):
        row = [name, *spread(bench.figure(AFTER_ONE, name), 1)]
        row.append(number(bench.median("memory before", name), 1))
        row.append(number(bench.median(GROWN, name), 2))
        rows.append([*row, number(bench.median(OBJECTS, name))])
    header = ["client", "after a call", "", f"after {_WARM_UP:,}", "then grown by", "objects"]
    title = f"Memory in MB, resident, and over {calls(bench):,} calls more, plain, one thread"
    note = "The first column is the peak; objects are those that the collector tracks, as grown."
    return [Table(title, header, rows, note)]
