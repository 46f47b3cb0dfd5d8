"""The catalogue of faults, played on real sockets; ``docs/faults.rst`` is the table of it."""

from __future__ import annotations

import sys

import pytest

from tests.faults import catalogue
from tests.faults.drivers import TermaiDriver
from tests.faults.harness import Bench, Row

ROWS = catalogue.rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number}-{row.play.__name__}")
def test_fault(row: Row) -> None:
    """A fault ends as promised, in time, with all given back and neither key nor prompt shown."""
    if row.linux and sys.platform != "linux":
        pytest.skip("this fault can be produced on Linux only")
    with Bench(TermaiDriver()) as bench:
        row.play(bench)
    assert bench.flaws == []


def test_the_catalogue_is_complete() -> None:
    """Every row of the catalogue is there, F01 to F88."""
    assert [row.number for row in ROWS] == [f"F{number:02}" for number in range(1, 89)]
