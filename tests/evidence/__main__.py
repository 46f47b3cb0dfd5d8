"""``python -m tests.evidence``: all the evidence, in full, one line each.

The exit code is 1 where anything was not as it must be.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .runner import EVIDENCE, Seen, play, write


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.evidence", description="Runs the hard evidence, in full."
    )
    parser.add_argument("--only", action="append", choices=EVIDENCE, help="one; may be repeated")
    parser.add_argument("--short", action="store_true", help="a small part of each")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the lines into this page")
    given = parser.parse_args()
    seen: dict[str, Seen] = {}
    for name in EVIDENCE:
        if given.only is None or name in given.only:
            seen[name] = one = play(name, short=given.short)
            sys.stderr.write(one.told)
            sys.stdout.write(f"{'ok' if one.well else 'FAILED':8}{name:12}{one.line}\n")
            sys.stdout.flush()
    if given.write is not None:
        write(given.write, seen)
    return 0 if all(one.well for one in seen.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
