"""Streams: CPU of an event, time to the first, memory."""

from __future__ import annotations

from functools import partial

from ._measure import Bench, installed
from ._peers import OURS, RAW
from ._stream_peers import APIS, STREAM_PEERS, Api
from ._stream_upstream import FULL, LONG, PACED, streaming
from ._tables import Table, number, spread
from ._workers import Worker, streaming_with

__all__ = ["AT_ONCE", "FIRST", "memory", "streamed"]

AT_ONCE = "at full speed"
_WAYS = ((AT_ONCE, "full", FULL), ("one a ms", "paced", PACED))
FIRST = "time to the first text"
_QUICK_PEERS = [RAW, "requests, json", "openai SDK", "anthropic SDK", OURS, f"{OURS}, events()"]


def _apis(bench: Bench) -> list[Api]:
    return [api for api in APIS.values() if not bench.quick or api.name != "responses"]


def _names(bench: Bench, api: Api) -> list[str]:
    wanted = _QUICK_PEERS if bench.quick else list(STREAM_PEERS)
    return [
        name
        for name in wanted
        if installed(STREAM_PEERS[name].package)
        and (not name.endswith("SDK") or name == f"{api.sdk} SDK")
    ]


def streamed(bench: Bench) -> list[Table]:
    """CPU of an event, all at once and one each millisecond; time to the first text."""
    with streaming() as url:
        for api in _apis(bench):
            names = _names(bench, api)
            with bench.workers(names, partial(streaming_with, api.name)) as workers:
                for how, path, events in _WAYS:
                    _read(bench, workers, api, how, f"{url}/{path}", events)
                _wait(bench, workers, api, f"{url}/stamped")
    return [*(_cost_table(bench, how) for how, _, _ in _WAYS), _first_table(bench)]


def _read(
    bench: Bench, workers: dict[str, Worker], api: Api, how: str, url: str, events: int
) -> None:
    names, last = list(workers), f"word{events - 1} "
    for name in names:
        bench.ask(workers, name, "read", url=url, last=last)
    seconds = 1.5 if bench.quick else 7
    for turn in bench.rounds(names, seconds=seconds, least=3, most=30):
        for name in turn:
            answer = bench.ask(workers, name, "read", url=url, last=last)
            if answer is not None:
                bench.note(f"{api.name}, {how}", name, answer["cpu"] / events)


def _wait(bench: Bench, workers: dict[str, Worker], api: Api, url: str) -> None:
    names = list(workers)
    for name in names:
        bench.ask(workers, name, "first", url=url, count=10)
    for turn in bench.rounds(names, seconds=1.5 if bench.quick else 5, least=3, most=30):
        for name in turn:
            answer = bench.ask(workers, name, "first", url=url, count=15)
            for since, samples in (answer or {}).items():
                for sample in samples:
                    bench.note(f"{FIRST} since {since}, {api.name}", name, sample)


def _cost_table(bench: Bench, how: str) -> Table:
    rows = [_row(bench, how, api, name) for api in _apis(bench) for name in _names(bench, api)]
    title = f"CPU of one streamed event, {how}, its JSON decoded"
    return Table(title, ["client", "µs", "", "to the SDK", "to raw"], rows)


def _row(bench: Bench, how: str, api: Api, name: str) -> list[str]:
    what = f"{api.name}, {how}"
    row = [f"{name}; {api.name}", *spread(bench.figure(what, name), 2, 1e6)]
    row.append(number(bench.ratio(what, name, f"{api.sdk} SDK"), 3))
    return [*row, number(bench.ratio(what, name, RAW), 2)]


def _first_table(bench: Bench) -> Table:
    rows = [_first_row(bench, api, name) for api in _apis(bench) for name in _names(bench, api)]
    title = "Time to the first text of a stream, which is sent about a millisecond after the begin"
    header = ["client", "since the call, ms", "beyond raw", "since its sending, ms", "beyond raw"]
    return Table(title, header, rows)


def _first_row(bench: Bench, api: Api, name: str) -> list[str]:
    row = [f"{name}; {api.name}"]
    for since in ("call", "sent"):
        what = f"{FIRST} since {since}, {api.name}"
        taken, raw = bench.median(what, name), bench.median(what, RAW)
        beyond = None if taken is None or raw is None else taken - raw
        row += [number(taken, 2, 1e3), number(beyond, 2, 1e3)]
    return row


def memory(bench: Bench) -> list[Table]:
    """Most memory that a long stream takes while it is read, and for its reply, beside its text."""
    rows = []
    how = "quick" if bench.quick else "long"
    with streaming() as url:
        for api in _apis(bench)[: 1 if bench.quick else None]:
            with bench.workers([OURS], partial(streaming_with, api.name)) as workers:
                # What the first stream imports is no memory of a long one.
                bench.ask(workers, OURS, "read", url=f"{url}/full", last=f"word{FULL - 1} ")
                answer = bench.ask(workers, OURS, "memory", url=f"{url}/{how}")
            if answer is not None:
                cells = (number(answer[what], 1) for what in ("text", "reading", "end"))
                rows.append([f"{OURS}; {api.name}", *cells])
    title = f"Memory of a stream of {LONG[how]:,} events, in MB (it grows with the text alone)"
    return [Table(title, ["client", "text", "beside it, reading", "at the end"], rows)]
