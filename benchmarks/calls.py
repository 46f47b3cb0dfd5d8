"""What one call costs, in one thread, on a kept connection; and what metrics and events cost."""

from __future__ import annotations

from functools import partial

from ._measure import Bench, installed
from ._peers import ANTHROPIC, CALL_PEERS, LISTENER, OPENAI, OURS, RAW, REQUESTS
from ._tables import Table, number, spread
from ._workers import Worker, calling

__all__ = ["CPU", "METRICS", "WALL", "call_cost", "extras_cost"]

CPU, WALL, METRICS = "CPU of a call", "wall of a call", "CPU of the metrics of a call"
_EVENTS = "CPU of the events of a call"
_PEERS = [name for name in CALL_PEERS if name != LISTENER]
_QUICK_OVER_TLS = [RAW, REQUESTS, OPENAI, OURS]
_TURN = 0.08


def _enough(bench: Bench, workers: dict[str, Worker], name: str) -> int:
    """Warm a client up; returns how many calls make a turn long enough to be timed."""
    bench.ask(workers, name, "calls", count=10)
    answer = bench.ask(workers, name, "calls", count=10)
    return 1 if answer is None else min(max(int(_TURN / answer["wall"]), 3), 2000)


def call_cost(bench: Bench) -> list[Table]:
    """CPU and wall of a call, plain and over TLS."""
    tables = []
    for tls in (False, True):
        way = "over TLS" if tls else "plain"
        wanted = _QUICK_OVER_TLS if bench.quick and tls else _PEERS
        names = [name for name in wanted if installed(CALL_PEERS[name].package)]
        place = bench.place(tls=tls)
        with bench.workers(names, partial(calling, place)) as workers:
            counts = {name: _enough(bench, workers, name) for name in names}
            for turn in bench.rounds(names, seconds=4 if bench.quick else 30, least=3):
                for name in turn:
                    answer = bench.ask(workers, name, "calls", count=counts[name])
                    if answer is not None:
                        bench.note(f"{CPU}, {way}", name, answer["cpu"])
                        bench.note(f"{WALL}, {way}", name, answer["wall"])
        tables.append(_table(bench, names, way))
    return tables


def _table(bench: Bench, names: list[str], way: str) -> Table:
    rows = []
    for name in names:
        ratios = [bench.ratio(f"{CPU}, {way}", name, to) for to in (REQUESTS, OPENAI, ANTHROPIC)]
        row = [name, *spread(bench.figure(f"{CPU}, {way}", name), 0, 1e6)]
        row += [number(ratio, 3) for ratio in ratios]
        rows.append([*row, *spread(bench.figure(f"{WALL}, {way}", name), 0, 1e6)])
    header = ["client", "CPU µs", "", "to requests", "to openai", "to anthropic", "wall µs", ""]
    return Table(f"One call on a kept connection, one thread, {way}", header, rows)


def extras_cost(bench: Bench) -> list[Table]:
    """What metrics and a listener add to a call."""
    ours = bench.median(f"{CPU}, plain", OURS)
    with bench.workers([OURS], partial(calling, bench.place())) as workers:
        for _ in range(3 if bench.quick else 9):
            answer = bench.ask(workers, OURS, "metrics", count=5000)
            if answer is not None:
                bench.note(METRICS, OURS, answer["cpu"])
        # Less than the noise between two processes, so both clients are in one.
        turns = 20 if bench.quick else 80
        answer = bench.ask(workers, OURS, "against", other=LISTENER, turns=turns, count=15)
        for plain, heard in answer["turns"] if answer is not None else ():
            bench.note(_EVENTS, OURS, heard - plain)
    metrics, events = bench.median(METRICS, OURS), bench.median(_EVENTS, OURS)
    rows = []
    for name, cost in (("all metrics", metrics), ("events, with one listener", events)):
        share = cost / ours if cost is not None and ours else None
        rows.append([name, number(cost, 2, 1e6), number(share, 1, 100)])
    note = "Metrics are always on: timed by themselves. There are no layers yet."
    return [Table("What a plain call pays for", ["what", "CPU µs", "% of a call"], rows, note)]
