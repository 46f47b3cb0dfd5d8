"""Many threads and one client: calls a second, percentiles, connections, errors, memory."""

from __future__ import annotations

from functools import partial

import attrs

from ._measure import Bench, installed
from ._peers import CALL_PEERS, CLAUDE, LISTENER, OPENAI, ORDINARY, OURS, RAW, REQUESTS
from ._replies import DELAY, SLOW
from ._tables import Table, number, spread
from ._workers import calling

__all__ = ["CELLS", "Cell", "many_threads", "reuse"]

_PEERS = [
    name for name in CALL_PEERS if name not in (CLAUDE, ORDINARY, f"{OURS}, orjson", LISTENER)
]
# A client whose threads all want the interpreter at once comes to a standstill.
_PATIENCE = 45.0
_QUICK_PEERS = [RAW, REQUESTS, OPENAI, OURS]


@attrs.frozen
class Cell:
    """One of the settings.

    Attributes:
        threads: How many.
        late: Whether the answer takes 50 ms.
        calls: Calls of each thread.
        quick: The same in the short form, 0 where it is left out there.
        seconds: Time that this one gets.
    """

    threads: int
    late: bool
    calls: int
    quick: int
    seconds: float

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.threads:,} threads, {DELAY * 1000 * self.late:.0f} ms"

    def ideal(self) -> float | None:
        """Calls a second where nothing but the delay took time."""
        return self.threads / DELAY if self.late else None


CELLS = {
    (cell.threads, cell.late): cell
    for cell in (
        Cell(16, late=False, calls=40, quick=0, seconds=20),
        Cell(100, late=False, calls=10, quick=0, seconds=30),
        Cell(1000, late=False, calls=2, quick=0, seconds=40),
        Cell(16, late=True, calls=30, quick=0, seconds=20),
        Cell(100, late=True, calls=40, quick=20, seconds=85),
        Cell(1000, late=True, calls=3, quick=2, seconds=105),
    )
}


def _play(bench: Bench, cell: Cell, names: list[str]) -> None:
    """Let all have their turn, and those that the goals name as often as there is time for."""
    least, most = (1, 1) if bench.quick else (2, 5)
    chosen = names
    for turn in bench.rounds(names, seconds=cell.seconds, least=least, most=most):
        for name in turn:
            if name in chosen:
                _play_one(bench, cell, name)
        chosen = _QUICK_PEERS


def _play_one(bench: Bench, cell: Cell, name: str) -> None:
    """Let a client have its turn, in a new process."""
    place = bench.place(prefix=SLOW if cell.late else "", threads=cell.threads)
    count = cell.quick if bench.quick else cell.calls
    with bench.workers([name], partial(calling, place)) as workers:
        if bench.ask(workers, name, "warm") is None:
            return
        before = bench.upstream.connections()
        answer = bench.ask(workers, name, "threads", count=count, patience=_PATIENCE)
        connections = bench.upstream.connections() - before
    if answer is None:
        return
    if answer["errors"]:
        bench.fail(f"{name}, {cell.name}: {answer['errors']} errors, {answer['error']}")
    answer["connections"] = connections
    for what in ("rate", "p50", "p99", "cpu", "errors", "connections", "peak"):
        bench.note(f"{cell.name}: {what}", name, answer[what])


def many_threads(bench: Bench) -> list[Table]:
    """Each client in each cell, in a process of its own; a fixed number of calls a thread."""
    tables = []
    wanted = _QUICK_PEERS if bench.quick else _PEERS
    names = [name for name in wanted if installed(CALL_PEERS[name].package)]
    for cell in CELLS.values():
        if bench.quick and not cell.quick:
            continue
        _play(bench, cell, names)
        tables.append(_table(bench, cell, names))
    return tables


def _table(bench: Bench, cell: Cell, names: list[str]) -> Table:
    rows = []
    for name in names:
        row = [name, *spread(bench.figure(f"{cell.name}: rate", name))]
        row += [number(bench.ratio(f"{cell.name}: rate", name, REQUESTS), 2)]
        row += [number(bench.ratio(f"{cell.name}: rate", name, OPENAI), 2)]
        row += [number(bench.median(f"{cell.name}: {p}", name), 1, 1e3) for p in ("p50", "p99")]
        row += [number(bench.median(f"{cell.name}: cpu", name), 0, 1e6)]
        for what in ("connections", "errors", "peak"):
            row.append(number(bench.median(f"{cell.name}: {what}", name)))
        rows.append(row)
    count = cell.quick if bench.quick else cell.calls
    rounds = len(bench.found.get((f"{cell.name}: rate", OURS), []))
    ideal = cell.ideal()
    note = f"Rounds: {rounds}" + ("; where no spread stands, one." if rounds > 1 else ".")
    note += f" Ideal: {ideal:,.0f} calls/s." if ideal else ""
    title = f"{cell.name} to the answer: {count} calls a thread"
    header = ["client", "calls/s", "", "to requests", "to openai", "p50 ms", "p99 ms", "CPU µs"]
    header += ["connections", "errors", "peak MB"]
    return Table(title, header, rows, note)


def reuse(bench: Bench) -> list[Table]:
    """Share of 10,000 calls from 32 threads that reuse a connection."""
    if bench.quick:
        return []
    threads, count = 32, 313
    place = bench.place(threads=threads)
    with bench.workers([OURS], partial(calling, place)) as workers:
        bench.ask(workers, OURS, "warm")
        before = bench.upstream.connections()
        answer = bench.ask(workers, OURS, "threads", count=count)
        opened = bench.upstream.connections() - before
    if answer is None:
        return []
    calls = threads * count
    row = [OURS, f"{calls:,}", f"{opened}", f"{1 - opened / calls:.2%}", f"{answer['errors']}"]
    header = ["client", "calls", "connections at the server", "reused", "errors"]
    return [Table(f"Reuse, {threads} threads, no delay", header, [row])]
