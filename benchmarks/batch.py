"""Big jobs: ``chat_many`` beside plain threads, and a second run of a finished job."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ._measure import Bench
from ._peers import OURS
from ._replies import DELAY, SLOW
from ._tables import Table, number, spread
from ._workers import Worker

__all__ = ["GROWN", "RESUMED", "RESUME_PEAK", "WORKERS", "big_jobs", "prompts", "resumed", "share"]

WORKERS = 256
MANY, PLAIN = "chat_many", "chat() in plain threads"
GROWN = "chat_many: memory grown"
RESUMED, RESUME_PEAK = "chat_many: a second run", "chat_many: a second run, peak"
_PROMPTS, _QUICK_PROMPTS = 10_000, 7_680
_LINES = 1_000_000
_MB = 2**20


def prompts(bench: Bench) -> int:
    """Return how many prompts a job has."""
    return _QUICK_PROMPTS if bench.quick else _PROMPTS


def ideal() -> float:
    """Return the calls a second where nothing but the delay took time."""
    return WORKERS / DELAY


def share(bench: Bench) -> float | None:
    """Return the calls a second, of what is the lower: the ideal or plain threads' own; in %."""
    many, plain = bench.median(f"{MANY}: rate", OURS), bench.median(f"{PLAIN}: rate", OURS)
    return None if many is None or plain is None else many / min(ideal(), plain) * 100


@contextmanager
def _worker(bench: Bench, prefix: str = "") -> Iterator[dict[str, Worker]]:
    url = bench.place(prefix=prefix).url
    start = ["batch", OURS, url, str(WORKERS)]
    with bench.workers([OURS], lambda name: Worker(start, ())) as workers:
        yield workers


def big_jobs(bench: Bench) -> list[Table]:
    """Let both have their turns, each in a process of its own."""
    least, most = (1, 1) if bench.quick else (3, 5)
    for turn in bench.rounds([MANY, PLAIN], seconds=60, least=least, most=most):
        for how in turn:
            _play(bench, how)
    rows = []
    for how in (MANY, PLAIN):
        rate = bench.median(f"{how}: rate", OURS)
        row = [how, *spread(bench.figure(f"{how}: rate", OURS))]
        row += [number(rate and rate / ideal(), 1, 100)]
        row += [number(bench.median(f"{how}: cpu", OURS), 3, 1e3)]
        rows.append([*row, number(bench.median(GROWN, OURS) if how == MANY else None, 2)])
    header = ["way", "calls/s", "", "% of the ideal", "CPU ms", "memory grown, MB"]
    note = (
        f"The ideal is {ideal():,.0f} calls a second. Plain threads call chat() in a loop, without "
        "order, results or errors: where they stay below the ideal, that is this machine's own "
        "limit. Memory is from a fifth of the prompts to the end."
    )
    title = f"{prompts(bench):,} prompts, {WORKERS} at once, {DELAY * 1000:.0f} ms each"
    return [Table(title, header, rows, note)]


def _play(bench: Bench, how: str) -> None:
    count = prompts(bench)
    with _worker(bench, SLOW) as workers:
        if bench.ask(workers, OURS, "warm") is None:
            return
        if how == PLAIN:
            answer = bench.ask(workers, OURS, "plain", count=count)
        else:
            answer = bench.ask(workers, OURS, "many", count=count, settled=count // 5)
    if answer is None:
        return
    for what in ("rate", "cpu"):
        bench.note(f"{how}: {what}", OURS, answer[what])
    if how == MANY:
        bench.note(GROWN, OURS, answer["grown"])
        if answer["answered"] != count:
            bench.fail(f"{OURS}: {count - answer['answered']} prompts without a reply")


def resumed(bench: Bench) -> list[Table]:
    """Run a finished job again: left out of the short form, since its file is large."""
    if bench.quick:
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "results.jsonl"))
        with _worker(bench) as workers:
            written = bench.ask(workers, OURS, "write", path=path, count=_LINES, patience=300)
        with _worker(bench) as workers:
            answer = bench.ask(workers, OURS, "resume", path=path, count=_LINES, patience=300)
    if written is None or answer is None:
        return []
    bench.note(RESUMED, OURS, answer["wall"])
    bench.note(RESUME_PEAK, OURS, answer["peak"])
    row = ["chat_many(output=...).run()", number(answer["wall"], 1), number(answer["cpu"], 1)]
    row += [number(answer["before"], 1), number(answer["peak"], 1)]
    size = number(written["size"] / _MB)
    title = f"A second run of a finished job: {_LINES:,} lines, {size} MB"
    header = ["way", "seconds", "CPU s", "memory before, MB", "peak, MB"]
    return [Table(title, header, [row])]
