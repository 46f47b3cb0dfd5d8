"""The README's code runs, and its two lines are there once each."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from termai_http.testing import Server

README = Path(__file__).parents[1] / "README.rst"


def test_the_readme_runs_against_the_loopback_server(termai_server: Server) -> None:
    """Every session of the README prints what it says."""
    failed, tried = doctest.testfile(
        str(README),
        module_relative=False,
        optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL,
        encoding="utf-8",
    )
    assert failed == 0
    assert tried > 8
    # One for all calls, and one of its own for the health check.
    assert len(termai_server.connections) == 2


def test_there_is_one_line_for_the_main_job_and_one_for_the_tests() -> None:
    """One line sets up and runs the main job on a fresh machine, and one the tests."""
    lines = [line for line in README.read_text().splitlines() if "python3 -m venv" in line]
    jobs = [line for line in lines if re.search(r"pip install \. && \S+termai-http demo``$", line)]
    tests = [line for line in lines if re.search(r"&& \S+python -m pytest``$", line)]
    assert (len(lines), len(jobs), len(tests)) == (2, 1, 1)
