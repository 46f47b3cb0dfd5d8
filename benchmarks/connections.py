"""What a new TLS connection costs, in memory and CPU."""

from __future__ import annotations

from functools import partial

from ._measure import Bench, installed
from ._peers import CALL_PEERS, OURS, REQUESTS
from ._tables import Table, spread
from ._workers import calling

__all__ = ["CPU", "MEMORY", "new_tls_connections"]

CPU, MEMORY = "CPU of a new TLS connection", "memory of a new TLS connection"
_PEERS = ["urllib3", REQUESTS, "httpx", OURS]


def new_tls_connections(bench: Bench) -> list[Table]:
    """Open connections and hold them, in a new process each round."""
    count = 60 if bench.quick else 200
    wanted = [REQUESTS, OURS] if bench.quick else _PEERS
    names = [name for name in wanted if installed(CALL_PEERS[name].package)]
    place = bench.place(tls=True, threads=2 * count)
    seconds, least = (5, 1) if bench.quick else (35, 2)
    for turn in bench.rounds(names, seconds=seconds, least=least, most=5):
        for name in turn:
            with bench.workers([name], partial(calling, place)) as workers:
                answer = bench.ask(workers, name, "hold", count=count)
            if answer is not None:
                bench.note(CPU, name, answer["cpu"])
                bench.note(MEMORY, name, answer["memory"])
    rows = [
        [
            name,
            *spread(bench.figure(CPU, name), 2, 1e3),
            *spread(bench.figure(MEMORY, name), 3),
        ]
        for name in names
    ]
    header = ["client", "CPU ms", "", "MB", ""]
    return [Table(f"A new TLS connection and its first answer, mean of {count}", header, rows)]
