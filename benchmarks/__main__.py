"""``python -m benchmarks [--quick]``."""

from __future__ import annotations

import argparse
import platform
import sys
import time

import requests
import urllib3

from . import connections, figures, streams


def main() -> None:
    """Measure and print every table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under a minute")
    quick = parser.parse_args().quick
    begun = time.monotonic()
    print(
        f"Python {platform.python_version()}, requests {requests.__version__}, "
        f"urllib3 {urllib3.__version__}, {platform.system()}; medians of interleaved rounds\n"
    )
    if absent := streams.missing():
        print(absent)
    tables = [figures.call_cost, figures.reuse, figures.shared_against_own]
    tables += [streams.event_cost, streams.first_text, streams.memory]
    if sys.platform == "linux":
        tables.append(connections.new_tls_connections)
    for figure in tables:
        print(figure(quick=quick), end="\n\n", flush=True)
    print(f"took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
