"""One shared client against one a call, over TLS: near by, and 30 ms away."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ._measure import Bench, installed
from ._peers import CALL_PEERS, CLAUDE, LISTENER, OPENAI, ORDINARY, OURS, RAW, REQUESTS, Place
from ._tables import Table, number, spread
from ._workers import calling

__all__ = ["FAR", "NEAR", "shared_against_own"]

FAR, NEAR = "30 ms away", "near by"
_LATE_MS = 15
_PEERS = [
    name
    for name in CALL_PEERS
    if name not in (CLAUDE, ORDINARY, "requests.post a call", LISTENER)
    and not name.endswith("orjson")
]
_QUICK_PEERS = [RAW, REQUESTS, OPENAI, OURS]


@contextlib.contextmanager
def _far_away(url: str) -> Iterator[str]:
    """Run the proxy that makes the network long; yields the URL that leads through it."""
    base, _, port = url.rpartition(":")
    process = subprocess.Popen(  # noqa: S603 - this interpreter, and names of our own
        [sys.executable, "-m", "benchmarks._delay", port, str(_LATE_MS)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"{base}:{process.stdout.readline().strip()}"
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def shared_against_own(bench: Bench) -> list[Table]:
    """Wall and CPU of a call on a kept connection, and of one with a client of its own."""
    near = bench.place(tls=True)
    tables = [_measured(bench, NEAR, near, shared=50, own=4, seconds=2 if bench.quick else 12)]
    with _far_away(near.url) as url:
        far = near._replace(url=url)
        tables.append(
            _measured(bench, FAR, far, shared=15, own=4, seconds=3 if bench.quick else 30)
        )
    return tables


def _measured(
    bench: Bench, where: str, place: Place, *, shared: int, own: int, seconds: float
) -> Table:
    wanted = _QUICK_PEERS if bench.quick else _PEERS
    names = [name for name in wanted if installed(CALL_PEERS[name].package)]
    with bench.workers(names, partial(calling, place)) as workers:
        for name in names:
            bench.ask(workers, name, "calls", count=2)
        for turn in bench.rounds(names, seconds=seconds, least=1, most=9):
            for name in turn:
                for do, count in (("calls", shared), ("own", own)):
                    answer = bench.ask(workers, name, do, count=count)
                    if answer is not None:
                        bench.note(f"{where}: {do} wall", name, answer["wall"])
                        bench.note(f"{where}: {do} cpu", name, answer["cpu"])
    rows = []
    for name in names:
        row = [name]
        for do in ("calls", "own"):
            row += spread(bench.figure(f"{where}: {do} wall", name), 2, 1e3)
            row.append(number(bench.median(f"{where}: {do} cpu", name), 2, 1e3))
        one, other = (bench.median(f"{where}: {do} wall", name) for do in ("own", "calls"))
        rows.append([*row, number(one / other if one and other else None, 1)])
    header = ["client", "shared, ms", "", "CPU ms", "one a call, ms", "", "CPU ms", "ratio of wall"]
    note = (
        "A proxy adds 15 ms each way; the first bytes of a new connection wait for one round trip "
        "more, during which a client that loads its CAs after connecting loads them."
    )
    return Table(
        f"A call over TLS, {where}: a shared client, and one a call",
        header,
        rows,
        note if where == FAR else "",
    )
