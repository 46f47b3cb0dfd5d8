"""64 threads against 600 requests a minute: attempts refused, calls failed, and how long it takes.

The upstream's minute is 4.5 seconds long, and its answers take 30 to 70 ms: everything is some
thirteen times as fast as life. Each client has a limit of its own there, and retries as it does by
itself. ``python -m benchmarks.pacing`` runs this part alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import time
from typing import Any

from ._limited import LIMIT, Limited, serving
from ._limited_calls import CLIENTS
from ._measure import Bench, installed
from ._peers import ANTHROPIC, OPENAI, OURS
from ._tables import Table, number
from ._workers import PYTHON, environment

__all__ = ["PACED", "SETTINGS", "failed", "pacing", "refused"]

PACED, UNPACED = f"{OURS}, paced", OURS
_NAMES = {"paced": PACED, "unpaced": UNPACED, "openai": OPENAI, "anthropic": ANTHROPIC}
SETTINGS = {
    "bucket-told": "refills all the time, tells what is left",
    "window-told": "full again each minute, tells what is left",
    "bucket-hushed": "refills all the time, only Retry-After",
    "window-hushed": "full again each minute, only Retry-After",
}
REFUSED, FAILED = "refused", "calls failed"
_THREADS = 64
_MINUTE = 4.5
_CALLS, _QUICK_CALLS = 3600, 1800
_PATIENCE = 90.0


def _start(name: str, url: str, calls: int) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - this interpreter, and names of our own
        [*PYTHON, "-m", "benchmarks._limited_calls", name, url, f"{_THREADS}", f"{calls}"],
        env=environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _play(bench: Bench, limited: Limited, settings: list[str], calls: int) -> None:
    """Let all clients call at once, in some settings at once: they wait most of the time."""
    names = [name for name in CLIENTS if name in ("paced", "unpaced") or installed(name)]
    with contextlib.ExitStack() as stack:
        running = {}
        for setting in settings:
            for name in names:
                process = _start(name, f"{limited.url}/{setting}/{name}", calls)
                stack.callback(_end, process)
                running[setting, name] = process
        until = time.monotonic() + _PATIENCE
        for (setting, name), process in running.items():
            told = _hear(process, until - time.monotonic())
            if told is None:
                bench.fail(f"{_NAMES[name]}, {setting}: not done in {_PATIENCE:.0f} s")
                continue
            asked, turned_away = limited.counts()[f"{setting}/{name}"]
            who = _NAMES[name]
            bench.note(f"{setting}: {REFUSED}", who, turned_away / asked)
            bench.note(f"{setting}: {FAILED}", who, told["failed"])
            bench.note(f"{setting}: attempts", who, asked)
            bench.note(f"{setting}: seconds", who, told["seconds"])


def _hear(process: subprocess.Popen[str], seconds: float) -> dict[str, Any] | None:
    try:
        out, _ = process.communicate(timeout=max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        return None
    if process.returncode != 0:
        return None
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    return told


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


def pacing(bench: Bench) -> list[Table]:
    """Call an upstream with a limit from many threads, paced and not."""
    calls = _QUICK_CALLS if bench.quick else _CALLS
    chosen = list(SETTINGS)
    groups = [chosen[1:3]] if bench.quick else [chosen[:2], chosen[2:]]
    tables = []
    with serving(_MINUTE) as limited:
        for group in groups:
            _play(bench, limited, group, calls)
    for setting in (setting for group in groups for setting in group):
        tables.append(_table(bench, setting, calls))
    return tables


def _table(bench: Bench, setting: str, calls: int) -> Table:
    rows = []
    for who in _NAMES.values():
        share = bench.median(f"{setting}: {REFUSED}", who)
        row = [who, number(bench.median(f"{setting}: attempts", who))]
        row += [number(share, 2, 100.0), number(bench.median(f"{setting}: {FAILED}", who))]
        row += [number(bench.ratio(f"{setting}: {REFUSED}", who, PACED), 1)]
        row += [number(bench.median(f"{setting}: seconds", who), 1)]
        rows.append(row)
    ideal = (calls - LIMIT) / LIMIT * _MINUTE
    note = f"All {calls:,} calls cannot be let in within less than {ideal:.1f} s."
    header = ["client", "attempts", "refused %", "calls failed", "refused, to paced", "seconds"]
    title = f"{_THREADS} threads, {LIMIT} requests a minute: {SETTINGS[setting]}"
    return Table(title, header, rows, note)


def _worst(bench: Bench, what: str) -> float | None:
    medians = (bench.median(f"{setting}: {what}", PACED) for setting in SETTINGS)
    return max((one for one in medians if one is not None), default=None)


def refused(bench: Bench) -> float | None:
    """Return the share of ours, paced, that was refused where it was worst, in percent."""
    share = _worst(bench, REFUSED)
    return None if share is None else share * 100


def failed(bench: Bench) -> float | None:
    """Return how many calls of ours, paced, failed where it was worst."""
    return _worst(bench, FAILED)


def main() -> None:
    """Measure and print this part alone."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=summary)
    parser.add_argument("--quick", action="store_true", help="two settings, half as many calls")
    bench = Bench(parser.parse_args().quick, upstream=None)  # type: ignore[arg-type]
    for table in pacing(bench):
        print(table.text(), end="\n\n", flush=True)
    for note in bench.notes:
        print(note)
    print(f"at worst {number(refused(bench), 2)} % refused, {number(failed(bench))} failed, paced")


if __name__ == "__main__":
    main()
