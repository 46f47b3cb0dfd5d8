"""``python -m benchmarks``: termai_http beside its peers, in one run.

pip install -e . -r benchmarks/requirements.txt
apt-get install -y nginx-light libnginx-mod-http-echo     # the upstream; else one in Python
python -m benchmarks --write docs/performance.rst --plots /tmp/plots
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import (
    batch,
    calls,
    connections,
    imports,
    layers,
    memory,
    pacing,
    parts,
    sharing,
    status,
    streams,
    threads,
)
from ._goals import goals
from ._measure import Bench
from ._page import machine, missing, write
from ._peers import OURS
from ._tables import Table
from ._upstream import upstream

_Part = Callable[[Bench], list[Table]]
_PARTS: dict[str, list[_Part]] = {
    "calls": [calls.call_cost, calls.extras_cost],
    "threads": [threads.many_threads, threads.reuse],
    "sharing": [sharing.shared_against_own],
    "connections": [connections.new_tls_connections],
    "streams": [streams.streamed, streams.memory],
    "imports": [imports.imports],
    "memory": [memory.growth],
    "batch": [batch.big_jobs, batch.resumed],
    "status": [status.status_pages],
    "layers": [layers.layer_cost, layers.layer_locks],
    "pacing": [pacing.pacing],
    "parts": [parts.parts],
}


def _arguments() -> argparse.Namespace:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=summary)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under two minutes")
    parser.add_argument("--only", metavar=",".join(_PARTS), help="these parts only")
    parser.add_argument("--write", metavar="PAGE", type=Path, help=".md, or .rst with two marks")
    parser.add_argument("--plots", metavar="FOLDER", type=Path, help="draw pictures, as PNG")
    given = parser.parse_args()
    given.only = given.only.split(",") if given.only else list(_PARTS)
    if strangers := set(given.only) - set(_PARTS):
        parser.error(f"no such part: {', '.join(sorted(strangers))}")
    if given.plots and importlib.util.find_spec("matplotlib") is None:
        parser.error("matplotlib is not here: pip install -r benchmarks/requirements.txt")
    return given


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Leave as on an error, so that nothing that was started is left."""
    sys.exit(128 + number)


def _measure(bench: Bench, parts: list[str]) -> list[Table]:
    tables = []
    for part in parts:
        begun = time.monotonic()
        for measure in _PARTS[part]:
            for table in measure(bench):
                print(table.text(), end="\n\n", flush=True)
                tables.append(table)
        print(f"({part}: {time.monotonic() - begun:.0f} s)\n", flush=True)
    first = goals(bench)
    print(first[0].text(), end="\n\n", flush=True)
    return [*first, *tables]


def main() -> None:
    """Measure, print, write, draw."""
    given = _arguments()
    signal.signal(signal.SIGTERM, _stop)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, upstream(Path(folder)) as server:
        bench = Bench(given.quick, server)
        print("\n".join(filter(None, [machine(bench), missing()])), end="\n\n", flush=True)
        tables = _measure(bench, given.only)
        for note in bench.notes:
            print(note)
        if given.write:
            write(given.write, tables, bench)
    if given.plots:
        from ._plots import draw

        print("drawn:", *draw(given.plots, bench))
    print(f"took {time.monotonic() - begun:.0f} s")
    if any(note.startswith(OURS) for note in bench.notes):
        sys.exit("termai_http failed where the others were measured")


if __name__ == "__main__":
    main()
