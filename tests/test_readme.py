"""The README's code runs, and its two lines are there once each."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import termai_http
from termai_http.testing import Server

README = Path(__file__).parents[1] / "README.rst"
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def test_the_readme_runs_against_the_loopback_server(termai_server: Server) -> None:
    """Every session of the README prints what it says."""
    failed, tried = doctest.testfile(
        str(README),
        module_relative=False,
        optionflags=FLAGS,
        encoding="utf-8",
    )
    assert failed == 0
    assert tried > 8
    # One for all calls, and one of its own for the health check.
    assert len(termai_server.connections) == 2


SECTIONS = ("Streams", "Tools", "Structured output")
DIALECTS = {
    "chat": 'model="gpt-5.5"',
    "responses": 'model="gpt-5.5", api="responses"',
    "claude": 'model="claude-opus-5-5"',
}


def section(title: str) -> str:
    """Return one section of the README."""
    text = README.read_text()
    begin = text.index(f"\n{title}\n{'-' * len(title)}\n")
    rest = text[begin + 1 :]
    end = re.search(r"\n\n\n\S.*\n-+\n", rest)
    return rest[: end.start()] if end else rest


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_runs_in_every_dialect(title: str, dialect: str, termai_server: Server) -> None:
    """What streams, tools and types do, they do for every vendor and API."""
    text = section(title).replace('model="gpt-5.5"', DIALECTS[dialect])
    assert DIALECTS[dialect] in text
    names = {"chat": termai_http.chat}
    test = doctest.DocTestParser().get_doctest(text, names, title, str(README), 0)
    assert len(test.examples) >= 3
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
    wanted = {"chat": "/chat/completions", "responses": "/responses", "claude": "/messages"}
    assert {request.path for request in termai_server.requests} == {f"/v1{wanted[dialect]}"}


def test_there_is_one_line_for_the_main_job_and_one_for_the_tests() -> None:
    """One line sets up and runs the main job on a fresh machine, and one the tests."""
    lines = [line for line in README.read_text().splitlines() if "python3 -m venv" in line]
    jobs = [line for line in lines if re.search(r"pip install \. && \S+termai-http demo``$", line)]
    tests = [line for line in lines if re.search(r"&& \S+python -m pytest``$", line)]
    assert (len(lines), len(jobs), len(tests)) == (2, 1, 1)
