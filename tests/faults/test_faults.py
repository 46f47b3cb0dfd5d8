"""The catalogue of faults, played on real sockets; ``docs/faults.rst`` is the table of it."""

from __future__ import annotations

import logging
import sys

import pytest

from tests.faults import catalogue
from tests.faults.drivers import TermaiDriver
from tests.faults.harness import KEY, PROMPT, Bench, Row, good_reply

ROWS = catalogue.rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number}-{row.play.__name__}")
def test_fault(row: Row) -> None:
    """A fault ends as promised, in time, with all given back and neither key nor prompt shown."""
    if row.linux and sys.platform != "linux":
        pytest.skip("this fault can be produced on Linux only")
    with Bench(TermaiDriver()) as bench:
        row.play(bench)
    assert bench.flaws == []


def test_every_field_of_every_line_is_looked_at() -> None:
    """At DEBUG each event has its line, and a secret in an argument or a field is a flaw."""
    with Bench(TermaiDriver()) as bench:
        bench.chat(bench.answering(good_reply(), close=True).url, 5)
    assert bench.flaws == []
    told = "\n".join(bench.logged.texts)
    for event in ("CallStarted", "ConnectionOpened", "AttemptSucceeded", "CallSucceeded"):
        assert f"'termai_event': '{event}'" in told
    for secret, name in ((KEY, "key"), (PROMPT, "prompt")):
        for leak in (
            lambda text: logging.getLogger("any").debug(text),
            lambda text: logging.getLogger("any").debug("%.2s", text),
            lambda text: logging.getLogger("any").debug("none", extra={"termai_model": text}),
            lambda text: logging.getLogger("any").debug("none", exc_info=ValueError(text)),
        ):
            with Bench(TermaiDriver()) as bench:
                leak(secret)
            assert bench.flaws == [f"the {name} stands in the logs"]


def test_the_catalogue_is_complete() -> None:
    """Every row of the catalogue is there, F01 to F88."""
    assert [row.number for row in ROWS] == [f"F{number:02}" for number in range(1, 89)]
