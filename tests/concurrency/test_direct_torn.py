"""The direct way torn at its instants, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TORN = Path(__file__).with_name("torn_direct.py")
ROOT = TORN.parents[2]


@pytest.mark.timeout(600)
def test_the_direct_way_is_torn_and_nothing_is_lost() -> None:
    """All of ``torn_direct`` holds; an interpreter may keep an exception where a tracer raised."""
    # What measures coverage traces, too, and two tracers cannot be at work at once.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TORN)],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=590,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
    assert "no tests ran" not in done.stdout
